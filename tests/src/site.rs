//! Machines on a network, on which svcd is started as on real ones: by typing its commands. Unlike a lab's nodes they
//! are set up by the test, so that a test can have them as odd as it likes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use svcd_testkit::{End, Netns, Running, bridge, plug};

use crate::lab::binary;
use crate::run::{Done, eventually};

/// A network of machines.
pub struct Site {
    switch: Netns,
    dir: tempfile::TempDir,
}

/// One machine of a site.
pub struct Machine {
    name: String,
    netns: Netns,
    dir: PathBuf,
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// A network without machines.
    pub fn new() -> Self {
        let switch = Netns::new("switch");
        bridge(End { netns: &switch, name: "net", addresses: &[] });
        Self { switch, dir: tempfile::tempdir().expect("a directory") }
    }

    /// A machine with this address (`192.168.56.11/24`) on its only interface, `eth0`.
    pub fn machine(&self, name: &str, address: &str) -> Machine {
        let machine = self.bare_machine(name);
        self.plug(&machine, "eth0", address);
        machine
    }

    /// A machine with no network yet.
    pub fn bare_machine(&self, name: &str) -> Machine {
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).expect("a directory for the machine");
        Machine { name: name.to_owned(), netns: Netns::new(name), dir }
    }

    /// Gives a machine an interface on the network.
    pub fn plug(&self, machine: &Machine, interface: &str, address: &str) {
        let port = format!("{:.10}-{:.4}", machine.name, interface);
        let end = End { netns: &machine.netns, name: interface, addresses: &[address] };
        plug(&self.switch, "net", &port, end);
    }
}

impl Machine {
    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A file of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where svcd keeps its data there.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// What svcd has logged and printed there.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A command there.
    pub fn run(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Done {
        let mut command = Command::new("timeout");
        command.arg("60").arg(program.as_ref()).args(arguments);
        command.env("HOME", &self.dir).env("KUBECONFIG", self.data().join("admin.kubeconfig"));
        self.netns.output(command.stdin(Stdio::null())).into()
    }

    /// `svcd …` there, words split at blanks, with the machine's data directory.
    pub fn svcd(&self, words: &str) -> Done {
        let data = self.data();
        let data = ["--data-dir", data.to_str().expect("the path is text")];
        let words: Vec<&str> = words.split_whitespace().chain(data).collect();
        self.run(binary(), &words)
    }

    /// kubectl with the admin's rights, on a machine that has a server.
    pub fn kubectl(&self, words: &str) -> Done {
        self.run("kubectl", &words.split_whitespace().collect::<Vec<_>>())
    }

    /// Starts `svcd …` there; it ends with the guard.
    pub fn start(&self, words: &str) -> Running {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).expect("a log");
        let mut command = Command::new(binary());
        command.args(words.split_whitespace()).arg("--data-dir").arg(self.data());
        command.args(["--node-name", &self.name]).stdin(Stdio::null()).env("HOME", &self.dir);
        self.netns.spawn(command.stdout(log.try_clone().expect("a second handle")).stderr(log))
    }

    /// Starts a server without a node, and waits for its join token.
    pub fn serve(&self, words: &str) -> Running {
        let running = self.start(&format!("server --no-agent {words}"));
        eventually("a server", || self.token().ok_or_else(|| self.log()));
        running
    }

    /// The join token that a server wrote.
    pub fn token(&self) -> Option<String> {
        fs::read_to_string(self.data().join("join-token")).ok().map(|token| token.trim().to_owned())
    }

    /// Waits until a node is Ready (or not), as the server on this machine has it.
    #[track_caller]
    pub fn node_is(&self, node: &str, ready: &str) {
        let jsonpath = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        eventually(&format!("{node} Ready={ready}"), || {
            let done = self.run("kubectl", &["get", "node", node, "-o", jsonpath]);
            if done.out == ready { Ok(()) } else { Err(format!("{} {}", done.out, done.err)) }
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.name, self.log());
        }
        // Pods outlive their agent.
        if self.data().join("agent").exists() {
            let _ = self.svcd("agent --cleanup");
        }
    }
}
