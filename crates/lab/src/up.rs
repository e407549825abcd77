//! Starting a lab: files, network, the control plane, then all workers at once, then something to look at.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, OnFile};
use crate::lock::Lock;
use crate::plan::{Layout, Node, Plan, Role};
use crate::process::{MARK, Process};
use crate::state::State;
use crate::{demo, down, net, rootless, uplink};

/// How long a node may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// A lab should notice a dead node while one watches.
const HEARTBEAT_SECONDS: &str = "2";
const GRACE_SECONDS: &str = "8";

/// What a lab that is up has to say.
#[derive(Debug)]
pub struct Report {
    /// What is running.
    pub plan: Plan,
    /// How long it took.
    pub took: Duration,
    /// The demo Service's virtual address.
    pub demo_address: String,
}

/// Starts a lab and waits until everything in it is ready. A half-started one is removed again.
///
/// # Errors
/// When one is running, the network is taken, or something did not start.
pub async fn up(layout: &Layout, plan: Plan) -> Result<Report, Error> {
    let began = Instant::now();
    let _lock = Lock::take(layout)?;
    if let Some(state) = State::load(layout)? {
        if state.is_running() {
            return Err(Error::Running { subnet: state.plan.subnet, nodes: state.plan.nodes.len() });
        }
        down::stop(layout, down::Files::KeepDirectory).await?;
    }
    if let Err(error) = net::check_free(&plan.subnet).await {
        // Only where nothing is in it, such as an earlier lab's logs.
        let _ = fs::remove_dir(layout.root());
        return Err(error);
    }
    match start(layout, &plan).await {
        Ok(demo_address) => Ok(Report { plan, took: began.elapsed(), demo_address }),
        Err(error) => {
            let kept = keep_logs(&error);
            down::stop(layout, kept).await?;
            Err(error)
        }
    }
}

/// The logs are the explanation where a node failed.
fn keep_logs(error: &Error) -> down::Files {
    match error {
        Error::NodeEnded { .. } | Error::NotReady { .. } => down::Files::KeepLogs,
        _ => down::Files::Remove,
    }
}

async fn start(layout: &Layout, plan: &Plan) -> Result<String, Error> {
    // Written before anything is changed, so that whatever ends this, `down` knows what to put right.
    let (sysctls, rootless) = (uplink::sysctls()?, rootless::is_inside());
    let mut state = State { plan: plan.clone(), processes: BTreeMap::new(), sysctls, rootless };
    state.save(layout)?;
    write_files(layout, plan)?;
    if rootless {
        rootless::keep_network(layout)?;
    }
    net::create(plan, layout).await?;
    uplink::open(&plan.subnet, &state.sysctls)?;
    let server = Starting::new(layout, plan, plan.control_plane())?;
    state.processes.insert(plan.control_plane().name.clone(), server.process);
    state.save(layout)?;
    server.wait_ready().await?;
    let mut workers = Vec::new();
    for node in plan.workers() {
        let worker = Starting::new(layout, plan, node)?;
        state.processes.insert(node.name.clone(), worker.process);
        workers.push(worker);
    }
    state.save(layout)?;
    for worker in workers {
        worker.wait_ready().await?;
    }
    // Not before all nodes are there: the pods are to be spread over them.
    let client = demo::client(layout)?;
    let address = demo::create(&client).await?;
    if !plan.workers().is_empty() && !demo::wait_ready(&client, PATIENCE).await? {
        let (node, log) = ("the demo".to_owned(), layout.log("control-plane"));
        return Err(Error::NotReady { node, seconds: PATIENCE.as_secs(), log });
    }
    Ok(address)
}

fn write_files(layout: &Layout, plan: &Plan) -> Result<(), Error> {
    fs::write(layout.hosts(), plan.hosts_file()).on("write", &layout.hosts())?;
    let resolv_conf = "nameserver 10.96.0.10\nsearch example.com\n";
    fs::write(layout.resolv_conf(), resolv_conf).on("write", &layout.resolv_conf())
}

/// A node whose process runs and that has not said yet that it is ready.
struct Starting {
    name: String,
    process: Process,
    child: Child,
    ready: UnixDatagram,
    log: std::path::PathBuf,
}

impl Starting {
    fn new(layout: &Layout, plan: &Plan, node: &Node) -> Result<Self, Error> {
        let (socket, log) = (layout.notify(&node.name), layout.log(&node.name));
        let ready = UnixDatagram::bind(&socket).on("bind", &socket)?;
        ready.set_nonblocking(true).on("prepare", &socket)?;
        let output = File::create(&log).on("create", &log)?;
        let kernel = |source| Error::Kernel { what: format!("start {}", node.name), source };
        let child = command(layout, plan, node)?
            .stdin(Stdio::null())
            // What the server prints has the join token in it, which no log should have.
            .stdout(Stdio::null())
            .stderr(output)
            .env("NOTIFY_SOCKET", &socket)
            .spawn()
            .map_err(kernel)?;
        let process = Process::find(child.id().cast_signed()).ok_or_else(|| Error::NodeEnded {
            node: node.name.clone(),
            reason: "it ended at once".into(),
            log: log.clone(),
        })?;
        Ok(Self { name: node.name.clone(), process, child, ready, log })
    }

    /// Waits for the node's `READY=1` (the protocol of sd_notify), or its end.
    async fn wait_ready(mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut message = [0; 256];
        while Instant::now() < deadline {
            if let Ok(length) = self.ready.recv(&mut message)
                && message[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1")
            {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let reason = last_line(&self.log).unwrap_or_else(|| status.to_string());
                return Err(Error::NodeEnded { node: self.name, reason, log: self.log });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(Error::NotReady { node: self.name, seconds: PATIENCE.as_secs(), log: self.log })
    }
}

/// The very commands that one would type on the machines, inside the node's namespace.
fn command(layout: &Layout, plan: &Plan, node: &Node) -> Result<Command, Error> {
    let binary = std::env::current_exe().on("find", Path::new("/proc/self/exe"))?;
    let mut command = Command::new(binary);
    command.arg("__lab-node").arg(layout.netns(&node.name));
    match node.role {
        Role::ControlPlane => {
            command.args(["server", "--listen", "0.0.0.0:6443", "--node-grace-period", GRACE_SECONDS]);
            command.args(["--advertise-address", &node.address.to_string()]);
        }
        Role::Worker => {
            command.args(["agent", "--join", &plan.server_url()]);
            command.arg("--token").arg(format!("@{}", layout.join_token().display()));
        }
    }
    command.arg("--data-dir").arg(layout.data(&node.name));
    command.args(["--node-name", &node.name, "--node-ip", &node.address.to_string()]);
    command.args(["--proxy-mode", &plan.proxy_mode, "--heartbeat", HEARTBEAT_SECONDS]);
    command.env(MARK, layout.root()).env("XTABLES_LOCKFILE", layout.data(&node.name).join("xtables.lock"));
    // Not the terminal's Ctrl-C: the lab outlives the command that started it.
    command.process_group(0);
    Ok(command)
}

fn last_line(log: &Path) -> Option<String> {
    fs::read_to_string(log).ok()?.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned)
}
