//! `svcd agent`: joins once, then is a node; and what `svcd server` needs to be one too.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use svcd_node::{ClusterInfo, Config, Heartbeat, JoinConfig, Renewal, Role, ServerUrl};
use svcd_pki::JoinToken;
use svcd_proxy::Mode;
use svcd_runtime::Lifecycle;

use crate::cli::{AgentArgs, NodeArgs};
use crate::failure::Failure;
use crate::moves::Moves;
use crate::{names, notify, privileges};

/// How long everything may take to end in order.
const DRAIN: Duration = Duration::from_secs(10);
/// A lease covers this many heartbeats.
const HEARTBEATS_IN_A_LEASE: u32 = 4;

pub(crate) async fn run(args: AgentArgs) -> Result<(), Failure> {
    let mode = proxy_mode(&args.node.proxy_mode)?;
    privileges::check("agent")?;
    if args.cleanup {
        return Ok(svcd_node::cleanup(&args.data_dir).await?);
    }
    let join = join_config(&args)?;
    // Whatever can be found out before the server makes a certificate for this node.
    check_addresses(&args.node)?;
    let lifecycle = Lifecycle::with_signals()?;
    let credentials = svcd_node::join(&join, &lifecycle.token()).await?;
    let (client, connections) = svcd_node::connect(&credentials)?;
    let server = resolve(&join.server)?;
    let cluster = credentials.cluster.clone();
    let renewal = Renewal::new(join.clone(), credentials, client.clone(), connections);
    let start = Start { mode, node_name: join.node_name.clone(), server, cluster, data_dir: args.data_dir };
    let config = start.worker(&args.node)?;
    let moves = Moves::default();
    if args.node.node_ip.is_none() {
        let choose = move || svcd_node::pick_address(server, None);
        moves.watch(&lifecycle, choose()?, move || choose().ok());
    }
    lifecycle.spawn_essential("node", svcd_node::run(config, client, notify::ready, lifecycle.token()));
    lifecycle.spawn_until_stopped("watchdog", notify::keep_alive(|| std::future::ready(true)));
    lifecycle.spawn_until_stopped("certificate", renewal.run());
    moves.conclude(lifecycle.finish(DRAIN).await)
}

fn join_config(args: &AgentArgs) -> Result<JoinConfig, Failure> {
    let server = args.join.as_deref().unwrap_or_default();
    let form = "give it as the server printed it: --join https://ADDRESS:6443";
    let server: ServerUrl = server.parse().map_err(|error| Failure::new(error, form))?;
    let token = args.token.as_deref().map(read_token).transpose()?;
    let node_name = node_name(args.node.node_name.as_deref())?;
    Ok(JoinConfig { server, token, node_name, data_dir: args.data_dir.clone(), retry_for: Duration::ZERO })
}

/// `@FILE` keeps a token out of the list of processes.
fn read_token(text: &str) -> Result<JoinToken, Failure> {
    let fix = "make a new one on the control plane: svcd token create";
    let text = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("cannot read the token from {path}: {error}"), fix))?,
    };
    text.trim().parse().map_err(|error| Failure::new(error, fix))
}

/// What a node is told, besides its flags.
pub(crate) struct Start {
    pub(crate) mode: Mode,
    pub(crate) node_name: String,
    pub(crate) server: SocketAddr,
    pub(crate) cluster: ClusterInfo,
    pub(crate) data_dir: PathBuf,
}

impl Start {
    fn worker(self, args: &NodeArgs) -> Result<Config, Failure> {
        let self_exe = std::env::current_exe().map_err(|error| {
            Failure::new(format!("cannot find this program's own file: {error}"), "start it by its path")
        })?;
        let mut config = Config::new(self.node_name, self.server, self.data_dir, self_exe, self.cluster);
        config.node_address = args.node_ip;
        config.proxy_mode = self.mode;
        config.heartbeat = Heartbeat {
            interval: args.heartbeat,
            lease: args.heartbeat.saturating_mul(HEARTBEATS_IN_A_LEASE),
        };
        config.health_address = Some(args.health_address);
        Ok(config)
    }

    /// The node beside a control plane; ordinary pods stay off it unless it is schedulable.
    pub(crate) fn control_plane(self, args: &NodeArgs, schedulable: bool) -> Result<Config, Failure> {
        let mut config = self.worker(args)?;
        config.role = Role::ControlPlane;
        if !schedulable {
            config.taints = vec![svcd_node::control_plane_taint()];
        }
        Ok(config)
    }
}

/// Checks that the node can have the addresses that it was given. Nothing is kept open.
pub(crate) fn check_addresses(args: &NodeArgs) -> Result<(), Failure> {
    if let Some(ip) = args.node_ip
        && let Err(error) = UdpSocket::bind((ip, 0))
    {
        let what = format!("{ip} cannot be this node's address: {error}");
        return Err(Failure::new(
            what,
            "give one that this machine has (`ip addr` shows them) with --node-ip",
        ));
    }
    let address = args.health_address;
    TcpListener::bind(address).map(drop).map_err(|error| {
        let what = format!("cannot listen on {address} for health checks: {error}");
        Failure::new(
            what,
            "stop what has that port (`ss -ltnp` shows it), or choose another with --health-address",
        )
    })
}

/// The name given, or the machine's.
pub(crate) fn node_name(given: Option<&str>) -> Result<String, Failure> {
    let name = match given {
        Some(name) => name.to_owned(),
        None => host_name()?,
    };
    if !names::is_dns_name(&name) {
        let what = format!("{name:?} cannot be a node's name: small letters, digits, '-' and '.' only");
        return Err(Failure::new(what, "give another with --node-name"));
    }
    Ok(name)
}

fn host_name() -> Result<String, Failure> {
    let unknown =
        |error| Failure::new(format!("this machine has no host name: {error}"), "give one with --node-name");
    Ok(nix::unistd::gethostname().map_err(unknown)?.to_string_lossy().to_lowercase())
}

pub(crate) fn proxy_mode(text: &str) -> Result<Mode, Failure> {
    text.parse()
        .map_err(|error| Failure::split(&format!("--proxy-mode: {error}"), "use --proxy-mode iptables"))
}

fn resolve(server: &ServerUrl) -> Result<SocketAddr, Failure> {
    let unknown = |why: String| {
        Failure::new(format!("cannot resolve {}: {why}", server.host()), "use the server's address")
    };
    let mut found = (server.host(), server.port()).to_socket_addrs().map_err(|e| unknown(e.to_string()))?;
    found.next().ok_or_else(|| unknown("it has no address".to_owned()))
}
