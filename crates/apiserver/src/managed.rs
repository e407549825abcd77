//! `metadata.managedFields` on the way of a write: who writes, and what the write does to who manages what. The rules
//! are `svcd_api::apply`'s.

use http::header::USER_AGENT;
use serde_json::Value;
use svcd_api::apply::{self, Managers, Operation, Scope, Writer};
use svcd_api::kind::Subresource;

use crate::call::Call;
use crate::metadata;
use crate::resources::Resource;
use crate::route::subresource_name;

/// The writer where a client names none, not even in its user agent: our own controllers and agents.
const UNNAMED: &str = "svcd";
/// Longest name of a manager.
const LONGEST: usize = 128;

/// How a write comes to its managers.
#[derive(Clone, Debug)]
pub(crate) enum Managing {
    /// The writer manages what it changes.
    Track(Writer),
    /// They have been decided with the object: a server-side apply.
    Applied(Managers),
}

impl Managing {
    /// An update or a create by a client.
    pub(crate) fn by(call: &Call) -> Self {
        Self::Track(writer(call, Operation::Update))
    }

    /// A write of the server's own.
    pub(crate) fn by_server(resource: &Resource) -> Self {
        Self::Track(Writer {
            manager: UNNAMED.to_owned(),
            operation: Operation::Update,
            api_version: resource.api_version.clone(),
            subresource: String::new(),
            time: metadata::timestamp(jiff::Timestamp::now()),
        })
    }

    /// Writes the managers into a new version. `sent` is what the client had there.
    pub(crate) fn settle(&self, scope: Scope<'_>, old: &Value, new: &mut Value, sent: Option<&Value>) {
        let stored = old["metadata"].get("managedFields");
        if matches!(self, Self::Track(_)) && sent.is_none_or(|sent| Some(sent) == stored) && new == old {
            return;
        }
        let managers = match self {
            Self::Track(writer) => {
                apply::track(scope, old, new, Managers::sent(sent, stored), writer).to_value()
            }
            Self::Applied(managers) => {
                let before = stored.and_then(Managers::from_value).unwrap_or_default();
                let same = managers.is_same_but_for_times(&before) && is_same_otherwise(old, new);
                if same { stored.cloned() } else { managers.to_value() }
            }
        };
        let metadata = metadata::of(new);
        match managers {
            Some(managers) => metadata.insert("managedFields".to_owned(), managers),
            None => metadata.remove("managedFields"),
        };
    }
}

/// The same object but for its managers?
fn is_same_otherwise(old: &Value, new: &Value) -> bool {
    let members = |object: &Value| {
        let mut object = object.clone();
        metadata::of(&mut object).remove("managedFields");
        object
    };
    members(old) == members(new)
}

/// Who makes this call.
pub(crate) fn writer(call: &Call, operation: Operation) -> Writer {
    let agent = call.headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let agent = agent.split('/').next().filter(|name| !name.is_empty()).unwrap_or(UNNAMED);
    let manager = call.query.get("fieldManager").unwrap_or(agent).chars().take(LONGEST).collect();
    Writer {
        manager,
        operation,
        api_version: call.resource().api_version.clone(),
        subresource: call.target.subresource.map_or("", subresource_name).to_owned(),
        time: metadata::timestamp(jiff::Timestamp::now()),
    }
}

/// What a write through this subresource is about.
pub(crate) fn scope(resource: &Resource, subresource: Option<Subresource>) -> Scope<'_> {
    Scope {
        info: resource.info,
        subresource: subresource.map_or("", subresource_name),
        has_status: resource.serves(Subresource::Status),
    }
}
