//! What a write needs besides the right to make it, as its kind says.

use serde_json::Value;
use svcd_api::kind::{Right, Write};

use super::{Asked, Objects};
use crate::call::Call;
use crate::errors::Failure;
use crate::metadata;
use crate::server::ApiServer;

impl ApiServer {
    /// Holds a valid write against its kind's conditions, and its author's rights against those that it needs.
    pub(crate) async fn check_admission(
        &self,
        call: &Call,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<(), Failure> {
        let resource = call.resource();
        let write = Write { author: call.user.author(), new, old, subresource: call.target.subresource };
        let forbidden = |why: &str| Failure::forbidden(resource.info, metadata::text(new, "name"), why);
        match resource.kind.admit(&write) {
            Err(why) => Err(forbidden(&why)),
            Ok(Some(right)) if !self.holds(call, &right).await => Err(forbidden(&right.refusal)),
            Ok(_) => Ok(()),
        }
    }

    async fn holds(&self, call: &Call, right: &Right) -> bool {
        let Right { verb, group, resource, names, .. } = right;
        for name in names {
            let asked = Objects { verb, group, resource, name, ..Objects::default() };
            if self.decide(&call.user, &Asked::Objects(asked)).await.is_allowed() {
                return true;
            }
        }
        false
    }
}
