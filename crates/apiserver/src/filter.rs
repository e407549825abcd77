//! Which objects of a kind a request is about: its place and its selectors, decided on the key and the side data of a
//! record without reading the object.

use svcd_api::selector::{FieldSelector, LabelSelector, ParseError};
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
        let labels: LabelSelector = options
            .label_selector
            .parse()
            .map_err(|why: ParseError| Failure::bad_request(why.to_string()))?;
        let fields: FieldSelector = options
            .field_selector
            .parse()
            .map_err(|why: ParseError| Failure::bad_request(why.to_string()))?;
        let known = resource.kind.selectable_field_names();
        let is_known = |field: &str| field == NAME || field == NAMESPACE || known.contains(&field);
        if let Some(unknown) = fields.terms().iter().map(|t| t.field.as_str()).find(|f| !is_known(f)) {
            return Err(Failure::bad_request(format!("field label not supported: {unknown}")));
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
        let field = |wanted: &str| match wanted {
            NAME => Some(name),
            NAMESPACE => Some(namespace),
            _ => resource.field_at(wanted).and_then(|at| side.field(at)),
        };
        self.labels.matches_with(|key| side.label(key)) && self.fields.matches(field)
    }
}
