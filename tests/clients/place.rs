//! Where clients find a cluster: a control plane alone, or a lab where pods run.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
}

impl Place {
    /// Runs a command where the cluster is reached; `kubeconfig` is the admin's unless the command says otherwise.
    pub(crate) fn run(self, command: &mut Command) -> Done {
        command.stdin(Stdio::null());
        let netns = match self {
            Self::Server => &Server::shared().netns,
            Self::Lab => lab().machine(),
        };
        netns.output(command).into()
    }

    /// The admin's kubeconfig.
    pub(crate) fn kubeconfig(self) -> PathBuf {
        match self {
            Self::Server => Server::shared().kubeconfig(),
            Self::Lab => lab().dir().join("control-plane/admin.kubeconfig"),
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

/// A control plane in a namespace of its own, for this process. It ends with this process, however that ends: its parent
/// is a shell that waits for the end of its input.
struct Server {
    netns: Netns,
    scratch: tempfile::TempDir,
    _guard: Child,
}

impl Server {
    fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    fn start() -> Self {
        let netns = Netns::new("clients");
        let scratch = tempfile::tempdir().expect("a directory for the server");
        let guard = netns.enter(|| {
            let script = r#""$1" server --no-agent --data-dir "$2/data" --listen 127.0.0.1:6443 <&- >"$2/log" 2>&1 &
                read _; kill $!; wait; rm -rf "$2""#;
            let mut command = Command::new("sh");
            command.args(["-c", script, "server"]).arg(binary()).arg(scratch.path()).stdin(Stdio::piped());
            command.spawn().expect("sh is there")
        });
        let server = Self { netns, scratch, _guard: guard };
        server.wait();
        server
    }

    fn wait(&self) {
        eventually("the server is ready", || {
            let mut curl = Command::new("curl");
            let output = self.netns.output(curl.args(["-ksf", "https://127.0.0.1:6443/readyz"]));
            if output.status.success() && self.kubeconfig().exists() { Ok(()) } else { Err(self.log()) }
        });
    }

    fn kubeconfig(&self) -> PathBuf {
        self.scratch.path().join("data/admin.kubeconfig")
    }

    fn log(&self) -> String {
        text(&self.scratch.path().join("log"))
    }
}

fn text(path: &Path) -> String {
    let mut text = String::new();
    let _ = std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    text
}
