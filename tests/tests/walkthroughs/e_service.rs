//! E2, as a service: what svcd tells of itself, and what it tells the service manager.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use svcd_tests::{Site, binary};

/// The next message of a service.
fn told(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).expect("a message in time");
    String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
}

#[test]
fn e2_a_service_is_ready_and_goes_on_saying_that_it_is_well() {
    let site = Site::new();
    let machine = site.machine("control-plane", "192.168.56.11/24");
    let path = machine.path("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    let mut command = Command::new(binary());
    command.args(["server", "--no-agent", "--data-dir"]).arg(machine.data());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
    let server = machine.netns().spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let mut said = Vec::new();
    while said.iter().filter(|word| *word == "WATCHDOG=1").count() < 5 {
        said.push(told(&socket));
    }
    assert!(said.iter().all(|word| word == "WATCHDOG=1" || word == "READY=1"), "{said:?}");
    assert_eq!(said.iter().filter(|word| *word == "READY=1").count(), 1, "{said:?}");
    drop(server);
}

#[test]
fn e2_the_version_names_what_it_was_built_from() {
    let output = Command::new(binary()).arg("--version").output().expect("svcd starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rest = text.strip_prefix("svcd 0.").expect("the name and the version");
    let (_, built) = rest.split_once(" (commit ").expect("the commit");
    let (commit, target) = built.trim_end().split_once(", ").expect("the target");
    assert!(
        commit.len() >= 7 && (target.ends_with("-linux-gnu)") || target.ends_with("-linux-musl)")),
        "{text}"
    );
}
