//! Where clients find a cluster: a control plane alone, or a lab where pods run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use svcd_testkit::Netns;
use svcd_tests::{Done, Lab, binary, eventually};

/// A cluster, and the network namespace from which its API is reached.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// `svcd server --no-agent`.
    Server,
    /// A lab with two workers.
    Lab,
    /// A control plane of a trial's own.
    Own(&'static Server),
}

impl Place {
    /// Runs a command where the cluster is reached; `kubeconfig` is the admin's unless the command says otherwise.
    pub(crate) fn run(self, command: &mut Command) -> Done {
        command.stdin(Stdio::null());
        let netns = match self {
            Self::Server => Server::shared().netns(),
            Self::Lab => lab().machine(),
            Self::Own(server) => server.netns(),
        };
        netns.output(command).into()
    }

    /// The admin's kubeconfig.
    pub(crate) fn kubeconfig(self) -> PathBuf {
        match self {
            Self::Server => Server::shared().kubeconfig(),
            Self::Lab => lab().dir().join("control-plane/admin.kubeconfig"),
            Self::Own(server) => server.kubeconfig(),
        }
    }
}

/// A number that no other trial of this process has.
pub(crate) fn number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| Lab::up(2))
}

/// A control plane in a namespace of its own. It and the programs beside it end with this process, however that ends.
pub(crate) struct Server {
    netns: Netns,
    scratch: tempfile::TempDir,
}

impl Server {
    fn shared() -> &'static Self {
        static SERVER: OnceLock<&'static Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start(&[]))
    }

    /// Starts one, with further flags, and waits until it is ready.
    pub(crate) fn start(flags: &[&str]) -> &'static Self {
        let scratch = tempfile::tempdir().expect("a directory for the server");
        let server = Self { netns: Netns::new("clients"), scratch };
        let data = server.directory().join("data").display().to_string();
        let fixed = ["server", "--no-agent", "--listen", "127.0.0.1:6443", "--data-dir", &data];
        server.spawn("svcd", &binary(), &[&fixed, flags].concat());
        server.wait();
        Box::leak(Box::new(server))
    }

    /// Starts a program beside it, with a log of its name. The program's parent is a shell that waits for the end of its
    /// input, which is this process's: whatever happens to this process, the shell ends the program.
    pub(crate) fn spawn(&self, name: &str, program: &Path, arguments: &[&str]) {
        let script = r#"log=$1; directory=$2; shift 2; "$@" <&- >"$log" 2>&1 &
            read _; kill $!; wait; rm -rf "$directory""#;
        let guard = self.netns.enter(|| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "guard"]).arg(self.directory().join(name)).arg(self.directory());
            command.arg(program).args(arguments).env("HOME", self.directory()).stdin(Stdio::piped());
            command.spawn().expect("sh is there")
        });
        // Its input stays open as long as this process lives.
        std::mem::forget(guard);
    }

    fn wait(&self) {
        eventually("the server is ready", || {
            let mut curl = Command::new("curl");
            let output = self.netns.output(curl.args(["-ksf", "https://127.0.0.1:6443/readyz"]));
            let ready = output.status.success() && self.kubeconfig().exists();
            if ready { Ok(()) } else { Err(self.log("svcd")) }
        });
    }

    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A directory that is gone with this process.
    pub(crate) fn directory(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory().join("data/admin.kubeconfig")
    }

    /// What a program beside it has logged.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory().join(name)).unwrap_or_default()
    }
}
