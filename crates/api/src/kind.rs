//! What the API server asks of a kind. The server itself is generic: everything it does differently for one kind than
//! for another stands behind this trait, as pure functions over JSON values.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use crate::addresses::{AddressClaims, AddressRanges, Cluster, Family};
use crate::field::FieldError;
use crate::renamed::Renamed;

/// A subresource that a kind serves under `/{name}/…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// `/status`: writes touch `status` and metadata only.
    Status,
    /// `/scale`: an `autoscaling/v1` Scale.
    Scale,
    /// `/binding`: sets a pod's node.
    Binding,
    /// `/eviction`: deletes a pod if the budgets allow it.
    Eviction,
    /// `/finalize`: writes a namespace's `spec.finalizers`.
    Finalize,
    /// `/token`: signs a token for a ServiceAccount, by an `authentication.k8s.io/v1` TokenRequest.
    Token,
    /// `/approval`: writes touch the verdict in `status` only.
    Approval,
}

/// Names and shape of a kind, as discovery shows them.
#[derive(Debug)]
pub struct KindInfo {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// `Service`.
    pub kind: &'static str,
    /// `services`, as in paths.
    pub plural: &'static str,
    /// `service`.
    pub singular: &'static str,
    /// `svc`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Subresources served.
    pub subresources: &'static [Subresource],
    /// A PUT on a name that does not exist creates it (upstream's `AllowCreateOnUpdate`).
    pub create_on_update: bool,
    /// An update without `resourceVersion` is taken as unconditional (upstream's `AllowUnconditionalUpdate`).
    pub unconditional_update: bool,
}

impl KindInfo {
    /// `v1` or `apps/v1`, as in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// One column of a table (`kubectl get`), as upstream's printers define it.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `date`, `boolean`.
    pub kind: &'static str,
    /// OpenAPI format, `name` for the first column.
    pub format: &'static str,
    /// Help text.
    pub description: &'static str,
    /// 0 always, 1 only with `-o wide`.
    pub priority: i32,
}

/// An object as its kind understands it.
#[derive(Debug)]
pub struct Decoded {
    /// The canonical form: known fields only, `apiVersion` and `kind` set.
    pub object: Value,
    /// Paths of fields that the kind does not have, as upstream writes them: `spec.ports[0].foo`.
    pub unknown: Vec<String>,
}

/// Something of which the cluster has only one, and which an object wants for itself. The API server keeps each
/// granted claim as a key of its own (for an address: as an object of the kind that is [`AddressClaims`]), written in
/// the same transaction as the object, and drops it with the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// An address from the service ranges.
    ServiceIp {
        /// The address asked for, any free one of the family when `None`.
        exact: Option<IpAddr>,
        /// Its family.
        family: Family,
        /// For error messages: `spec.clusterIPs`.
        field: String,
    },
    /// A port from the node-port range.
    NodePort {
        /// The port asked for, any free one when `None`. A number belongs to one object, whatever the protocol.
        exact: Option<u16>,
        /// For error messages: `spec.ports[0].nodePort`.
        field: String,
        /// Ports with the same group share one number (same `port` of one Service, other protocol).
        group: usize,
    },
}

/// What a [`Claim`] was granted, in the order of the claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// For [`Claim::ServiceIp`].
    ServiceIp(IpAddr),
    /// For [`Claim::NodePort`].
    NodePort(u16),
}

/// Who asks for a write.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// The user's name.
    pub name: &'a str,
    /// What tells users of one name apart; may be empty.
    pub uid: &'a str,
    /// The groups.
    pub groups: &'a [String],
    /// What else is known.
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// A write that is about to happen.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Who asks for it.
    pub author: Author<'a>,
    /// The object as it will be.
    pub new: &'a Value,
    /// As it is, unless it is to be created.
    pub old: Option<&'a Value>,
    /// Through which subresource.
    pub subresource: Option<Subresource>,
}

/// A right that a write needs besides the one to make the request: to do `verb` to one at least of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// `approve`.
    pub verb: &'static str,
    /// The group of what it is about.
    pub group: &'static str,
    /// The plural of what it is about; it need not be a kind that is served.
    pub resource: &'static str,
    /// One of these suffices.
    pub names: Vec<String>,
    /// What somebody without the right is told.
    pub refusal: String,
}

/// A kind's behaviour. Every method is pure; `Value`s are canonical objects (see [`Decoded`]) unless stated otherwise.
pub trait Kind: Send + Sync + 'static {
    /// Names and shape.
    fn info(&self) -> &'static KindInfo;

    /// Decodes what a client sent against the kind's type.
    ///
    /// # Errors
    /// A sentence naming the field, the value and the type that was wanted, worded as upstream's decoder does.
    fn decode(&self, raw: Value) -> Result<Decoded, String>;

    /// Fills in what the client left out.
    fn set_defaults(&self, object: &mut Value);

    /// Resets what a client may not set at creation (usually `status`), and fills in what depends on the cluster. What
    /// cannot be had in this cluster is returned, and ends the request before validation.
    fn prepare_create(&self, object: &mut Value, cluster: &Cluster) -> Vec<FieldError>;

    /// Carries over what an update may not touch (`status`, and of the metadata what the client left out or never
    /// decides), keeps what was allocated before, and raises `metadata.generation` when the wanted state changed.
    /// Returns errors as [`Kind::prepare_create`] does.
    fn prepare_update(&self, new: &mut Value, old: &Value, cluster: &Cluster) -> Vec<FieldError>;

    /// As `prepare_update` for a subresource that is a part of the object (`/status`, `/approval`): everything but what
    /// may be written there and some metadata is taken from `old`.
    fn prepare_part(&self, part: Subresource, new: &mut Value, old: &Value, now: Timestamp);

    /// Everything wrong with an object, or with the change from `old` to it. Checks metadata too (names, labels,
    /// annotations, finalizers, owner references, and that `uid`, `name`, `creationTimestamp` do not change).
    fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError>;

    /// As `validate`, for a part of the object.
    fn validate_part(&self, part: Subresource, new: &Value, old: &Value) -> Vec<FieldError>;

    /// What the author of a valid write should know, though it is no error.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Why nobody should use this kind any more; said with every answer about it.
    fn deprecation(&self) -> Option<&'static str> {
        None
    }

    /// Writes into a new object who made it, where the kind keeps that.
    fn set_author(&self, _object: &mut Value, _author: &Author<'_>) {}

    /// What else a valid write needs, if anything.
    ///
    /// # Errors
    /// Why it must not happen, whoever asks for it.
    fn admit(&self, _write: &Write<'_>) -> Result<Option<Right>, String> {
        Ok(None)
    }

    /// When the objects of this kind are another kind's under other names: how to get from the one to the other.
    fn renamed(&self) -> Option<&Renamed> {
        None
    }

    /// The fields that field selectors of this kind may name besides `metadata.name` and `metadata.namespace`, with the
    /// object's values.
    fn selectable_fields(&self, object: &Value) -> Vec<(&'static str, String)>;

    /// The names of [`Kind::selectable_fields`].
    fn selectable_field_names(&self) -> &'static [&'static str];

    /// The columns of its table.
    fn columns(&self) -> &'static [Column];

    /// One table row, a cell for each column. Ages are relative to `now`.
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value>;

    /// A kind whose objects are questions: they are created, answered and never stored.
    fn is_virtual(&self) -> bool {
        false
    }

    /// Does a DELETE that takes effect at once answer the object, rather than a `Status`? Typed clients take only what
    /// upstream answers for the kind.
    fn returns_deleted(&self) -> bool {
        false
    }

    /// What the object wants exclusively. What it holds already is listed with its exact value.
    fn claims(&self, _object: &Value) -> Vec<Claim> {
        Vec::new()
    }

    /// Writes granted claims into the object.
    fn grant(&self, _object: &mut Value, _grants: &[Grant]) {}

    /// Of a kind whose objects are claims of addresses: what it can do as such.
    fn address_claims(&self) -> Option<&'static dyn AddressClaims> {
        None
    }

    /// Of a kind whose objects are ranges of addresses: what it can do as such.
    fn address_ranges(&self) -> Option<&'static dyn AddressRanges> {
        None
    }

    /// For graceful deletion: how many seconds the object gets after a DELETE that names none; `None` deletes at once.
    fn deletion_grace_seconds(&self, _object: &Value) -> Option<i64> {
        None
    }

    /// The merge keys of strategic merge patches: for the list at a dotted path without indices (`spec.ports`), the
    /// fields that identify an element; an empty slice for a list of primitives that is merged as a set; `None` when
    /// the list is replaced whole.
    fn merge_keys(&self, path: &str) -> Option<&'static [&'static str]>;
}
