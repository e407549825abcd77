//! `--audit-log` and `--audit-level`: opening the log, and opening it anew on SIGHUP, for whoever rotates it.

use std::path::Path;

use svcd_apiserver::{AuditLevel, AuditLog, AuditTarget};
use svcd_runtime::Lifecycle;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{AuditArgs, Level};
use crate::failure::Failure;

/// The audit log that was asked for, if one was.
pub(crate) fn open(args: &AuditArgs, lifecycle: &Lifecycle) -> Result<Option<AuditLog>, Failure> {
    let Some(path) = &args.audit_log else { return Ok(None) };
    let target = if path.as_os_str() == "-" { AuditTarget::Stdout } else { AuditTarget::File(path.clone()) };
    let level = match args.audit_level {
        Level::Metadata => AuditLevel::Metadata,
        Level::Request => AuditLevel::Request,
        Level::Requestresponse => AuditLevel::RequestResponse,
    };
    let log = AuditLog::open(target, level).map_err(|error| unusable(path, &error))?;
    let mut hangup = signal(SignalKind::hangup())
        .map_err(|error| Failure::new(format!("SIGHUP cannot be waited for: {error}"), ""))?;
    let (reopened, stopping) = (log.clone(), lifecycle.token());
    lifecycle.spawn("audit log", async move {
        while let Some(Some(())) = stopping.run_until_cancelled(hangup.recv()).await {
            reopened.reopen();
        }
    });
    Ok(Some(log))
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("--audit-log {} cannot be opened: {error}", path.display());
    Failure::new(what, "name a file in a directory that is there, or - for the standard output")
}
