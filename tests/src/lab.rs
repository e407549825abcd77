//! A lab of a test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use svcd_testkit::Netns;

use crate::run::{Done, eventually};

/// A cluster of a control plane and workers, in a network namespace that stands for the machine.
pub struct Lab {
    machine: Netns,
    dir: PathBuf,
    scratch: tempfile::TempDir,
    pods: AtomicUsize,
    _guard: Guard,
}

/// Takes the lab down when this process ends, also when it is killed: the shell waits for the end of its input.
struct Guard(#[allow(dead_code, reason = "dropping it closes the pipe that the shell reads")] Child);

impl Lab {
    /// The lab that all tests share which break nothing: three workers.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Lab> = OnceLock::new();
        SHARED.get_or_init(|| Self::up(3))
    }

    /// A lab of one's own, to break.
    pub fn up(workers: u8) -> Self {
        let lab = Self::without_cluster();
        lab.svcd(&["lab", "up", "--nodes", &workers.to_string()]).ok();
        lab
    }

    /// A machine on which no lab runs yet.
    pub fn without_cluster() -> Self {
        let machine = Netns::new("machine");
        let scratch = tempfile::tempdir().expect("a directory for the test");
        let dir = scratch.path().join("lab");
        let guard = machine.enter(|| {
            let script = "read _; \"$1\" lab down; rm -rf \"$2\"";
            Command::new("sh")
                .args(["-c", script, "guard"])
                .arg(binary())
                .arg(scratch.path())
                .env("SVCD_LAB_DIR", &dir)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("sh is there")
        });
        Self { machine, dir, scratch, pods: AtomicUsize::new(0), _guard: Guard(guard) }
    }

    /// The network namespace that stands for the machine.
    pub fn machine(&self) -> &Netns {
        &self.machine
    }

    /// The lab's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory that is this test's own, gone with the lab.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A command on the machine.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Done {
        let mut command = Command::new(program);
        command.args(arguments).env("SVCD_LAB_DIR", &self.dir).env("KUBECONFIG", self.kubeconfig());
        command.env("HOME", self.scratch.path()).stdin(Stdio::null());
        self.machine.output(&mut command).into()
    }

    /// `svcd …` on the machine.
    pub fn svcd(&self, arguments: &[&str]) -> Done {
        self.run(binary().to_str().expect("the path is text"), arguments)
    }

    /// A stock kubectl with the admin's rights.
    pub fn kubectl(&self, arguments: &[&str]) -> Done {
        self.run("kubectl", arguments)
    }

    /// `kubectl … -f -` with this manifest.
    pub fn kubectl_with(&self, manifest: &str, arguments: &[&str]) -> Done {
        let file = tempfile::NamedTempFile::new_in(self.scratch.path()).expect("a file for the manifest");
        std::fs::write(file.path(), manifest).expect("the manifest can be written");
        let path = file.path().to_str().expect("the path is text").to_owned();
        self.kubectl(&[arguments, &["-f", &path]].concat())
    }

    /// Creates a manifest in a namespace.
    #[track_caller]
    pub fn apply(&self, namespace: &str, manifest: &str) {
        self.kubectl_with(manifest, &["apply", "-n", namespace]).ok();
    }

    /// A namespace for a test, ready for pods.
    #[track_caller]
    pub fn namespace(&self, name: &str) -> String {
        self.kubectl(&["create", "namespace", name]).ok();
        name.to_owned()
    }

    /// One value out of the cluster: `kubectl get … -o jsonpath=…`.
    #[track_caller]
    pub fn get(&self, namespace: &str, what: &str, jsonpath: &str) -> String {
        let output = format!("jsonpath={jsonpath}");
        let words: Vec<&str> = what.split_whitespace().collect();
        self.kubectl(&[&["get", "-n", namespace, "-o", &output], words.as_slice()].concat()).ok()
    }

    /// A shell command on a node.
    pub fn on(&self, node: &str, script: &str) -> Done {
        self.svcd(&["lab", "exec", node, "--", "sh", "-c", script])
    }

    /// A Deployment of echo pods on port 8080 labelled `app=NAME`, waited for.
    #[track_caller]
    pub fn echo(&self, namespace: &str, name: &str, replicas: usize) {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&[
            "create",
            "deployment",
            name,
            "-n",
            namespace,
            "--image=svcd.io/echo",
            "--port=8080",
            &replicas,
        ])
        .ok();
        self.rolled_out(namespace, name);
    }

    /// Waits until a Deployment is as it should be.
    #[track_caller]
    pub fn rolled_out(&self, namespace: &str, name: &str) {
        let deployment = format!("deployment/{name}");
        self.kubectl(&["rollout", "status", &deployment, "-n", namespace, "--timeout=30s"]).ok();
    }

    /// A shell command in a pod of its own (image `svcd.io/host`), with what it printed.
    #[track_caller]
    pub fn in_pod(&self, namespace: &str, script: &str) -> Done {
        let name = format!("client-{}", self.pods.fetch_add(1, Ordering::Relaxed));
        let file = |kind: &str| self.scratch.path().join(format!("{namespace}-{name}.{kind}"));
        let (out, err, code) = (file("out"), file("err"), file("code"));
        let script = format!(
            "{{ {script} ; }} >{out} 2>{err}; echo $? >{code}.new; mv {code}.new {code}",
            out = out.display(),
            err = err.display(),
            code = code.display()
        );
        let manifest = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": {
                "restartPolicy": "Never",
                "containers": [{ "name": "c", "image": "svcd.io/host", "command": ["sh", "-c", script] }],
            },
        });
        self.kubectl_with(&manifest.to_string(), &["create", "-n", namespace]).ok();
        let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let code = eventually("a command in a pod", || {
            text(&code)
                .trim()
                .parse()
                .map_err(|_| self.kubectl(&["get", "pod", &name, "-n", namespace, "-o", "wide"]).out)
        });
        Done { code, out: text(&out), err: text(&err) }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.join("control-plane/admin.kubeconfig")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the lab's machine: {}; its logs: {}", self.machine.nsenter(), self.dir.display());
        }
        // A test that took it down itself is told "no lab is running".
        let _ = self.svcd(&["lab", "down"]);
    }
}

/// The binary that was built together with the tests.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("tests are built in target/<profile>/deps");
    let binary = profile.join("svcd");
    assert!(binary.exists(), "{} is not built: cargo build -p svcd", binary.display());
    binary
}
