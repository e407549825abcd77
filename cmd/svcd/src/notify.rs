//! Tells whoever started this process that it is ready: systemd's protocol (sd_notify), which `svcd lab` speaks too.

/// Says `READY=1`, where somebody listens.
pub(crate) fn ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell the service manager that svcd is ready");
    }
}
