//! `/eviction` of pods: the budget is spent first, in a write of its own that loses to any other, then the pod deleted.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use svcd_api::eviction::{BUDGETS, Verdict, delete_options, judge};
use svcd_store::{ListRequest, Record};

use crate::body;
use crate::call::Call;
use crate::delete::DeleteOptions;
use crate::errors::Failure;
use crate::query::WriteOptions;
use crate::record;
use crate::represent::value_response;
use crate::resources::Resource;
use crate::server::ApiServer;
use crate::write::{ATTEMPTS, Miss};

impl ApiServer {
    /// POST of `/eviction`.
    pub(crate) async fn evict(&self, call: &Call, bytes: &Bytes) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::parse(&call.query, "CreateOptions")?;
        let eviction = body::parse_object(&call.headers, bytes)?.value;
        let wanted = delete_options(&eviction, call.target.name())?;
        let mut wanted = DeleteOptions::parse(&call.query, &wanted)?;
        wanted.dry_run |= options.dry_run;
        self.spend_budget(call, wanted.dry_run).await?;
        self.delete_named(call, call.target.namespace(), call.target.name(), &wanted).await?;
        let status =
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        Ok(value_response(StatusCode::CREATED, &status))
    }

    /// Takes one disruption from the budget that the pod falls under, if there is one.
    async fn spend_budget(&self, call: &Call, dry_run: bool) -> Result<(), Failure> {
        let (group, version, plural) = BUDGETS;
        let Some(budgets) = self.resources.find(group, version, plural) else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            let pod = self.existing(call.resource(), call.target.namespace(), call.target.name()).await?;
            let records = self.all_in(budgets, call.target.namespace()).await?;
            let held: Vec<Value> = records.iter().map(|record| record::decode(record)).collect();
            let verdict = judge(&record::decode(&pod), &held, jiff::Timestamp::now())?;
            let Verdict::Spends { budget, after } = verdict else { return Ok(()) };
            match self.put_next(budgets, &records[budget], &held[budget], after, dry_run).await {
                Ok(_) => return Ok(()),
                Err(Miss::Raced(_)) => {}
                Err(Miss::Refused(failure)) => return Err(failure),
            }
        }
        Err(Failure::unavailable("the disruption budget kept changing; try again"))
    }

    /// All objects of a kind in a namespace.
    async fn all_in(&self, resource: &Resource, namespace: &str) -> Result<Vec<Arc<Record>>, Failure> {
        let prefix = resource.prefix(Some(namespace));
        let request = ListRequest { prefix, at: None, start_after: None, limit: 0 };
        let page = self.store.list(request).await?;
        Ok(page.records)
    }
}
