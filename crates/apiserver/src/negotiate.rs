//! Content negotiation: which of our representations a client's `Accept` header prefers. We speak JSON; a client that
//! would also take protobuf gets JSON when it lists JSON or `*/*` as well, else 406.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::errors::Failure;

/// The version of `meta.k8s.io` in which a table or a metadata-only object is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        }
    }
}

/// In which form objects are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects themselves.
    Whole,
    /// `as=Table`.
    Table(MetaVersion),
    /// `as=PartialObjectMetadata` or `PartialObjectMetadataList`.
    Metadata(MetaVersion),
}

impl Form {
    /// The `Content-Type` of the answer. Clients look only at the media type here.
    pub(crate) fn content_type(self) -> String {
        match self {
            Self::Whole => "application/json".to_owned(),
            Self::Table(v) => format!("application/json;as=Table;g=meta.k8s.io;v={}", v.name()),
            Self::Metadata(_) => "application/json".to_owned(),
        }
    }
}

/// One clause of an `Accept` header.
struct Clause<'a> {
    media_type: &'a str,
    params: Vec<(&'a str, &'a str)>,
}

impl Clause<'_> {
    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    fn takes_json(&self) -> bool {
        matches!(self.media_type, "application/json" | "application/*" | "*/*")
    }
}

/// The clauses, best first.
fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<(f32, Clause<'_>)> = header
        .split(',')
        .filter_map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media_type = parts.next().filter(|t| !t.is_empty())?;
            let params: Vec<_> = parts.filter_map(|p| p.split_once('=')).collect();
            let quality = params.iter().find(|(n, _)| *n == "q").and_then(|(_, q)| q.parse().ok());
            Some((quality.unwrap_or(1.0), Clause { media_type, params }))
        })
        .filter(|(quality, _)| *quality > 0.0)
        .collect();
    clauses.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    clauses.into_iter().map(|(_, clause)| clause).collect()
}

fn accept(headers: &HeaderMap) -> String {
    let values: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    if values.is_empty() { "*/*".to_owned() } else { values.join(",") }
}

/// The form in which objects are wanted.
pub(crate) fn form(headers: &HeaderMap) -> Result<Form, Failure> {
    let header = accept(headers);
    clauses(&header)
        .iter()
        .find_map(form_of)
        .ok_or_else(|| Failure::not_acceptable(&["application/json", "application/json;stream=watch"]))
}

fn form_of(clause: &Clause<'_>) -> Option<Form> {
    if !clause.takes_json() {
        return None;
    }
    let Some(wanted) = clause.param("as") else { return Some(Form::Whole) };
    let version = match (clause.param("g"), clause.param("v")) {
        (Some("meta.k8s.io"), Some("v1")) => MetaVersion::V1,
        (Some("meta.k8s.io"), Some("v1beta1")) => MetaVersion::V1Beta1,
        _ => return None,
    };
    match wanted {
        "Table" => Some(Form::Table(version)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Form::Metadata(version)),
        _ => None,
    }
}

/// The form in which `/api` and `/apis` are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DiscoveryForm {
    /// One list of groups.
    Plain,
    /// Everything at once, `apidiscovery.k8s.io/v2`.
    AggregatedV2,
    /// The same as `v2beta1`, for kubectl 1.26 to 1.29.
    AggregatedV2Beta1,
}

/// The form in which discovery is wanted.
pub(crate) fn discovery_form(headers: &HeaderMap) -> Result<DiscoveryForm, Failure> {
    let header = accept(headers);
    let form = |clause: &Clause<'_>| {
        if !clause.takes_json() {
            return None;
        }
        match (clause.param("as"), clause.param("g"), clause.param("v")) {
            (None, _, _) => Some(DiscoveryForm::Plain),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
                Some(DiscoveryForm::AggregatedV2)
            }
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
                Some(DiscoveryForm::AggregatedV2Beta1)
            }
            _ => None,
        }
    };
    clauses(&header).iter().find_map(form).ok_or_else(|| Failure::not_acceptable(&["application/json"]))
}

/// Is OpenAPI v2 wanted in protobuf?
pub(crate) fn wants_protobuf(headers: &HeaderMap) -> bool {
    let header = accept(headers);
    clauses(&header)
        .first()
        .is_some_and(|first| first.media_type.starts_with("application/com.github.proto-openapi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form_for(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        form(&headers).ok()
    }

    #[test]
    fn kubectl_get_is_given_a_table() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(form_for(accept), Some(Form::Table(MetaVersion::V1)));
    }

    #[test]
    fn protobuf_falls_back_to_json_only_when_json_is_taken_too() {
        assert_eq!(form_for("application/vnd.kubernetes.protobuf, */*"), Some(Form::Whole));
        assert_eq!(form_for("application/vnd.kubernetes.protobuf,application/json"), Some(Form::Whole));
        assert_eq!(form_for("application/vnd.kubernetes.protobuf"), None);
    }

    #[test]
    fn metadata_only_is_recognised_and_unknown_shapes_are_skipped() {
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(form_for(metadata), Some(Form::Metadata(MetaVersion::V1)));
        assert_eq!(form_for("application/json;as=Poem;g=meta.k8s.io;v=v1"), None);
        assert_eq!(form_for("application/json;as=Poem;g=x;v=v1,application/json"), Some(Form::Whole));
    }

    #[test]
    fn quality_decides_before_position() {
        let accept = "application/json;q=0.5,application/json;as=Table;v=v1;g=meta.k8s.io;q=0.9";
        assert_eq!(form_for(accept), Some(Form::Table(MetaVersion::V1)));
    }

    #[test]
    fn discovery_is_aggregated_when_it_is_asked_for() {
        let mut headers = HeaderMap::new();
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer,application/json";
        headers.insert(ACCEPT, accept.parse().unwrap());
        assert_eq!(discovery_form(&headers).unwrap(), DiscoveryForm::AggregatedV2);
        headers.insert(ACCEPT, "application/json".parse().unwrap());
        assert_eq!(discovery_form(&headers).unwrap(), DiscoveryForm::Plain);
    }
}
