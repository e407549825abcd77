//! Query parameters, and from them the options of lists, watches and writes, checked as upstream checks them.

use std::time::Duration;

use serde_json::Value;
use svcd_api::field::FieldError;
use svcd_store::Revision;

use crate::errors::Failure;

/// The decoded parameters of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or("").as_bytes());
        Self(pairs.map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    /// A parameter's first value; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(k, _)| k == name)
    }

    /// A parameter as upstream reads booleans: anything but `0`, `false` in any case and an absent one is
    /// true.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let (_, value) = self.0.iter().find(|(k, _)| k == name)?;
        Some(value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse::<i64>().map_err(|_| {
            Failure::bad_request(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax (parameter {name})"
            ))
        })?;
        Ok(Some(number))
    }
}

/// From which state on a list or a watch is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// The newest state.
    Latest,
    /// Any state will do.
    Any,
    /// This one, or (for lists) as [`Match`] says.
    At(Revision),
}

impl Since {
    fn parse(text: Option<&str>) -> Result<Self, Failure> {
        match text {
            None => Ok(Self::Latest),
            Some("0") => Ok(Self::Any),
            Some(text) => revision(text).map(Self::At),
        }
    }
}

/// A resourceVersion out of a request.
pub(crate) fn revision(text: &str) -> Result<Revision, Failure> {
    text.parse().map(Revision).map_err(|_| {
        Failure::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

/// How `resourceVersion` is to be taken by a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    NotOlderThan,
    Exact,
}

/// What lists and watches have in common: `ListOptions`.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) since: Since,
    pub(crate) matching: Option<Match>,
    pub(crate) limit: usize,
    pub(crate) continue_token: Option<String>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) timeout: Option<Duration>,
}

impl ListOptions {
    /// Reads and checks the options of a list, or of a watch.
    pub(crate) fn parse(query: &Query, watch: bool) -> Result<Self, Failure> {
        let errors = if watch { watch_errors(query) } else { list_errors(query) };
        if !errors.is_empty() {
            return Err(Failure::invalid("meta.k8s.io", "ListOptions", "", &errors));
        }
        let timeout = query.number("timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
        Ok(Self {
            label_selector: query.get("labelSelector").unwrap_or("").to_owned(),
            field_selector: query.get("fieldSelector").unwrap_or("").to_owned(),
            since: Since::parse(query.get("resourceVersion"))?,
            matching: match query.get("resourceVersionMatch") {
                Some("Exact") => Some(Match::Exact),
                Some(_) => Some(Match::NotOlderThan),
                None => None,
            },
            limit: query.number("limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            continue_token: query.get("continue").map(str::to_owned),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: query.flag("sendInitialEvents"),
            timeout: timeout.map(Duration::from_secs),
        })
    }
}

const MATCH: &str = "resourceVersionMatch";

fn list_errors(query: &Query) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(matching) = query.get(MATCH) {
        if query.get("resourceVersion").is_none() {
            errors.push(FieldError::forbidden(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if query.get("continue").is_some() {
            errors.push(match_with_continue());
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(MATCH, matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && query.get("resourceVersion") == Some("0") {
            errors.push(FieldError::forbidden(
                MATCH,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
    }
    if query.has("sendInitialEvents") {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn watch_errors(query: &Query) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let matching = query.get(MATCH);
    let initial = query.has("sendInitialEvents");
    if initial && matching != Some("NotOlderThan") {
        errors.push(FieldError::forbidden(
            MATCH,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if let Some(matching) = matching {
        if !initial {
            errors.push(FieldError::forbidden(
                MATCH,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        if matching != "NotOlderThan" {
            errors.push(FieldError::not_supported(MATCH, matching, &["NotOlderThan"]));
        }
        if query.get("continue").is_some() {
            errors.push(match_with_continue());
        }
    }
    errors
}

fn match_with_continue() -> FieldError {
    FieldError::forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided")
}

/// What happens to fields that a kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// The options of creates, updates and patches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_validation: FieldValidation,
}

impl WriteOptions {
    /// Reads and checks the options; `kind` is the name that upstream gives them in messages.
    pub(crate) fn parse(query: &Query, kind: &'static str) -> Result<Self, Failure> {
        let validation = match query.get("fieldValidation") {
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some("Warn") | None => FieldValidation::Warn,
            Some(other) => {
                let error =
                    FieldError::not_supported("fieldValidation", other, &["Ignore", "Strict", "Warn"]);
                return Err(Failure::invalid("meta.k8s.io", kind, "", &[error]));
            }
        };
        Ok(Self { dry_run: dry_run(query.all("dryRun"))?, field_validation: validation })
    }
}

/// Is this a dry run? `All` is the only stage there is.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, Failure> {
    let mut dry = false;
    for value in values {
        if value != "All" {
            let shown = Value::from(vec![value]);
            return Err(Failure::bad_request(format!(
                "dryRun: Unsupported value: {shown}: supported values: \"All\""
            )));
        }
        dry = true;
    }
    Ok(dry)
}
