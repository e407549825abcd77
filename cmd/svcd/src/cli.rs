//! The command line: what can be typed, and what it says about itself. Parses only; nothing here acts.

mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::Ipv4Net;
use svcd_controllers::ControllerName;
use svcd_node::{PortRange, Ranges};

use self::values::{hours, seconds, span};
use crate::failure::Failure;

/// The network half of Kubernetes in one binary.
#[derive(Debug, Parser)]
#[command(name = "svcd", version = env!("SVCD_VERSION"), about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to log; the same for every command.
#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// What to log, e.g. `info` or `svcd_proxy=debug,info`.
    #[arg(long, global = true, env = "SVCD_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log_level: String,
    /// Log lines as text or as JSON objects.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// Libraries whose lines repeat what ours say, or are of no use at all; naming one in the filter brings it back.
const QUIET: &str = "hickory_server=warn,hickory_net=warn,hickory_proto=warn,kube_client=off";

impl LogArgs {
    /// Starts logging.
    pub(crate) fn init(&self) -> Result<(), Failure> {
        let format = match self.log_format {
            LogFormat::Text => svcd_runtime::LogFormat::Text,
            LogFormat::Json => svcd_runtime::LogFormat::Json,
        };
        let filter = format!("{QUIET},{}", self.log_level);
        svcd_runtime::init_logging(&filter, format).map_err(|error| match error {
            svcd_runtime::Error::LogFilter { reason, .. } => Failure::new(
                format!("--log-level {:?} is not a log filter: {reason}", self.log_level),
                "use a level, or levels by module: info, debug, warn,svcd_proxy=debug",
            ),
            other => other.into(),
        })
    }
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a control plane (API server, store, controllers), and an agent beside it.
    Server(Box<ServerArgs>),
    /// Run a worker: join a control plane, forward Services, answer DNS, run pods.
    Agent(AgentArgs),
    /// Look for what on this machine would keep svcd from working, each with its fix. Nothing is changed.
    Check(CheckArgs),
    /// Create, list and revoke join tokens (on the control plane).
    #[command(subcommand)]
    Token(TokenCommand),
    /// List the certificates of this machine, with their dates and when they are renewed.
    Certs(CertsArgs),
    /// Save the cluster's state, list what was saved, and bring it back (on the control plane).
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Take everything of svcd's off this machine: pods, rules, links, routes, kernel parameters, data.
    Uninstall(UninstallArgs),
    /// A whole cluster on this machine, each node a network namespace.
    #[command(subcommand)]
    Lab(LabCommand),
}

/// Flags of `svcd server`.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    /// Where the store, the certificates and the admin's kubeconfig live.
    #[arg(long, default_value = "/var/lib/svcd", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address and port of the API.
    #[arg(long, default_value = "0.0.0.0:6443", value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
    /// Address that others reach this server at [default: the one of --listen, or of the default route's interface].
    #[arg(long, value_name = "ADDR")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// Further name or address for the server's certificate; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_san: Vec<String>,
    /// Run the control plane only, without forwarding, DNS and pods on this machine.
    #[arg(long)]
    pub(crate) no_agent: bool,
    /// Let ordinary pods run on this machine too (otherwise it is tainted node-role.kubernetes.io/control-plane:NoSchedule).
    #[arg(long, conflicts_with = "no_agent")]
    pub(crate) schedulable: bool,
    /// Range of Services' virtual addresses; its first is the API's own, its tenth is DNS. Two, one of each family, make a
    /// dual-stack cluster; the first is the usual one (IPv6 needs --no-agent so far).
    #[arg(long, default_value = "10.96.0.0/12", value_name = "CIDR[,CIDR]")]
    pub(crate) service_cidr: Ranges,
    /// Range of pods' addresses, of the same families: a /24 (IPv4) or /64 (IPv6) of it for each node.
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR[,CIDR]")]
    pub(crate) pod_cidr: Ranges,
    /// Ports that Services of type NodePort may have.
    #[arg(long, default_value = "30000-32767", value_name = "FIRST-LAST")]
    pub(crate) node_port_range: PortRange,
    /// Name that the cluster's names end in.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub(crate) cluster_domain: String,
    /// How long a node may be silent before it is NotReady, in seconds.
    #[arg(long, default_value = "40", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) node_grace_period: Duration,
    /// Leave a controller's work to somebody else (upstream's kube-controller-manager or kube-scheduler, say); may be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) disable_controllers: Vec<ControllerName>,
    /// How long the printed join token is good for, in hours.
    #[arg(long, default_value = "24", value_name = "HOURS", value_parser = hours)]
    pub(crate) token_ttl: Duration,
    /// How long certificates are valid that this server makes for itself, for nodes and by request: 365d, 12h. They are
    /// renewed when two thirds of that are over.
    #[arg(long, default_value = "365d", value_name = "TIME", value_parser = span)]
    pub(crate) certificate_validity: Duration,
    #[command(flatten)]
    pub(crate) snapshots: ScheduleArgs,
    #[command(flatten)]
    pub(crate) audit: AuditArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// Flags of snapshots on a schedule.
#[derive(Args, Debug)]
pub(crate) struct ScheduleArgs {
    /// Save a snapshot this often: 12h, 1d [default: never].
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) snapshot_every: Option<Duration>,
    /// How many of those snapshots to keep; the oldest go.
    #[arg(long, default_value = "5", value_name = "N", requires = "snapshot_every", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) snapshot_keep: u32,
    /// Where to put them [default: `snapshots` in the data directory].
    #[arg(long, value_name = "DIR", requires = "snapshot_every")]
    pub(crate) snapshot_dir: Option<PathBuf>,
}

/// Flags of `svcd check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Where the data is or will be: there must be room, and what is there already must be valid.
    #[arg(long, default_value = "/var/lib/svcd", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// What the machine is to be.
    #[arg(long, value_enum, default_value = "server")]
    pub(crate) role: CheckedRole,
    /// The address that it is to have as a node.
    #[arg(long, value_name = "ADDR")]
    pub(crate) node_ip: Option<IpAddr>,
    /// The control plane that it is to join: it must answer, and have the same time.
    #[arg(long, value_name = "https://ADDR:6443")]
    pub(crate) join: Option<String>,
    /// Range of Services' virtual addresses.
    #[arg(long, default_value = "10.96.0.0/12", value_name = "CIDR[,CIDR]")]
    pub(crate) service_cidr: Ranges,
    /// Range of pods' addresses.
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR[,CIDR]")]
    pub(crate) pod_cidr: Ranges,
    /// Address and port of the API, of a server.
    #[arg(long, default_value = "0.0.0.0:6443", value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
    /// As text or as JSON.
    #[arg(long, short, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

/// What a machine is to be.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CheckedRole {
    Server,
    Agent,
}

/// Flags of the audit log.
#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    /// Tell of every request to the API in this file, `-` for the standard output: audit.k8s.io/v1 Events, one a line, when a
    /// watch begins and when a request has ended. SIGHUP opens the file anew.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// How much to tell; what is in Secrets and tokens is never told.
    #[arg(long, value_enum, default_value = "metadata", requires = "audit_log")]
    pub(crate) audit_level: Level,
}

/// How much the audit log tells.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    /// Who asked for what, when, and what came of it.
    Metadata,
    /// Also what was sent.
    Request,
    /// Also what was answered.
    Requestresponse,
}

/// Flags of `svcd agent`.
#[derive(Args, Debug)]
pub(crate) struct AgentArgs {
    /// The control plane to join, as its `svcd server` printed it.
    #[arg(long, required_unless_present = "cleanup", value_name = "https://ADDR:6443")]
    pub(crate) join: Option<String>,
    /// The join token; needed once, later the machine has its own certificate. `@FILE` reads it from a file.
    #[arg(long, env = "SVCD_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Where the agent keeps its certificate and its pods.
    #[arg(long, default_value = "/var/lib/svcd", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Remove every rule, link, route and pod that an agent made on this machine, and exit.
    #[arg(long, conflicts_with_all = ["join", "token"])]
    pub(crate) cleanup: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// Flags that server and agent share: what this machine is as a node.
#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    /// This node's name [default: the machine's host name].
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// This node's address [default: the one of the interface that reaches the server].
    #[arg(long, value_name = "ADDR")]
    pub(crate) node_ip: Option<IpAddr>,
    /// How Services are forwarded.
    #[arg(long, default_value = "iptables", value_name = "MODE")]
    pub(crate) proxy_mode: String,
    /// Seconds between two heartbeats of the node.
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) heartbeat: Duration,
    /// Where /healthz and /metrics of the node answer.
    #[arg(long, default_value = "127.0.0.1:10256", value_name = "ADDR:PORT")]
    pub(crate) health_address: SocketAddr,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print the line to type on a worker.
    Create {
        #[command(flatten)]
        at: DataArgs,
        /// How long it is good for, in hours; 0 means for ever.
        #[arg(long, default_value = "24", value_name = "HOURS", value_parser = hours)]
        ttl: Duration,
        /// How many machines may join with it [default: any number].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        uses: Option<u32>,
        /// What it is for.
        #[arg(long, default_value = "", value_name = "TEXT")]
        description: String,
    },
    /// List tokens: id, expiry, uses, description. Secrets are not kept and cannot be shown.
    List {
        #[command(flatten)]
        at: DataArgs,
    },
    /// Make a token useless from now on.
    Revoke {
        #[command(flatten)]
        at: DataArgs,
        /// The token's id, as `svcd token list` shows it.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save everything that a server needs to be this one again, its keys too: keep the file as safe as the server.
    Save {
        /// Where to; `-` is the standard output.
        file: PathBuf,
        #[command(flatten)]
        at: DataArgs,
    },
    /// List snapshots, read and verified from end to end.
    List {
        /// The directory that they are in, or one of them.
        #[arg(default_value = "/var/lib/svcd/snapshots")]
        dir: PathBuf,
    },
    /// Bring a snapshot back into an empty data directory.
    Restore {
        /// The snapshot; `-` is the standard input.
        file: PathBuf,
        #[command(flatten)]
        at: DataArgs,
    },
}

/// Where commands on the control plane find the cluster.
#[derive(Args, Debug)]
pub(crate) struct DataArgs {
    /// The server's data directory.
    #[arg(long, default_value = "/var/lib/svcd", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

/// Flags of `svcd uninstall`.
#[derive(Args, Debug)]
pub(crate) struct UninstallArgs {
    /// The data directory of a server or an agent.
    #[arg(long, default_value = "/var/lib/svcd", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Leave the store, the certificates and the snapshots where they are.
    #[arg(long)]
    pub(crate) keep_data: bool,
    /// Change nothing: list what is left, and exit with 1 if anything is.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Flags of `svcd certs`.
#[derive(Args, Debug)]
pub(crate) struct CertsArgs {
    /// The data directory of a server or an agent.
    #[arg(long, default_value = "/var/lib/svcd", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// As a table or as JSON.
    #[arg(long, short, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

/// Shape of what a command prints.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Start a control plane and workers on this machine.
    Up {
        /// How many workers.
        #[arg(long, default_value = "3", value_name = "N", value_parser = clap::value_parser!(u8).range(0..=50))]
        nodes: u8,
        /// The nodes' network: control plane .11, workers .21 and up.
        #[arg(long, default_value = "192.168.56.0/24", value_name = "CIDR")]
        subnet: Ipv4Net,
        /// How Services are forwarded.
        #[arg(long, default_value = "iptables", value_name = "MODE")]
        proxy_mode: String,
    },
    /// Show the nodes and their processes.
    Status,
    /// Run a command on a node: `svcd lab exec node1 -- ip addr`.
    Exec {
        /// `control-plane`, `node1`, …
        node: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print the path of the admin's kubeconfig.
    Kubeconfig,
    /// Open a shell that reaches the lab and has KUBECONFIG set (needed when the lab runs without root).
    Shell,
    /// Stop the lab and remove everything that it made.
    Down,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn controllers_are_left_out_by_name() {
        let parse = |names| Cli::try_parse_from(["svcd", "server", "--disable-controllers", names]);
        let Command::Server(args) = parse("scheduler,deployment").unwrap().command else {
            panic!("a server")
        };
        assert_eq!(args.disable_controllers.len(), 2);
        let error = parse("scheduler,foo").unwrap_err().to_string();
        assert!(error.contains("'foo'") && error.contains("there are bootstrap, "), "{error}");
    }

    #[test]
    fn an_agent_needs_a_server_or_a_cleanup() {
        assert!(Cli::try_parse_from(["svcd", "agent"]).is_err());
        assert!(Cli::try_parse_from(["svcd", "agent", "--cleanup"]).is_ok());
        assert!(Cli::try_parse_from(["svcd", "agent", "--join", "https://192.168.56.11:6443"]).is_ok());
    }
}
