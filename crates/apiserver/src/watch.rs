//! Watches. Order: list, then watch from the list's revision; the store keeps its history, so nothing falls between.
//! What is sent is built once and shared by all watchers that see the same. A watcher that does not read is told 410 when
//! the history has moved past it; nobody waits for it.

mod frames;
mod session;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::stream;
use http::{Response, StatusCode};
use rand::RngExt as _;
use svcd_store::{ReadError, Record, Revision, Watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::frames::Runs;
use self::session::{Clock, Session};
use crate::admission::WatchPermit;
use crate::call::Call;
use crate::errors::Failure;
use crate::filter::Filter;
use crate::query::{ListOptions, Since};
use crate::represent::{View, json_response};
use crate::sending;
use crate::server::ApiServer;

/// A watch whose client does not even read its end is given up this long after it.
const STUCK: Duration = Duration::from_secs(60);

impl ApiServer {
    /// GET with `watch=true`.
    pub(crate) async fn watch(
        self: &Arc<Self>,
        call: &Call,
        permit: WatchPermit,
        closing: CancellationToken,
    ) -> Result<Response<Body>, Failure> {
        let options = ListOptions::parse(&call.query, true)?;
        let filter = Filter::new(&call.target, &options)?;
        let view = View::new(&call.target.resource, call.form, &call.query)?;
        let (form, include) = (view.form, view.include);
        let opening = self.open_watch(call, &filter, &options).await?;
        let deadline = Instant::now() + options.timeout.unwrap_or_else(default_timeout);
        let mut session = Session {
            server: Arc::clone(self),
            resource: Arc::clone(&call.target.resource),
            filter,
            form,
            include,
            bookmarks: options.bookmarks,
            clock: Clock::new(closing, deadline),
            initial: opening.initial.into_iter(),
            initial_end: opening.end_bookmark,
            after: opening.after,
            watch: None,
            pending: VecDeque::new(),
            columns_sent: false,
            ended: false,
            _permit: permit,
        };
        match opening.watch {
            Ok(watch) => session.watch = Some(watch),
            Err(error) => session.fail(&error.into()),
        }
        let frames = stream::unfold(session, |mut session| async move {
            session.next().await.map(|frame| (Ok::<_, Infallible>(frame), session))
        });
        let body = sending::until(Body::from_stream(frames), deadline + STUCK, ());
        Ok(json_response(StatusCode::OK, &form.content_type(), body))
    }

    /// Finds out where a watch begins, and what it sends first.
    async fn open_watch(
        &self,
        call: &Call,
        filter: &Filter,
        options: &ListOptions,
    ) -> Result<Opening, Failure> {
        let send_initial = options.send_initial_events;
        let from_state = match (send_initial, options.since) {
            (Some(wanted), _) => wanted,
            (None, Since::At(_)) => false,
            (None, Since::Latest | Since::Any) => true,
        };
        if from_state {
            if let Since::At(wanted) = options.since {
                self.reach(wanted).await?;
            }
            let newest = ListOptions { since: Since::Any, matching: None, limit: 0, ..options.clone() };
            let found = self.find(&call.target.resource, filter, &newest).await?;
            let end_bookmark = (send_initial == Some(true) && options.bookmarks).then_some(found.revision);
            let watch = self.store.watch(&filter.prefix, found.revision).await;
            return Ok(Opening { initial: found.records, end_bookmark, after: found.revision, watch });
        }
        let current = self.store.revision();
        let after = match options.since {
            Since::At(wanted) => wanted,
            Since::Latest | Since::Any => current,
        };
        // A revision that is still to come is waited for: events up to it are left out by the session.
        let watch = self.store.watch(&filter.prefix, after.min(current)).await;
        Ok(Opening { initial: Vec::new(), end_bookmark: None, after, watch })
    }
}

/// Upstream's: between half an hour and an hour, so that clients do not all come back at once.
fn default_timeout() -> Duration {
    Duration::from_secs(rand::rng().random_range(1800..3600))
}

struct Opening {
    initial: Vec<Arc<Record>>,
    end_bookmark: Option<Revision>,
    after: Revision,
    watch: Result<Box<dyn Watch>, ReadError>,
}
