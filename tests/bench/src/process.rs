//! The processes that are measured: a server alone, and a whole lab.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Where servers listen: `run` gives it to the namespace. Loopback is no address for an API server's own endpoint.
pub(crate) const ADDRESS: &str = "192.0.2.1";

/// A `svcd server --no-agent`; ended when dropped.
pub(crate) struct Server {
    child: Child,
    dir: PathBuf,
}

impl Server {
    /// Starts one on a data directory; does not wait for it.
    pub(crate) fn start(binary: &Path, dir: &Path) -> Result<Self> {
        // An earlier run's names another port.
        let _ = std::fs::remove_file(dir.join("admin.kubeconfig"));
        let port = TcpListener::bind((ADDRESS, 0))?.local_addr()?.port();
        let child = Command::new(binary)
            .args(["server", "--no-agent", "--log-level", "warn", "--data-dir"])
            .arg(dir)
            .args(["--listen", &format!("{ADDRESS}:{port}")])
            .stdout(Stdio::null())
            .spawn()
            .context("start svcd server")?;
        Ok(Self { child, dir: dir.to_owned() })
    }

    /// Where its admin's kubeconfig appears.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Its memory, once it has nothing more to do.
    pub(crate) async fn settled(&self) -> Result<Memory> {
        settled(self.child.id()).await
    }

    /// CPU time that it has used.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.child.id())
    }

    /// Ends it gently and waits.
    pub(crate) fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory of a process, in MB.
pub(crate) struct Memory {
    /// All that is resident, with the pages of the binary's file.
    pub(crate) resident: f64,
    /// Only what is the process's own.
    pub(crate) own: f64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<f64> {
            let value =
                status.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            let kib: f64 = value.split_whitespace().next().context("it has a value")?.parse()?;
            Ok(kib * 1024.0 / 1e6)
        };
        Ok(Self { resident: field("VmRSS:")?, own: field("RssAnon:")? })
    }
}

/// Waits until a process has used next to no CPU for a second; then its memory.
pub(crate) async fn settled(pid: u32) -> Result<Memory> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let before = cpu_seconds(pid)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if cpu_seconds(pid)? - before < 0.03 {
            return Memory::of(pid);
        }
        ensure!(Instant::now() < deadline, "process {pid} is still busy after half a minute");
    }
}

/// CPU time that a process has used, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

/// A lab with a control plane and three workers; taken down when dropped.
pub(crate) struct Lab {
    binary: PathBuf,
    dir: tempfile::TempDir,
    /// Seconds that `svcd lab up` took.
    pub(crate) took: f64,
}

impl Lab {
    /// Starts it.
    pub(crate) fn up(binary: &Path, work: &Path) -> Result<Self> {
        let dir = tempfile::tempdir_in(work)?;
        let began = Instant::now();
        let mut lab = Self { binary: binary.to_owned(), dir, took: 0.0 };
        let status = lab.command(&["lab", "up"]).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "svcd lab up failed");
        lab.took = began.elapsed().as_secs_f64();
        Ok(lab)
    }

    /// `svcd …` for this lab.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("SVCD_LAB_DIR", self.root());
        command
    }

    /// A command on a node.
    pub(crate) fn on(&self, node: &str, words: &[&str]) -> Command {
        self.command(&[&["lab", "exec", node, "--"], words].concat())
    }

    /// Its directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("lab")
    }

    /// Its admin's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root().join("control-plane/admin.kubeconfig")
    }

    /// The pid of a node's process.
    pub(crate) fn pid(&self, node: &str) -> Result<u32> {
        let state: serde_json::Value = serde_json::from_slice(&std::fs::read(self.root().join("lab.json"))?)?;
        let pid = state["processes"][node]["pid"].as_u64().context("the node has a process")?;
        Ok(u32::try_from(pid)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.command(&["lab", "down"]).stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
            eprintln!("the lab in {} is still there: svcd lab down", self.root().display());
        }
    }
}
