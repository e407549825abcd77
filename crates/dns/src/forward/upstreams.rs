//! Which upstreams there are, and how they have been doing.
//!
//! Promises: never ourselves (a loop would eat the machine); the servers behind systemd-resolved's stub rather than the stub;
//! a changed file is noticed within seconds, without a timer. The order is the file's, but those that keep failing come
//! last: nobody is given up, since a wrong guess must not cost an answer.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use crate::resolv::ResolvConf;

/// The file that systemd-resolved keeps with the true upstreams.
const BEHIND_THE_STUB: &str = "/run/systemd/resolve/resolv.conf";
/// How often at most the files are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// More than this are not used.
const MAX_UPSTREAMS: usize = 15;
/// So many failures in a row put an upstream last.
const FAILURES: u32 = 2;
/// For how long it stays last.
const PENALTY: Duration = Duration::from_secs(10);

/// Where the upstreams are said.
#[derive(Clone, Debug)]
pub enum Upstreams {
    /// In a `resolv.conf`, looked at again when it changes.
    File(PathBuf),
    /// Here.
    Fixed(Vec<SocketAddr>),
}

impl Default for Upstreams {
    fn default() -> Self {
        Self::File(PathBuf::from("/etc/resolv.conf"))
    }
}

/// One upstream.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Where it is.
    pub(crate) address: SocketAddr,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    last: Option<Instant>,
}

impl Upstream {
    fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { address, health: Mutex::default() })
    }

    /// Takes note of an attempt. Whether this one made the upstream count as failing.
    pub(crate) fn note(&self, worked: bool) -> bool {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if worked {
            *health = Health::default();
            return false;
        }
        health.failures = health.failures.saturating_add(1);
        health.last = Some(Instant::now());
        health.failures == FAILURES
    }

    /// Whether it failed several times in a row, and lately.
    pub(crate) fn is_failing(&self) -> bool {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.failures >= FAILURES && health.last.is_some_and(|last| last.elapsed() < PENALTY)
    }
}

/// The upstreams of the moment.
#[derive(Debug)]
pub(crate) struct Roster {
    source: Upstreams,
    own: Vec<SocketAddr>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    checked: Option<Instant>,
    stamps: Vec<Stamp>,
    list: Vec<Arc<Upstream>>,
}

/// When a file was changed and how long it is; none when it is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Roster {
    /// Takes the upstreams from `source`, without those that are one of `own`.
    pub(crate) fn new(source: Upstreams, own: Vec<SocketAddr>) -> Self {
        let roster = Self { source, own, state: Mutex::default() };
        if roster.in_order().is_empty() {
            warn!(source = ?roster.source, "no DNS upstream: names outside of the cluster cannot be resolved");
        }
        roster
    }

    /// The upstreams in the order to try them in.
    pub(crate) fn in_order(&self) -> Vec<Arc<Upstream>> {
        self.in_order_at(Instant::now())
    }

    fn in_order_at(&self, now: Instant) -> Vec<Arc<Upstream>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut state, now);
        let (failing, fine): (Vec<_>, Vec<_>) =
            state.list.iter().cloned().partition(|upstream| upstream.is_failing());
        fine.into_iter().chain(failing).collect()
    }

    fn refresh(&self, state: &mut State, now: Instant) {
        if state.checked.is_some_and(|checked| now.saturating_duration_since(checked) < CHECK_EVERY) {
            return;
        }
        let first = state.checked.replace(now).is_none();
        let addresses = match &self.source {
            Upstreams::Fixed(_) if !first => return,
            Upstreams::Fixed(addresses) => addresses.clone(),
            Upstreams::File(path) => {
                let stamps = vec![stamp(path), stamp(Path::new(BEHIND_THE_STUB))];
                if !first && stamps == state.stamps {
                    return;
                }
                state.stamps = stamps;
                read(path, Path::new(BEHIND_THE_STUB)).into_iter().map(|ip| SocketAddr::new(ip, 53)).collect()
            }
        };
        state.list = self.admit(addresses, &state.list);
        let list: Vec<_> = state.list.iter().map(|upstream| upstream.address).collect();
        info!(upstreams = ?list, "DNS upstreams");
    }

    /// Leaves out ourselves and repeats, and keeps what is known of those that stay.
    fn admit(&self, addresses: Vec<SocketAddr>, known: &[Arc<Upstream>]) -> Vec<Arc<Upstream>> {
        let mut list: Vec<Arc<Upstream>> = Vec::new();
        for address in addresses {
            if is_own(&self.own, address) {
                warn!(%address, source = ?self.source, "left out an upstream: it is this very server, questions would go round for ever");
            } else if list.len() < MAX_UPSTREAMS && list.iter().all(|upstream| upstream.address != address) {
                let old = known.iter().find(|upstream| upstream.address == address);
                list.push(old.map_or_else(|| Upstream::new(address), Arc::clone));
            }
        }
        list
    }
}

/// Whether what is sent to `address` comes back to us.
fn is_own(own: &[SocketAddr], address: SocketAddr) -> bool {
    own.iter().any(|mine| {
        let everywhere =
            mine.ip().is_unspecified() && (address.ip().is_loopback() || address.ip().is_unspecified());
        mine.port() == address.port() && (mine.ip() == address.ip() || everywhere)
    })
}

/// The name servers in the file at `path`, or in the one `behind` systemd-resolved's stub where `path` leads to that.
fn read(path: &Path, behind: &Path) -> Vec<IpAddr> {
    let servers = name_servers(path);
    if servers.is_empty() || !servers.iter().all(is_stub) {
        return servers.into_iter().filter(|server| !is_stub(server)).collect();
    }
    let real: Vec<_> = name_servers(behind).into_iter().filter(|server| !is_stub(server)).collect();
    // Without the file the stub itself is better than nothing: it is another server than us.
    if real.is_empty() { servers } else { real }
}

fn name_servers(path: &Path) -> Vec<IpAddr> {
    match std::fs::read_to_string(path) {
        Ok(text) => ResolvConf::parse(&text).name_servers,
        Err(error) => {
            warn!(path = %path.display(), %error, "cannot read the list of DNS upstreams");
            Vec::new()
        }
    }
}

/// systemd-resolved's two local listeners.
fn is_stub(address: &IpAddr) -> bool {
    [IpAddr::from([127, 0, 0, 53]), IpAddr::from([127, 0, 0, 54])].contains(address)
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn reads_behind_the_stub() {
        let dir = tempfile::tempdir().unwrap();
        let stub = file(&dir, "stub", "nameserver 127.0.0.53\n");
        let real = file(&dir, "real", "nameserver 192.0.2.1\nnameserver 192.0.2.2\n");
        let plain = file(&dir, "plain", "nameserver 192.0.2.7\nnameserver 127.0.0.53\n");
        let ips = |list: &[[u8; 4]]| list.iter().map(|ip| IpAddr::from(*ip)).collect::<Vec<_>>();
        assert_eq!(read(&stub, &real), ips(&[[192, 0, 2, 1], [192, 0, 2, 2]]));
        assert_eq!(read(&plain, &real), ips(&[[192, 0, 2, 7]]));
        assert_eq!(read(&stub, &dir.path().join("none")), ips(&[[127, 0, 0, 53]]));
        assert_eq!(read(&dir.path().join("none"), &real), ips(&[]));
    }

    #[test]
    fn leaves_ourselves_out() {
        let own = vec!["10.96.0.10:53".parse().unwrap(), "0.0.0.0:5300".parse().unwrap()];
        let list = ["10.96.0.10:53", "127.0.0.1:5300", "127.0.0.1:53", "192.0.2.1:53", "192.0.2.1:53"];
        let fixed = Upstreams::Fixed(list.iter().map(|text| text.parse().unwrap()).collect());
        let left: Vec<_> = Roster::new(fixed, own).in_order().iter().map(|u| u.address.to_string()).collect();
        assert_eq!(left, ["127.0.0.1:53", "192.0.2.1:53"]);
    }

    #[test]
    fn a_changed_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir, "resolv.conf", "nameserver 192.0.2.1\nnameserver 192.0.2.2\n");
        let roster = Roster::new(Upstreams::File(path), Vec::new());
        let (now, text) = (Instant::now(), |list: Vec<Arc<Upstream>>| {
            list.iter().map(|upstream| upstream.address.to_string()).collect::<Vec<_>>()
        });
        let kept = roster.in_order_at(now)[1].clone();
        file(&dir, "resolv.conf", "nameserver 192.0.2.2\n");
        assert_eq!(roster.in_order_at(now).len(), 2, "not looked at all the time");
        let later = roster.in_order_at(now + 2 * CHECK_EVERY);
        assert!(Arc::ptr_eq(&later[0], &kept), "what is known of it stays");
        assert_eq!(text(later), ["192.0.2.2:53"]);
        std::fs::remove_file(dir.path().join("resolv.conf")).unwrap();
        assert!(roster.in_order_at(now + 4 * CHECK_EVERY).is_empty());
    }

    #[test]
    fn those_that_fail_come_last() {
        let fixed = Upstreams::Fixed(vec!["192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap()]);
        let roster = Roster::new(fixed, Vec::new());
        let first = roster.in_order()[0].clone();
        assert!(!first.note(false));
        assert_eq!(roster.in_order()[0].address, first.address, "once is chance");
        assert!(first.note(false));
        assert_eq!(roster.in_order()[1].address, first.address);
        first.note(true);
        assert_eq!(roster.in_order()[0].address, first.address);
    }
}
