//! Typed objects and their JSON. Reading and writing a type is generated code, and a lot of it; the functions here are not
//! generic, so that each type has one reader and one writer in the whole binary, whoever calls them.
//!
//! Reading is the lenient side of this crate's decoder: a null is as good as nothing, and unknown fields are passed over.

use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, ReplicaSetStatus, StatefulSet,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, Pod, PodStatus, PodTemplateSpec, ReplicationController,
    Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde_json::Value;

use crate::decode;

/// A type with one reader and one writer.
pub trait Json: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// A sentence that names the field, the value and the type that was wanted.
    fn from_json(value: &Value) -> Result<Self, String>;

    /// Writes it as a value.
    fn to_json(&self) -> Value;
}

/// A kind of object that goes over the wire.
pub trait Wire: Json + Resource + Metadata<Ty = ObjectMeta> + Clone + Send + Sync + 'static {}

impl<T: Json + Resource + Metadata<Ty = ObjectMeta> + Clone + Send + Sync + 'static> Wire for T {}

macro_rules! json {
    ($($type:ty),+ $(,)?) => {$(
        impl Json for $type {
            #[inline(never)]
            fn from_json(value: &Value) -> Result<Self, String> {
                decode::typed(value).map(|typed| typed.object).map_err(|error| error.to_string())
            }

            #[inline(never)]
            fn to_json(&self) -> Value {
                serde_json::to_value(self).expect("API types serialise to JSON: their map keys are strings")
            }
        }
    )+};
}

json!(
    CertificateSigningRequest,
    ConfigMap,
    ControllerRevision,
    DaemonSet,
    Deployment,
    EndpointSlice,
    Endpoints,
    Event,
    IPAddress,
    Lease,
    Namespace,
    Node,
    Pod,
    PodDisruptionBudget,
    PodStatus,
    PodTemplateSpec,
    ReplicaSet,
    ReplicaSetStatus,
    ReplicationController,
    Secret,
    Service,
    ServiceAccount,
    ServiceCIDR,
    StatefulSet,
);
