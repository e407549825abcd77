//! Claims as older versions kept them: addresses in keys of their own, node ports once for each protocol. They are
//! brought into today's form at the start, before anything is served; what has been done is not done again.

use std::collections::HashSet;

use svcd_store::{ListRequest, Op, Record, Txn};

use super::keys::{Keys, PORTS, Thing, named_owner};
use crate::errors::Failure;
use crate::record;
use crate::server::ApiServer;

const ADDRESSES: &str = "/claims/service-ip/";
/// How many claims are moved in one transaction.
const AT_ONCE: usize = 500;

impl ApiServer {
    /// Moves what stands in an old place.
    pub(crate) async fn migrate_claims(&self) -> Result<(), Failure> {
        let addresses = self.claims_below(ADDRESSES).await?;
        let ports = self.claims_below(PORTS).await?;
        let old: Vec<_> = addresses
            .into_iter()
            .chain(ports)
            .filter_map(|claim| Some((former(&claim.key)?, claim)))
            .collect();
        for some in old.chunks(AT_ONCE) {
            let txn = self.moving(some).await?;
            self.store.commit(txn).await?;
        }
        if !old.is_empty() {
            tracing::info!(claims = old.len(), "claims of an older version were brought into today's form");
        }
        Ok(())
    }

    async fn claims_below(&self, prefix: &str) -> Result<Vec<std::sync::Arc<Record>>, Failure> {
        let request = ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
        Ok(self.store.list(request).await?.records)
    }

    async fn moving(&self, old: &[(Thing, std::sync::Arc<Record>)]) -> Result<Txn, Failure> {
        let keys = Keys::of(self);
        let (mut txn, mut moved) = (Txn::default(), HashSet::new());
        for (thing, claim) in old {
            txn.ops.push(Op::Delete { key: claim.key.to_string(), last: None });
            // Of two that held one number for two protocols, the first keeps the claim; both keep the port.
            let is_new = moved.insert(*thing) && self.store.get(&keys.key(*thing)).await?.is_none();
            if is_new {
                txn.ops.push(keys.put(*thing, named_owner(&record::decode(claim))));
            }
        }
        Ok(txn)
    }
}

/// What a key of an older version claims.
fn former(key: &str) -> Option<Thing> {
    if let Some(address) = key.strip_prefix(ADDRESSES) {
        return address.parse().ok().map(Thing::Address);
    }
    let (_protocol, port) = key.strip_prefix(PORTS)?.split_once('/')?;
    port.parse().ok().map(Thing::Port)
}
