//! What a request must have before it is worked on: a seat (see `fairness`), a share of what may be received at once
//! while its body arrives, a share of the watches while it watches. What is not to be had is answered with 429; what
//! comes from this very process is not held to any of it.

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http::request::Parts;
use prometheus_client::metrics::gauge::Gauge;

use crate::authn::Peer;
use crate::authz::Objects;
use crate::body;
use crate::errors::Failure;
use crate::fairness::{Fairness, Seat, schema};
use crate::limits::{Class, Limits};
use crate::quota::{Quota, Share};
use crate::server::ApiServer;
use crate::user::User;

/// The limits at work.
pub(crate) struct Admission {
    pub(crate) fairness: Fairness,
    /// By user, in bytes.
    uploads: Quota<String>,
    /// By user.
    watches: Quota<String>,
    /// Answers that are sent in pieces, by user.
    answers: Quota<String>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            fairness: Fairness::new(limits.seats, limits.queue_wait),
            uploads: Quota::new(limits.upload_bytes),
            watches: Quota::new(limits.watches),
            answers: Quota::new(limits.long_answers),
        }
    }
}

/// Counts a request while it is worked on.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The right to be worked on.
#[must_use]
pub(crate) struct Admitted {
    _seat: Option<Seat>,
    _counted: Counted,
}

/// The right to watch.
pub(crate) struct WatchPermit {
    _share: Option<Share<String>>,
    _counted: Counted,
}

/// The right to send an answer in pieces.
pub(crate) type AnswerPermit = Share<String>;

impl ApiServer {
    /// Waits until a request may be worked on.
    pub(crate) async fn admit(
        &self,
        peer: &Peer,
        user: &User,
        objects: Option<&Objects<'_>>,
        class: Class,
    ) -> Result<Admitted, Failure> {
        let seat = if peer.in_process {
            None
        } else {
            Some(self.admission.fairness.enter(schema(user, objects), &user.name).await?)
        };
        Ok(Admitted { _seat: seat, _counted: Counted::new(self.metrics.gauge(class)) })
    }

    pub(crate) fn admit_watch(&self, peer: &Peer, user: &User) -> Result<WatchPermit, Failure> {
        let share = share(&self.admission.watches, peer, user, 1)?;
        Ok(WatchPermit { _share: share, _counted: Counted::new(self.metrics.gauge(Class::Watch)) })
    }

    pub(crate) fn admit_answer(&self, peer: &Peer, user: &User) -> Result<Option<AnswerPermit>, Failure> {
        share(&self.admission.answers, peer, user, 1)
    }

    /// Receives a body. That comes before the seat: nobody else's turn waits for a client that sends slowly.
    pub(crate) async fn receive(
        &self,
        parts: &Parts,
        body: Body,
        peer: &Peer,
        user: &User,
    ) -> Result<(Bytes, Option<Share<String>>), Failure> {
        let Limits { body_bytes, body_timeout, .. } = self.config.limits;
        let most = if body.is_end_stream() { 0 } else { body.size_hint().upper().unwrap_or(u64::MAX) };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(body_bytes);
        let share = share(&self.admission.uploads, peer, user, most)?;
        Ok((body::read(body, &parts.headers, body_bytes, body_timeout).await?, share))
    }
}

fn share(
    quota: &Quota<String>,
    peer: &Peer,
    user: &User,
    amount: usize,
) -> Result<Option<Share<String>>, Failure> {
    if peer.in_process {
        return Ok(None);
    }
    quota.take(user.name.clone(), amount).map(Some).ok_or_else(Failure::too_many_requests)
}
