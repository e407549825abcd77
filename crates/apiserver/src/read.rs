//! Get and list. A list stands on one revision over all its pages; its body is spliced together from stored bytes, a
//! chunk at a time, so that a big one is never in memory twice.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::stream;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use svcd_store::{ListRequest, ReadError, Record, Revision};

use crate::call::Call;
use crate::errors::Failure;
use crate::filter::Filter;
use crate::query::{ListOptions, Match, Since, revision};
use crate::represent::{View, json_response};
use crate::resources::Resource;
use crate::server::ApiServer;

/// How long a read waits for a revision that the store has not reached.
const FUTURE_WAIT: Duration = Duration::from_secs(3);
const FUTURE_POLL: Duration = Duration::from_millis(20);
/// How much of a list is put into one chunk: TLS takes 64 KiB at once, and this with its last record is two of them.
const CHUNK: usize = 124 * 1024;

const CONTINUE_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. \
You can start a new list without the continue parameter, or use the continue token in this response to retrieve the \
remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
const LIST_TOO_OLD: &str = "The resourceVersion for the provided list is too old.";

impl ApiServer {
    /// GET of one object.
    pub(crate) async fn get(&self, call: &Call) -> Result<Response<Body>, Failure> {
        let target = &call.target;
        let view = View::new(&target.resource, call.form, &call.query)?;
        if let Some(text) = call.query.get("resourceVersion") {
            self.reach(revision(text)?).await?;
        }
        let record = self.existing(&target.resource, target.namespace(), target.name()).await?;
        Ok(view.record(StatusCode::OK, &record))
    }

    /// The newest record of an object, or 404.
    pub(crate) async fn existing(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Record>, Failure> {
        let record = self.store.get(&resource.key(namespace, name)).await?;
        record.ok_or_else(|| Failure::not_found(resource.info, name))
    }

    /// Waits a little until the store has reached a revision.
    pub(crate) async fn reach(&self, wanted: Revision) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + FUTURE_WAIT;
        while self.store.revision() < wanted {
            if tokio::time::Instant::now() >= deadline {
                return Err(Failure::too_large_revision(wanted, self.store.revision()));
            }
            tokio::time::sleep(FUTURE_POLL).await;
        }
        Ok(())
    }

    /// GET of a collection.
    pub(crate) async fn list(&self, call: &Call) -> Result<Response<Body>, Failure> {
        let options = ListOptions::parse(&call.query, false)?;
        let filter = Filter::new(&call.target, &options)?;
        let view = View::new(&call.target.resource, call.form, &call.query)?;
        let found = self.find(&call.target.resource, &filter, &options).await?;
        let head = view.list_head(&found.metadata());
        let resource = Arc::clone(&call.target.resource);
        let (form, include) = (view.form, view.include);
        let body = spliced(head, found.records, move |out, record| {
            View { resource: &resource, form, include }.write_item(out, &record.value);
        });
        Ok(json_response(StatusCode::OK, &form.content_type(), body))
    }

    /// The objects that a list's options ask for.
    pub(crate) async fn find(
        &self,
        resource: &Resource,
        filter: &Filter,
        options: &ListOptions,
    ) -> Result<Found, Failure> {
        let start = self.list_start(resource, filter, options).await?;
        let mut request = ListRequest {
            prefix: filter.prefix.clone(),
            at: start.at,
            start_after: start.after,
            limit: options.limit,
        };
        let mut records: Vec<Arc<Record>> = Vec::new();
        loop {
            let page = self.store.list(request.clone()).await.map_err(|e| start.why.explain(e, &request))?;
            let end = page.records.last().map(|r| r.key.to_string());
            let room = if options.limit == 0 { usize::MAX } else { options.limit - records.len() };
            records.extend(page.records.into_iter().filter(|r| filter.matches(resource, r)).take(room));
            let full = options.limit > 0 && records.len() >= options.limit;
            if full || page.remaining == 0 {
                // A full list goes on after its own last record, which need not be the page's.
                let last = records.last().map(|r| r.key.to_string()).filter(|_| full);
                let next = last.filter(|last| page.remaining > 0 || end.as_ref() != Some(last));
                let token = next.map(|key| Token::new(Some(page.revision), &key, &filter.prefix).encode());
                let remaining = Some(page.remaining).filter(|n| *n > 0 && !filter.selects());
                return Ok(Found { records, revision: page.revision, token, remaining });
            }
            request.at = Some(page.revision);
            request.start_after = end;
        }
    }

    /// Which state to list, and after which key.
    async fn list_start(
        &self,
        _: &Resource,
        filter: &Filter,
        options: &ListOptions,
    ) -> Result<Start, Failure> {
        if let Some(token) = &options.continue_token {
            if matches!(options.since, Since::At(_)) {
                return Err(Failure::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = Token::decode(token)?;
            let after = Some(format!("{}{}", filter.prefix, token.start));
            return Ok(Start { at: token.revision(), after, why: Why::Continue });
        }
        let Since::At(wanted) = options.since else {
            return Ok(Start { at: None, after: None, why: Why::Newest });
        };
        self.reach(wanted).await?;
        // Without a match, a limit makes a revision exact: the way lists were continued before tokens.
        let exact =
            options.matching.unwrap_or(if options.limit > 0 { Match::Exact } else { Match::NotOlderThan });
        let at = (exact == Match::Exact).then_some(wanted);
        Ok(Start { at, after: None, why: Why::Revision })
    }
}

struct Start {
    at: Option<Revision>,
    after: Option<String>,
    why: Why,
}

/// What the revision of a list came from, for the error when it is gone.
#[derive(Clone, Copy)]
enum Why {
    Newest,
    Revision,
    Continue,
}

impl Why {
    fn explain(self, error: ReadError, request: &ListRequest) -> Failure {
        match (self, error) {
            (Self::Continue, ReadError::Compacted { .. }) => {
                let start = request.start_after.as_deref().unwrap_or_default();
                let token = Token::new(None, start, &request.prefix);
                Failure::expired(CONTINUE_TOO_OLD).with_continue(token.encode())
            }
            (_, ReadError::Compacted { .. }) => Failure::expired(LIST_TOO_OLD),
            (_, error) => error.into(),
        }
    }
}

/// What a list found.
pub(crate) struct Found {
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) revision: Revision,
    token: Option<String>,
    remaining: Option<usize>,
}

impl Found {
    /// The list's `metadata`.
    pub(crate) fn metadata(&self) -> Value {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".to_owned(), self.revision.to_string().into());
        if let Some(token) = &self.token {
            metadata.insert("continue".to_owned(), token.as_str().into());
        }
        if let Some(remaining) = self.remaining {
            metadata.insert("remainingItemCount".to_owned(), remaining.into());
        }
        Value::Object(metadata)
    }
}

/// A `continue` token: opaque to clients, the same fields as upstream's.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    /// The revision of the list's first page; -1 to go on with the newest state.
    rv: i64,
    /// The last key of the page, without the prefix.
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Token {
    fn new(at: Option<Revision>, key: &str, prefix: &str) -> Self {
        Self {
            v: TOKEN_VERSION.to_owned(),
            rv: at.and_then(|r| i64::try_from(r.0).ok()).unwrap_or(-1),
            start: key.strip_prefix(prefix).unwrap_or(key).to_owned(),
        }
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a token is plain JSON"))
    }

    fn decode(text: &str) -> Result<Self, Failure> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let token = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let why = match &token {
            None => "it is not a token of this server",
            Some(token) if token.v != TOKEN_VERSION => "server does not recognize this encoded version",
            Some(token) if token.rv == 0 => {
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"
            }
            Some(token) if token.start.is_empty() => "encoded start key empty (version meta.k8s.io/v1)",
            Some(_) => "",
        };
        token.filter(|_| why.is_empty()).ok_or_else(|| {
            Failure::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        })
    }

    fn revision(&self) -> Option<Revision> {
        u64::try_from(self.rv).ok().map(Revision)
    }
}

/// `head` + the records, comma between them + `]}`, in chunks.
pub(crate) fn spliced(
    head: String,
    records: Vec<Arc<Record>>,
    write: impl Fn(&mut Vec<u8>, &Record) + Send + 'static,
) -> Body {
    let mut head = Some(head.into_bytes());
    let mut records = records.into_iter();
    let mut done = false;
    let mut next = move || {
        if done {
            return None;
        }
        let first = head.is_some();
        let mut out = head.take().unwrap_or_default();
        if !first {
            // A list that is longer than one chunk: so will this one be, and its last record reaches beyond.
            out.reserve(CHUNK + CHUNK / 4);
        }
        let mut separate = !first;
        loop {
            let Some(record) = records.next() else {
                done = true;
                out.extend_from_slice(b"]}");
                return Some((out, true));
            };
            if std::mem::replace(&mut separate, true) {
                out.push(b',');
            }
            write(&mut out, &record);
            if out.len() >= CHUNK {
                return Some((out, false));
            }
        }
    };
    match next() {
        Some((out, false)) => {
            let rest = std::iter::once(out).chain(std::iter::from_fn(move || next().map(|(out, _)| out)));
            Body::from_stream(stream::iter(rest.map(Ok::<_, std::convert::Infallible>)))
        }
        Some((out, true)) => Body::from(out),
        None => Body::empty(),
    }
}
