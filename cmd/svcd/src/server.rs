//! `svcd server`: binds everything, then starts everything, then says what to type next.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use svcd_api::addresses;
use svcd_apiserver::{ApiServer, User};
use svcd_node::ClusterInfo;
use svcd_pki::{AltName, Ca, JoinToken};
use svcd_runtime::Lifecycle;
use svcd_store::Embedded;

use crate::certificates::{Certificates, Wanted};
use crate::cli::ServerArgs;
use crate::data_dir::Entry;
use crate::failure::Failure;
use crate::moves::Moves;
use crate::snapshot::{Schedule, refuse_unfinished};
use crate::{address, agent, audit, notify, privileges, ranges, token};

/// How long everything may take to end in order.
const DRAIN: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: ServerArgs) -> Result<(), Failure> {
    let mode = agent::proxy_mode(&args.node.proxy_mode)?;
    let cluster = ranges::cluster(&args)?;
    if !args.no_agent {
        privileges::check("server")?;
    }
    let node_name = agent::node_name(args.node.node_name.as_deref())?;
    let given = args.advertise_address.or(args.node.node_ip);
    let advertise = address::advertised(given, args.listen)?;
    ranges::check_advertised(&cluster, advertise.ip())?;
    if !args.no_agent {
        agent::check_addresses(&args.node)?;
    }
    let listener = bind(args.listen)?;
    // From here on there are files; a start that fails takes away what was not there before it.
    let fresh = Fresh::new(&args.data_dir);
    let store = open_store(&args.data_dir)?;
    let ca = Arc::new(Ca::load_or_create(&Entry::Pki.within(&args.data_dir))?);
    let server = format!("https://{advertise}");
    let certificates = Certificates::issue(
        &ca,
        Wanted {
            data_dir: args.data_dir.clone(),
            names: server_names(&args, &cluster, &node_name, advertise.ip()),
            url: server.clone(),
            validity: args.certificate_validity,
        },
    )?;
    let tls = svcd_pki::server_config(&ca, certificates.identity())?;
    fresh.keep();

    let lifecycle = Lifecycle::with_signals()?;
    let audit = audit::open(&args.audit, &lifecycle)?;
    let config = svcd_apiserver::Config { audit: audit.clone(), ..api_config(&args, &cluster) };
    let api = ApiServer::new(store.clone(), ca.clone(), config);
    if let Some(schedule) = Schedule::of(&args.snapshots, &args.data_dir, store.clone()) {
        lifecycle.spawn_until_stopped("snapshots", schedule.keep());
    }
    let moves = Moves::default();
    if address::is_chosen(given, args.listen) {
        moves.watch(&lifecycle, advertise.ip(), address::choose);
    }
    let watched = store.clone();
    lifecycle.spawn_until_stopped("watchdog", notify::keep_alive(move || notify::commits(watched.clone())));
    lifecycle.spawn_until_stopped("certificates", certificates.keep());
    lifecycle.spawn_essential("API server", api.clone().serve(listener, tls, lifecycle.token()));
    let client = kube::Client::new(api.in_process(User::master("system:svcd")), "default");
    let config = controllers_config(&args, &cluster, &ca, advertise);
    lifecycle
        .spawn_essential("controllers", svcd_controllers::run(client.clone(), config, lifecycle.token()));

    let token = join_token(client, &args, &ca).await?;
    println!("{}", what_next(&server, &args.data_dir, &token, notify::prints_to_journal()));

    if args.no_agent {
        notify::ready();
    } else {
        let name = format!("system:node:{node_name}");
        let user = User::new(name, ["system:nodes"]);
        let client = kube::Client::new(api.in_process(user), "default");
        let config =
            agent::Start { mode, node_name, server: advertise, cluster, data_dir: args.data_dir.clone() };
        let config = config.control_plane(&args.node, args.schedulable)?;
        lifecycle.spawn_essential("node", svcd_node::run(config, client, notify::ready, lifecycle.token()));
    }
    let ended = lifecycle.finish(DRAIN).await;
    let closing = tokio::task::spawn_blocking(move || {
        store.close();
        audit.inspect(svcd_apiserver::AuditLog::close);
    });
    closing.await.map_err(|e| Failure::new(e, ""))?;
    moves.conclude(ended)
}

/// What to type next. The journal is read by more people than the token is for: there it is only said where that is.
fn what_next(server: &str, data_dir: &Path, token: &JoinToken, in_journal: bool) -> String {
    let kubeconfig = Entry::AdminKubeconfig.within(data_dir);
    let (where_it_is, token) = if in_journal {
        let file = Entry::JoinToken.within(data_dir);
        (format!(", with the token that is in {} here", file.display()), "TOKEN".to_owned())
    } else {
        (String::new(), token.to_string())
    };
    format!(
        "The API is at {server}; its admin is you:\n\n  export KUBECONFIG={}\n\nOn a worker{where_it_is}:\n\n  {}",
        kubeconfig.display(),
        token::join_line(server, &token)
    )
}

fn open_store(data_dir: &Path) -> Result<Arc<Embedded>, Failure> {
    svcd_pki::ensure_private_dir(data_dir)?;
    refuse_unfinished(data_dir)?;
    Ok(Arc::new(Embedded::open(Entry::Store.within(data_dir), svcd_store::Options::default())?))
}

/// Removes a data directory that was not there before, unless it is kept.
#[must_use]
struct Fresh(Option<PathBuf>);

impl Fresh {
    fn new(dir: &Path) -> Self {
        Self((!dir.exists()).then(|| dir.to_owned()))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            // What cannot be removed either is no worse than the error that is reported.
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        let fix = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "stop what has that port (`ss -ltnp` shows it), or choose another with --listen"
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address: give one of `ip addr` with --listen"
            }
            _ => "choose another address with --listen",
        };
        Failure::new(format!("cannot listen on {address}: {error}"), fix)
    })
}

/// Everything that clients may call this server by.
fn server_names(args: &ServerArgs, cluster: &ClusterInfo, node: &str, advertise: IpAddr) -> Vec<AltName> {
    let domain = &cluster.cluster_domain;
    let service = format!("kubernetes.default.svc.{domain}");
    let own = cluster.service_cidr.all().iter().filter_map(|range| addresses::nth(range, 1));
    let fixed = [
        "localhost",
        "127.0.0.1",
        "::1",
        node,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        &service,
    ];
    let mut names: Vec<AltName> = fixed.into_iter().map(AltName::from).collect();
    names.extend([advertise].into_iter().chain(own).map(AltName::Ip));
    if !args.listen.ip().is_unspecified() {
        names.push(AltName::Ip(args.listen.ip()));
    }
    names.extend(args.tls_san.iter().map(|name| AltName::from(name.as_str())));
    names
}

fn api_config(args: &ServerArgs, cluster: &ClusterInfo) -> svcd_apiserver::Config {
    let ports = args.node_port_range;
    svcd_apiserver::Config {
        service_cidrs: cluster.service_cidr.all().to_vec(),
        node_port_range: ports.first..=ports.last,
        pod_cidrs: cluster.pod_cidr.all().to_vec(),
        cluster_domain: cluster.cluster_domain.clone(),
        dns_address: cluster.dns_address,
        certificate_validity: args.certificate_validity,
        ..svcd_apiserver::Config::default()
    }
}

fn controllers_config(
    args: &ServerArgs,
    cluster: &ClusterInfo,
    ca: &Arc<Ca>,
    advertise: SocketAddr,
) -> svcd_controllers::Config {
    let (services, pods) = (cluster.service_cidr.all().to_vec(), cluster.pod_cidr.all().to_vec());
    let mut config =
        svcd_controllers::Config::new(services, pods, cluster.dns_address, advertise, Arc::clone(ca));
    config.node_grace = args.node_grace_period;
    config.disabled.clone_from(&args.disable_controllers);
    config.certificate_validity = args.certificate_validity;
    config
}

/// A fresh token, also kept in the data directory (readable by root only, as the CA's key beside it is) so that
/// provisioning can take it from there.
async fn join_token(client: kube::Client, args: &ServerArgs, ca: &Ca) -> Result<JoinToken, Failure> {
    let limits = token::Limits { ttl: args.token_ttl, uses: None };
    let token =
        token::create(client, JoinToken::generate(ca.pin()), limits, "printed by svcd server").await?;
    svcd_pki::write_secret(&Entry::JoinToken.within(&args.data_dir), format!("{token}\n"))?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_does_not_get_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        let token = JoinToken::generate(ca.pin());
        let said = |in_journal| what_next("https://a:6443", Path::new("/data"), &token, in_journal);
        assert!(said(false).ends_with(&format!("--token {token}")));
        assert!(!said(true).contains(&token.to_string()));
        assert!(said(true).contains("/data/join-token"));
    }
}
