//! Bad input: whatever is wrong, one line says what, one says what to do, the exit code is 1, and nothing is half-done.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use svcd_testkit::{Netns, Running};
use svcd_tests::{Done, binary, eventually};

/// A machine with two addresses and no cluster.
struct Machine {
    netns: Netns,
    dir: tempfile::TempDir,
}

/// A control plane without a node, and where it keeps its data.
struct Server {
    data: PathBuf,
    url: String,
    _process: Running,
}

impl Machine {
    fn new() -> Self {
        let netns = Netns::new("machine");
        netns.ip("addr add 192.0.2.1/32 dev lo");
        Self { netns, dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, command: &mut Command) -> Done {
        self.netns.output(command.env("HOME", self.dir.path()).stdin(Stdio::null())).into()
    }

    fn svcd(&self, arguments: &str) -> Done {
        self.run(Command::new("timeout").arg("20").arg(binary()).args(arguments.split_whitespace()))
    }

    fn server(&self, name: &str, port: u16) -> Server {
        let (data, url) = (self.path(name), format!("https://192.0.2.1:{port}"));
        let log = fs::File::create(self.path(&format!("{name}.log"))).expect("a log");
        let mut command = Command::new(binary());
        command
            .args(["server", "--no-agent", "--listen", &format!("192.0.2.1:{port}"), "--data-dir"])
            .arg(&data);
        let process = self.netns.spawn(command.stdout(Stdio::null()).stderr(log));
        eventually("a server", || fs::read_to_string(data.join("join-token")).map_err(|e| e.to_string()));
        Server { data, url, _process: process }
    }

    /// What an agent says that cannot join; nothing may be left of it.
    fn join(&self, server: &str, token: &str, more: &str) -> String {
        let data = self.path("joiner");
        let token = if token.is_empty() { String::new() } else { format!("--token {token}") };
        let flags =
            format!("agent --join {server} {token} --data-dir {} --node-name new {more}", data.display());
        let said = two_lines(self.svcd(&flags));
        assert!(!data.join("agent/credentials.json").exists(), "{said}");
        let traces = self.netns.ip("-o link") + &self.netns.run(&["iptables-save"]);
        assert!(!traces.contains("KUBE") && !traces.contains("svcd"), "{traces}");
        said
    }
}

impl Server {
    fn token(&self) -> String {
        fs::read_to_string(self.data.join("join-token")).expect("a token").trim().to_owned()
    }
}

/// Both lines of a failure, which must be all of it.
#[track_caller]
fn two_lines(done: Done) -> String {
    assert_eq!(done.code, 1, "{}{}", done.out, done.err);
    assert_eq!(done.out, "");
    // Log lines begin with the time.
    let said: Vec<&str> = done.err.lines().filter(|line| !line.starts_with("20")).collect();
    assert_eq!(said.len(), 2, "{}", done.err);
    assert!(said[0].starts_with("svcd: ") && said[1].starts_with("      "), "{}", done.err);
    assert!(said[1].trim().len() > 10, "{}", done.err);
    said.join("\n")
}

#[track_caller]
fn assert_says(said: &str, wanted: &[&str]) {
    assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{wanted:?} is not all in:\n{said}");
}

#[test]
fn a_wrong_flag() {
    let machine = Machine::new();
    let data = machine.path("data");
    let cases = [
        ("srver", "srver"),
        ("server --nonsense", "--nonsense"),
        ("server --listen nowhere", "--listen"),
        ("server --no-agent --node-port-range 5-1", "--node-port-range"),
        ("server --no-agent --log-level svcd=loud", "--log-level \"svcd=loud\""),
        ("server --no-agent --cluster-domain bad_domain", "--cluster-domain"),
        ("server --no-agent --node-name Bad_Name", "Bad_Name"),
        ("server --no-agent --pod-cidr 10.244.0.0/30", "--pod-cidr"),
        ("agent", "--join"),
        ("agent --join https://192.0.2.1 --token x --node-name -a", "-a"),
        ("agent --join ftp://192.0.2.1 --token x", "ftp"),
        ("lab up --nodes 99", "--nodes"),
        ("lab up --subnet 10.0.0.0/29", "too small"),
    ];
    for (flags, wanted) in cases {
        let role = ["server", "agent"].iter().any(|role| flags.starts_with(role));
        let data_dir = if role { format!("--data-dir {}", data.display()) } else { String::new() };
        assert_says(&two_lines(machine.svcd(&format!("{flags} {data_dir}"))), &[wanted]);
        assert!(!data.exists(), "{flags}");
    }
}

#[test]
fn an_occupied_port_and_an_address_of_another_machine() {
    let machine = Machine::new();
    let data = machine.path("data");
    let server = format!("server --no-agent --data-dir {}", data.display());
    let held = machine.netns.enter(|| TcpListener::bind("192.0.2.1:6443").unwrap());
    let said = two_lines(machine.svcd(&format!("{server} --listen 192.0.2.1:6443")));
    assert_says(&said, &["192.0.2.1:6443", "in use", "--listen"]);
    drop(held);
    let said = two_lines(machine.svcd(&format!("{server} --listen 192.0.2.77:6443")));
    assert_says(&said, &["192.0.2.77:6443", "does not have that address"]);
    assert!(!data.exists(), "nothing is left of a start that failed");
}

#[test]
fn a_missing_iptables() {
    let machine = Machine::new();
    let data = machine.path("data");
    for role in ["server", "agent --join https://192.0.2.1:6443 --token x", "lab up"] {
        let data_dir = if role == "lab up" { "" } else { "--data-dir \"$SVCD_LAB_DIR\"" };
        // Both names of the directory, on a machine where they are two.
        let script = format!(
            "mount -t tmpfs none /usr/sbin && {{ [ -L /sbin ] || mount -t tmpfs none /sbin; }} && \
             PATH=/nothing exec {} {role} {data_dir}",
            binary().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).env("SVCD_LAB_DIR", &data);
        let said = two_lines(machine.run(&mut command));
        assert_says(&said, &["iptables is not on this machine", "apt-get install iptables"]);
        assert!(!data.exists(), "{role}");
    }
}

#[test]
fn no_privileges() {
    let machine = Machine::new();
    fs::set_permissions(machine.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The build directory may be closed to others.
    let svcd = machine.path("svcd");
    fs::copy(binary(), &svcd).unwrap();
    let (data, svcd) = (machine.path("data"), svcd.to_str().unwrap());
    let cases = [
        ("server", "needs root"),
        ("agent --join https://192.0.2.1:6443 --token x", "needs root"),
        ("agent --cleanup", "needs root"),
        ("server --no-agent --listen 127.0.0.1:7443", "Permission denied"),
        ("token list", "admin.kubeconfig"),
    ];
    for (role, wanted) in cases {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=54321", "--regid=54321", "--clear-groups", svcd])
            .args(role.split_whitespace());
        let said = two_lines(machine.run(command.arg("--data-dir").arg(&data)));
        assert_says(&said, &[wanted, "root"]);
        assert!(!data.exists(), "{role}");
    }
}

#[test]
fn a_full_disk() {
    let machine = Machine::new();
    let (disk, left) = (machine.path("disk"), machine.path("left"));
    fs::create_dir(&disk).unwrap();
    for size in ["size=8k", "size=16k", "nr_inodes=2", "nr_inodes=6"] {
        let script = format!(
            "mount -t tmpfs -o {size} none {disk} && {svcd} server --no-agent --listen 192.0.2.1:6443 --data-dir {disk}/data; \
             code=$?; ls -A {disk} >{left}; exit $code",
            disk = disk.display(),
            svcd = binary().display(),
            left = left.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "timeout", "20", "sh", "-c", &script]);
        let said = two_lines(machine.run(&mut command));
        assert_says(&said, &["No space left on device", "make room"]);
        assert_eq!(fs::read_to_string(&left).unwrap(), "", "{size}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_used() {
    let machine = Machine::new();
    let server = |data: &Path| {
        two_lines(
            machine.svcd(&format!("server --no-agent --listen 192.0.2.1:6500 --data-dir {}", data.display())),
        )
    };
    let newer = machine.path("newer");
    fs::create_dir_all(newer.join("store")).unwrap();
    fs::write(newer.join("store/VERSION"), "svcd-store 99\n").unwrap();
    assert_says(&server(&newer), &["format 99", "newer version"]);
    assert_eq!(fs::read_to_string(newer.join("store/VERSION")).unwrap(), "svcd-store 99\n");
    let held = machine.server("held", 6443);
    assert_says(&server(&held.data), &["in use by another process", "another data directory"]);
    let file = machine.path("file");
    fs::write(&file, "mine").unwrap();
    assert_says(&server(&file), &["file", "--data-dir"]);
    assert_says(&server(&file.join("below")), &["below", "--data-dir"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_clock_that_is_off() {
    let machine = Machine::new();
    let pki = machine.path("data").join("pki");
    fs::create_dir_all(&pki).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.not_before = rcgen::date_time_ymd(2090, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(pki.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(pki.join("ca.key"), key.serialize_pem()).unwrap();
    let data = machine.path("data");
    let said = two_lines(
        machine.svcd(&format!("server --no-agent --listen 192.0.2.1:6443 --data-dir {}", data.display())),
    );
    assert_says(&said, &["valid only from 2090-01-01", "clock", "set it"]);
    assert_eq!(fs::read_dir(&pki).unwrap().count(), 2, "the authority that was there is left alone");
}

#[test]
fn a_token_or_a_server_that_does_not_fit() {
    let machine = Machine::new();
    let (one, other) = (machine.server("one", 6443), machine.server("other", 6444));
    let token = one.token();
    let parts: Vec<&str> = token.split('.').collect();
    let says = |token: &str, wanted: &[&str]| assert_says(&machine.join(&one.url, token, ""), wanted);
    says(
        &other.token(),
        &["the token is for another cluster's CA", "certificate authority", "svcd token create"],
    );
    let wrong = format!("svcd1.{}.{}.{}", parts[1], parts[2], "x".repeat(parts[3].len()));
    says(&wrong, &["refused the token", parts[2], "svcd token create"]);
    says("nonsense", &["not a svcd token", "svcd token create"]);
    says(&token[..token.len() - 4], &["token", "svcd token create"]);
    says("@/no/such/file", &["cannot read the token from /no/such/file"]);
    says("", &["no token was given", "--token"]);
    let refused = machine.join("https://192.0.2.1:6999", &token, "");
    assert_says(&refused, &["nothing listens at https://192.0.2.1:6999", "svcd server"]);
    let unreachable = machine.join("https://203.0.113.1:6443", &token, "");
    assert_says(&unreachable, &["cannot reach https://203.0.113.1:6443", "address"]);
    // Found out before the server is asked for a certificate.
    assert_says(&machine.join(&one.url, &token, "--node-ip 203.0.113.9"), &["203.0.113.9", "--node-ip"]);
    let held = machine.netns.enter(|| TcpListener::bind("127.0.0.1:10256").unwrap());
    assert_says(&machine.join(&one.url, &token, ""), &["127.0.0.1:10256", "--health-address"]);
    drop(held);
    // Expired: the time of its end is moved to the past.
    let kubeconfig = one.data.join("admin.kubeconfig");
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--kubeconfig").arg(kubeconfig).args(["patch", "secret", "-n", "kube-system"]);
    kubectl.arg(format!("bootstrap-token-{}", parts[2]));
    kubectl.args(["-p", r#"{"stringData":{"expiration":"2001-01-01T00:00:00Z"}}"#]);
    machine.run(&mut kubectl).ok();
    says(&token, &["refused the token", "expired"]);
}

#[test]
fn a_token_command_without_its_server() {
    let machine = Machine::new();
    let nowhere = machine.path("nowhere");
    let said = two_lines(machine.svcd(&format!("token list --data-dir {}", nowhere.display())));
    assert_says(&said, &["admin.kubeconfig", "on the control plane"]);
    assert!(!nowhere.exists());
    let server = machine.server("server", 6443);
    let data = server.data.clone();
    drop(server);
    for command in ["create", "list", "revoke abcdef"] {
        let said = two_lines(machine.svcd(&format!("token {command} --data-dir {}", data.display())));
        assert_says(&said, &["cannot reach the API server", "refused", "svcd server"]);
    }
}

#[test]
fn a_lab_never_takes_a_directory_that_is_not_its_own() {
    let machine = Machine::new();
    let home = machine.path("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("thesis.txt"), "years of work").unwrap();
    for command in ["up", "down"] {
        let mut svcd = Command::new(binary());
        let said = two_lines(machine.run(svcd.args(["lab", command]).env("SVCD_LAB_DIR", &home)));
        assert_says(&said, &["not a lab's directory", "SVCD_LAB_DIR"]);
    }
    assert_eq!(fs::read_to_string(home.join("thesis.txt")).unwrap(), "years of work");
}
