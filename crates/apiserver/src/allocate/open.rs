//! The ranges that addresses may be taken from now, and the range that a cluster begins with.

use ipnet::IpNet;
use serde_json::Value;
use svcd_api::addresses::Family;
use svcd_store::{Expect, ListRequest};

use super::ranges::Usable;
use crate::create::Creation;
use crate::errors::Failure;
use crate::managed::Managing;
use crate::record;
use crate::server::ApiServer;

/// A range, and the state of the object that opens it: an address is only taken while that stands.
pub(super) struct OpenRange {
    pub(super) range: IpNet,
    pub(super) usable: Usable,
    pub(super) family: Family,
    pub(super) stands: (String, Expect),
}

impl ApiServer {
    /// The open ranges; those that the cluster was set up with come first, the others follow by name.
    pub(super) async fn open_ranges(&self) -> Result<Vec<OpenRange>, Failure> {
        let (resource, ranges) = self.resources.address_ranges();
        let request = ListRequest { prefix: resource.prefix(None), ..ListRequest::default() };
        let mut objects = self.store.list(request).await?.records;
        let usual = resource.key("", ranges.usual_name());
        objects.sort_by_key(|record| *record.key != *usual);
        let mut open = Vec::with_capacity(objects.len());
        for object in &objects {
            let stands = (object.key.to_string(), Expect::At(object.modified));
            open.extend(ranges.open(&record::decode(object)).iter().map(|range: &IpNet| OpenRange {
                range: *range,
                usable: Usable::of(range),
                family: Family::of(range.addr()),
                stands: stands.clone(),
            }));
        }
        Ok(open)
    }

    /// Makes the range that the server is configured with, unless there is one of its name.
    pub(crate) async fn ensure_usual_range(&self) -> Result<(), Failure> {
        let (resource, ranges) = self.resources.address_ranges();
        if self.store.get(&resource.key("", ranges.usual_name())).await?.is_some() {
            return Ok(());
        }
        let object: Value = ranges.usual(&self.config.service_cidrs);
        let decoded = resource.kind.decode(object).map_err(Failure::internal)?;
        let managing = Managing::by_server(resource);
        match self.create_named(resource, decoded.object, Creation::by_server(&managing)).await {
            Err(failure) if failure.code() != http::StatusCode::CONFLICT => Err(failure),
            _ => Ok(()),
        }
    }
}
