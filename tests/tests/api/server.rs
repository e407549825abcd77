//! A `svcd server --no-agent` of a test's own, on a port of loopback, that can be killed and started again.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use svcd_tests::binary;

use crate::client::Target;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    directory: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut server = Self { directory: tempfile::tempdir().unwrap(), port, arguments, child: None };
        server.start_again().await;
        server
    }

    pub(crate) async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let address = format!("127.0.0.1:{}", self.port);
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let child = Command::new(binary())
            .args(["server", "--no-agent", "--log-level", "warn", "--listen", &address])
            .args(["--advertise-address", "127.0.0.1", "--data-dir"])
            .arg(self.directory.path().join("data"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("svcd starts");
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready().await {
            assert!(Instant::now() < deadline, "the server was not ready in time:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        let Some(target) = Target::from_kubeconfig(&self.kubeconfig()) else { return false };
        let Ok(mut connection) = target.connect().await else { return false };
        connection.get("/readyz").await.is_ok_and(|reply| reply.code == 200)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("data/admin.kubeconfig")
    }

    /// How its admin reaches it.
    pub(crate) fn admin(&self) -> Target {
        Target::from_kubeconfig(&self.kubeconfig()).expect("a ready server has written it")
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends it a signal: `HUP`, `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it as a power cut would, as far as a process can be.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Resident memory, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.log());
        }
    }
}
