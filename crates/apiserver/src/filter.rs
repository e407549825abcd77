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
        check_fields(resource, &fields)?;
        let selected = fields.required(NAME);
        if target.name.is_some() && !fields.is_empty() && selected != target.name.as_deref() {
            return Err(Failure::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        let name = target.name.as_deref().or(selected).map(str::to_owned);
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

/// Can objects of this kind be selected by these fields?
fn check_fields(resource: &Resource, fields: &FieldSelector) -> Result<(), Failure> {
    let known = resource.kind.selectable_field_names();
    let is_known = |field: &str| field == NAME || field == NAMESPACE || known.contains(&field);
    let Some(unknown) = fields.terms().iter().map(|t| t.field.as_str()).find(|f| !is_known(f)) else {
        return Ok(());
    };
    Err(Failure::bad_request(if known.is_empty() {
        format!("{unknown:?} is not a known field selector: only {NAME:?}, {NAMESPACE:?}")
    } else {
        format!("field label not supported: {unknown}")
    }))
}

/// The one name that a field selector asks for, if it can be a name at all.
pub(crate) fn selected_name(selector: &str) -> Option<String> {
    let fields: FieldSelector = selector.parse().ok()?;
    let name = fields.required(NAME)?;
    let fits = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%']);
    fits.then(|| name.to_owned())
}
