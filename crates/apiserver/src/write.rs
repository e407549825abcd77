//! What every write ends in: one transaction with the object, its claims and the state they were decided on. Lost races
//! are told apart from refusals, so that the verbs can look again.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;
use svcd_store::{CommitError, Expect, Op, Record, Txn};

use crate::call::Call;
use crate::errors::Failure;
use crate::metadata;
use crate::negotiate::Form;
use crate::record;
use crate::represent;
use crate::represent::View;
use crate::resources::Resource;
use crate::server::ApiServer;

/// How often a write looks again after losing a race. Of N writers one wins each round, so this is how many may fight
/// over one object before somebody is sent away.
pub(crate) const ATTEMPTS: usize = 256;

/// How a write ended.
#[derive(Debug)]
pub(crate) enum Written {
    /// As this record.
    Stored(Arc<Record>),
    /// It would have been this; nothing was stored (dry run).
    Dry(Value),
}

/// Why a write did not happen.
#[derive(Debug)]
pub(crate) enum Miss {
    /// Somebody else was faster on this key; look again.
    Raced(String),
    /// It must not happen.
    Refused(Failure),
}

impl<E: Into<Failure>> From<E> for Miss {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl ApiServer {
    /// Commits a transaction whose first operation is the object's.
    async fn commit(&self, txn: Txn) -> Result<Option<Arc<Record>>, Miss> {
        match self.store.commit(txn).await {
            Ok(committed) => Ok(committed.records.into_iter().next().flatten()),
            Err(CommitError::Conflict { key, .. }) => Err(Miss::Raced(key)),
            Err(error) => Err(Miss::Refused(error.into())),
        }
    }

    /// Stores a new object. The transaction holds what must be true besides.
    pub(crate) async fn put_new(
        &self,
        resource: &Resource,
        object: &Value,
        mut txn: Txn,
        dry_run: bool,
    ) -> Result<Written, Miss> {
        let key = resource.key(metadata::text(object, "namespace"), metadata::text(object, "name"));
        txn.expect.insert(0, (key.clone(), Expect::Absent));
        let mut object = Cow::Borrowed(object);
        self.settle_claims(resource, &mut object, None, &mut txn).await?;
        self.put(resource, key, object, txn, dry_run).await
    }

    /// Stores the next version of an object, or removes it when it was only waiting for this.
    pub(crate) async fn put_next(
        &self,
        resource: &Resource,
        record: &Record,
        old: &Value,
        new: Value,
        dry_run: bool,
    ) -> Result<Written, Miss> {
        if metadata::is_finished(resource, &new) {
            return self.remove(resource, record, old, &new, dry_run).await;
        }
        let key = record.key.to_string();
        let mut txn = Txn { expect: vec![(key.clone(), Expect::At(record.modified))], ops: Vec::new() };
        let mut new = Cow::Owned(new);
        self.settle_claims(resource, &mut new, Some(old), &mut txn).await?;
        self.put(resource, key, new, txn, dry_run).await
    }

    async fn put(
        &self,
        resource: &Resource,
        key: String,
        object: Cow<'_, Value>,
        mut txn: Txn,
        dry_run: bool,
    ) -> Result<Written, Miss> {
        if dry_run {
            return Ok(Written::Dry(object.into_owned()));
        }
        let value = record::encode(resource, &object);
        let meta = record::side_data(resource, &object);
        txn.ops.insert(0, Op::Put { key, value, meta });
        let record = self.commit(txn).await?;
        record
            .map(Written::Stored)
            .ok_or_else(|| Miss::Refused(Failure::internal("the store kept no record")))
    }

    /// Removes an object and gives up its claims; watchers are told `last`.
    pub(crate) async fn remove(
        &self,
        resource: &Resource,
        record: &Record,
        old: &Value,
        last: &Value,
        dry_run: bool,
    ) -> Result<Written, Miss> {
        if dry_run {
            return Ok(Written::Dry(last.clone()));
        }
        let key = record.key.to_string();
        let mut txn = Txn { expect: vec![(key.clone(), Expect::At(record.modified))], ops: Vec::new() };
        txn.ops.push(Op::Delete { key, last: Some(record::encode(resource, last)) });
        self.release_all(resource, old, &mut txn).await?;
        let gone = self.commit(txn).await?;
        gone.map(Written::Stored).ok_or_else(|| Miss::Raced(record.key.to_string()))
    }
}

/// The answer to a write: the object as it now stands.
pub(crate) fn answer(call: &Call, status: StatusCode, written: &Written) -> Result<Response<Body>, Failure> {
    let view = View::new(call.resource(), call.form, &call.query)?;
    match written {
        Written::Stored(record) => Ok(view.record(status, record)),
        Written::Dry(object) if view.form == Form::Whole => Ok(represent::value_response(status, object)),
        Written::Dry(object) => {
            Ok(view.single(status, &record::without_revision(call.resource(), object).into()))
        }
    }
}
