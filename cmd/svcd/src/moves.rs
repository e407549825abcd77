//! A machine whose address changes while svcd runs: a new lease, another network. Certificates, the Node, the routes of
//! other nodes and the kubeconfig all have the old one. A start sets all of them right, and takes nothing from the kernel
//! or from pods; so that is what happens: an orderly end, then the same program with the same arguments in this process.
//!
//! Followed is only an address that nobody gave, and only to another one of the same link: of two networks that a machine is
//! on, the one that is away for a moment must not make it a node of the other.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use svcd_podnet::{Changes, link_of};
use svcd_runtime::Lifecycle;

use crate::failure::Failure;

/// A change is believed when nothing else has changed for this long: an address may be taken away and given back at once.
const SETTLED: Duration = Duration::from_secs(1);
/// Links that never come to rest do not put it off for ever.
const LONGEST: Duration = Duration::from_secs(10);

/// Whether this machine has moved.
#[derive(Clone, Default)]
pub(crate) struct Moves(Arc<OnceLock<IpAddr>>);

impl Moves {
    /// Gives the order to stop when the machine no longer has this address and `choose` finds another on the same link.
    pub(crate) fn watch(
        &self,
        lifecycle: &Lifecycle,
        address: IpAddr,
        choose: impl Fn() -> Option<IpAddr> + Send + 'static,
    ) {
        // What is reached over IPv6 is no node's address.
        let IpAddr::V4(address) = address else { return };
        let (moved, stop) = (self.clone(), lifecycle.token());
        lifecycle.spawn_until_stopped("address", async move {
            match next_address(address, choose).await {
                Ok(new) => {
                    tracing::warn!(old = %address, %new, "this machine has another address now: starting anew");
                    moved.0.get_or_init(|| new);
                    stop.cancel();
                }
                Err(error) => tracing::warn!(%error, "if this machine's address changes, it will not be noticed"),
            }
        });
    }

    /// Begins again in this process, if the machine has moved; else this is how everything ended.
    pub(crate) fn conclude<E: Into<Failure>>(&self, ended: Result<(), E>) -> Result<(), Failure> {
        if self.0.get().is_none() {
            return ended.map_err(Into::into);
        }
        // The file that this process runs, also when another one has taken its place.
        let mut command = Command::new("/proc/self/exe");
        let mut arguments = std::env::args_os();
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        let error = command.args(arguments).exec();
        Err(Failure::new(format!("cannot start anew at another address: {error}"), "start svcd again"))
    }
}

/// Waits until another address of the same link has taken the place of this one.
async fn next_address(
    address: Ipv4Addr,
    choose: impl Fn() -> Option<IpAddr>,
) -> Result<IpAddr, svcd_podnet::Error> {
    let mut changes = Changes::listen()?;
    let link = link_of(address).await?;
    while changes.next().await.is_some() {
        let rest =
            async { while tokio::time::timeout(SETTLED, changes.next()).await.is_ok_and(|c| c.is_some()) {} };
        // Whether it came to rest or not, what is there now is looked at.
        let _ = tokio::time::timeout(LONGEST, rest).await;
        if link_of(address).await?.is_some() {
            continue;
        }
        if let Some(IpAddr::V4(new)) = choose()
            && link_of(new).await? == link
        {
            return Ok(new.into());
        }
    }
    std::future::pending().await
}
