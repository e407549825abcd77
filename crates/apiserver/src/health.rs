//! `/healthz`, `/livez`, `/readyz`: whole, one check, or with `?verbose` all of them line by line.

use std::fmt::Write as _;

use axum::body::Body;
use http::{Response, StatusCode};

use crate::errors::Failure;
use crate::query::Query;
use crate::represent::json_response;
use crate::server::ApiServer;

const TEXT: &str = "text/plain; charset=utf-8";
const PING: &str = "ping";
const STORE: &str = "store";
const SHUTDOWN: &str = "shutdown";

impl ApiServer {
    /// Answers a health check.
    pub(crate) async fn health(
        &self,
        endpoint: &str,
        check: Option<&str>,
        query: &Query,
    ) -> Result<Response<Body>, Failure> {
        let names: &[&str] = if endpoint == "readyz" { &[PING, STORE, SHUTDOWN] } else { &[PING, STORE] };
        if let Some(check) = check {
            let name = names.iter().find(|name| **name == check).ok_or_else(Failure::no_such_path)?;
            let (status, text) = match self.check(name).await {
                Ok(()) => (StatusCode::OK, "ok".to_owned()),
                Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
            };
            return Ok(json_response(status, TEXT, text));
        }
        let mut text = String::new();
        let mut healthy = true;
        for name in names.iter().filter(|name| !query.all("exclude").any(|excluded| excluded == **name)) {
            match self.check(name).await {
                Ok(()) => writeln!(text, "[+]{name} ok"),
                Err(why) => {
                    tracing::warn!(check = name, why, "a health check fails");
                    healthy = false;
                    writeln!(text, "[-]{name} failed: {why}")
                }
            }
            .expect("a string can be written to");
        }
        let verbose = query.has("verbose");
        Ok(match (healthy, verbose) {
            (true, false) => json_response(StatusCode::OK, TEXT, "ok"),
            (true, true) => json_response(StatusCode::OK, TEXT, format!("{text}{endpoint} check passed\n")),
            (false, _) => {
                let text = format!("{text}{endpoint} check failed\n");
                json_response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        })
    }

    async fn check(&self, name: &str) -> Result<(), &'static str> {
        match name {
            STORE => self.store.get("/health").await.map(drop).map_err(|_| "the store cannot be read"),
            SHUTDOWN if self.is_draining() => Err("the server is shutting down"),
            _ => Ok(()),
        }
    }
}
