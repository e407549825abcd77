//! Which objects of a kind a request is about: its place and its selectors, decided on the key and the side data of a
//! record without reading the object.

use svcd_api::selector::{FieldSelector, LabelSelector};
use svcd_store::Record;

use crate::errors::Failure;
use crate::query::ListOptions;
use crate::record::SideData;
use crate::resources::Resource;
use crate::route::Target;

const NAME: &str = "metadata.name";
const NAMESPACE: &str = "metadata.namespace";

/// A prefix and selectors.
pub(crate) struct Filter {
    /// What the keys begin with.
    pub(crate) prefix: String,
    /// The one name that is asked for by path or as `metadata.name=…`.
    name: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    selects: bool,
}

impl Filter {
    pub(crate) fn new(target: &Target, options: &ListOptions) -> Result<Self, Failure> {
        let resource = &target.resource;
        let labels: LabelSelector =
            options.label_selector.parse().map_err(|why| unable(resource, options, &format!("{why}")))?;
        let fields: FieldSelector =
            options.field_selector.parse().map_err(|why| unable(resource, options, &format!("{why}")))?;
        let known = resource.kind.selectable_field_names();
        let is_known = |field: &str| field == NAME || field == NAMESPACE || known.contains(&field);
        if let Some(unknown) = fields.terms().iter().map(|t| t.field.as_str()).find(|f| !is_known(f)) {
            return Err(unable(resource, options, &format!("field label not supported: {unknown}")));
        }
        let name = target.name.as_deref().or_else(|| fields.required(NAME)).map(str::to_owned);
        // The narrower the prefix, the fewer writes wake a watcher.
        let prefix = match (&name, &target.namespace) {
            (Some(name), Some(namespace)) => resource.key(namespace, name),
            (Some(name), None) if !resource.info.namespaced => resource.key("", name),
            (_, namespace) => resource.prefix(namespace.as_deref()),
        };
        Ok(Self {
            prefix,
            selects: name.is_some() || !labels.is_empty() || !fields.is_empty(),
            name,
            labels,
            fields,
        })
    }

    /// Does it leave anything out?
    pub(crate) fn selects(&self) -> bool {
        self.selects
    }

    pub(crate) fn matches(&self, resource: &Resource, record: &Record) -> bool {
        if !self.selects {
            return true;
        }
        let (namespace, name) = resource.names(&record.key);
        if self.name.as_deref().is_some_and(|wanted| wanted != name) {
            return false;
        }
        let side = SideData::of(record);
        let names = resource.kind.selectable_field_names();
        let field = |wanted: &str| match wanted {
            NAME => Some(name),
            NAMESPACE => Some(namespace),
            _ => names.iter().position(|n| *n == wanted).and_then(|at| side.field(at)),
        };
        self.labels.matches_with(|key| side.label(key)) && self.fields.matches(field)
    }
}

fn unable(resource: &Resource, options: &ListOptions, why: &str) -> Failure {
    Failure::bad_request(format!(
        "Unable to find \"{}, Resource={}\" that match label selector {:?}, field selector {:?}: {why}",
        group_version(resource),
        resource.info.plural,
        options.label_selector,
        options.field_selector,
    ))
}

/// `/v1`, `apps/v1`: upstream writes the core group with its empty name.
fn group_version(resource: &Resource) -> String {
    format!("{}/{}", resource.info.group, resource.info.version)
}
