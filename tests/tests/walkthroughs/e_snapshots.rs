//! E7: the cluster's state, saved and brought back on an empty machine.

use std::fs;

use svcd_tests::{Machine, Site, binary, eventually};

const SERVER: &str = "--listen 192.168.56.11:6443 --node-grace-period 10";

/// A Service whose name shows in the rules of every node.
fn service(machine: &Machine, name: &str) {
    machine.kubectl(&format!("create service clusterip {name} --tcp=80:80")).ok();
}

/// Waits until a node's rules speak of these Services, and not of those.
fn rules(node: &Machine, there: &[&str], gone: &[&str]) {
    eventually("the node's rules", || {
        let rules = node.run("iptables-save", &[]).ok();
        let named = |name: &&&str| rules.contains(&format!("default/{name}:"));
        match (there.iter().find(|name| !named(name)), gone.iter().find(|name| named(name))) {
            (None, None) => Ok(()),
            (missing, left) => Err(format!("missing: {missing:?}, left: {left:?}")),
        }
    });
}

#[test]
fn e7_a_saved_state_is_brought_back_and_nodes_follow_it() {
    let site = Site::new();
    let control_plane = site.machine("control-plane", "192.168.56.11/24");
    let node = site.machine("node1", "192.168.56.21/24");
    let server = control_plane.serve(SERVER);
    let token = control_plane.token().expect("the server wrote it");
    let _agent =
        node.start(&format!("agent --join https://192.168.56.11:6443 --token {token} --heartbeat 1"));
    control_plane.node_is("node1", "True");
    service(&control_plane, "kept");
    control_plane.kubectl("create serviceaccount robot").ok();
    let robot = control_plane.kubectl("create token robot").ok();
    let file = control_plane.path("saved");
    let saved = file.to_str().expect("the path is text");
    let said = control_plane.svcd(&format!("snapshot save {saved}")).ok();
    assert!(said.contains("saved revision"), "{said}");
    let uid = control_plane.kubectl("get service kept -o jsonpath={.metadata.uid}").ok();
    // What comes after the snapshot is lost with the server, and must not live on in anybody's memory.
    service(&control_plane, "lost");
    control_plane.kubectl("delete service kept").ok();
    rules(&node, &["lost"], &["kept"]);

    let refused = control_plane.svcd(&format!("snapshot restore {saved}")).failed();
    assert!(refused.contains("is not empty"), "{refused}");
    drop(server);
    fs::rename(control_plane.data(), control_plane.path("before")).expect("the data can be moved");
    control_plane.svcd(&format!("snapshot restore {saved}")).ok();
    let _server = control_plane.serve(SERVER);
    rules(&node, &["kept"], &["lost"]);
    assert_eq!(control_plane.kubectl("get service kept -o jsonpath={.metadata.uid}").ok(), uid);
    control_plane.node_is("node1", "True");
    service(&control_plane, "new");
    rules(&node, &["kept", "new"], &["lost"]);
    // Nothing but the token says who asks.
    let alone = "--kubeconfig /dev/null --server https://192.168.56.11:6443 --insecure-skip-tls-verify";
    let who = control_plane.kubectl(&format!("auth whoami {alone} --token={}", robot.trim())).ok();
    assert!(who.contains("serviceaccount:default:robot"), "{who}");
}

#[test]
fn e7_snapshots_are_listed_and_the_broken_ones_told() {
    let site = Site::new();
    let control_plane = site.machine("control-plane", "192.168.56.11/24");
    let server = control_plane.serve(&format!("{SERVER} --snapshot-every 1h --snapshot-keep 2"));
    let dir = control_plane.data().join("snapshots");
    let dir = dir.to_str().expect("the path is text");
    let list = |at: &str| control_plane.run(binary(), &["snapshot", "list", at]);
    eventually("a snapshot of the schedule", || match list(dir) {
        done if done.code == 0 && done.out.contains("svcd-2") => Ok(()),
        done => Err(format!("{}{}", done.out, done.err)),
    });
    drop(server);
    // Without a server the files are read, and the standard output is as good as a file.
    let line = format!(
        "{} snapshot save - --data-dir {} > {dir}/by-hand",
        binary().display(),
        control_plane.data().display()
    );
    control_plane.run("sh", &["-c", &line]).ok();
    let shown = list(dir).ok();
    let row = shown.lines().find(|line| line.starts_with("by-hand")).expect("it is listed");
    let columns: Vec<&str> = row.split_whitespace().collect();
    let number = |column: usize| columns[column].parse::<u64>().unwrap_or_default();
    assert!(number(2) > 1 && number(3) > 10, "{row}");
    let bytes = fs::read(format!("{dir}/by-hand")).expect("it is there");
    fs::write(format!("{dir}/by-hand"), &bytes[..bytes.len() - 1]).expect("it can be written");
    let done = list(dir);
    assert!(done.code == 1 && done.out.contains("it is not whole"), "{}{}", done.out, done.err);
    let empty = control_plane.path("empty");
    let empty = empty.to_str().expect("the path is text");
    let refused = control_plane
        .run(binary(), &["snapshot", "restore", &format!("{dir}/by-hand"), "--data-dir", empty])
        .failed();
    assert!(refused.contains("it is not whole") && !control_plane.path("empty").exists(), "{refused}");
}

#[test]
fn e7_what_cannot_be_saved_or_restored_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let run = |words: &[&str]| {
        let output = std::process::Command::new(binary()).args(words).output().expect("svcd starts");
        svcd_tests::Done::from(output).failed()
    };
    fs::write(dir.path().join("text"), "no snapshot").expect("it can be written");
    let data = path("none");
    for (words, said) in [
        (["snapshot", "save", &path("out"), "--data-dir", &data], "there is no server's store in"),
        (["snapshot", "save", &path(""), "--data-dir", &data], "is a directory"),
        (["snapshot", "restore", &path("text"), "--data-dir", &data], "it is no snapshot of svcd"),
        (["snapshot", "restore", &path("missing"), "--data-dir", &data], "cannot be restored: No such file"),
        (["server", "--snapshot-keep", "3", "--data-dir", &data], "--snapshot-every"),
        (["server", "--snapshot-every", "1w", "--data-dir", &data], "with s, m, h or d"),
    ] {
        let told = run(&words);
        assert!(told.contains(said), "{words:?}: {told}");
        assert!(!dir.path().join("none").exists(), "{words:?}");
    }
}
