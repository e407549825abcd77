//! E5: a machine is as it was once svcd has gone.

use svcd_tests::{Machine, Site, eventually};

/// What a machine's network is like; empty tables of iptables, through which everything passes, count for nothing.
fn state(machine: &Machine) -> String {
    let rules = |program: &str| {
        let saved = machine.run(program, &[]).ok();
        let own = |line: &&str| line.starts_with("-A") || (line.starts_with(':') && line.contains(" - "));
        saved.lines().filter(own).collect::<Vec<_>>().join("\n")
    };
    let ip = |words: &str| machine.run("ip", &words.split(' ').collect::<Vec<_>>()).ok();
    let sysctls = "for key in ipv4/ip_forward ipv6/conf/all/forwarding ipv4/conf/all/route_localnet \
                   ipv4/conf/all/rp_filter ipv4/conf/lo/forwarding ipv4/conf/eth0/forwarding; do \
                   cat /proc/sys/net/$key; done";
    [
        ip("-o link show"),
        ip("-o address show"),
        ip("route show table all"),
        ip("rule show"),
        rules("iptables-save"),
        rules("ip6tables-save"),
        machine.run("sh", &["-c", sysctls]).ok(),
    ]
    .join("---\n")
}

#[test]
fn e5_uninstall_leaves_a_machine_as_it_was() {
    let site = Site::new();
    let machine = site.machine("control-plane", "192.168.56.11/24");
    machine.run("iptables", &["-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP"]).ok();
    // Addresses of IPv6 are tentative at first.
    eventually("a quiet network", || match machine.run("ip", &["-o", "address", "show", "tentative"]).ok() {
        tentative if tentative.is_empty() => Ok(()),
        tentative => Err(tentative),
    });
    let before = state(&machine);
    machine.svcd("uninstall --check").ok();
    let server = machine.start("server --listen 192.168.56.11:6443 --schedulable --heartbeat 1");
    eventually("a server", || machine.token().ok_or_else(|| machine.log()));
    machine.node_is("control-plane", "True");
    machine.kubectl("create deployment web --image=svcd.io/echo --port=8080").ok();
    machine.kubectl("expose deployment web --type=NodePort").ok();
    machine.kubectl("wait --for=condition=Available deployment/web --timeout=30s").ok();
    let running = machine.svcd("uninstall").failed();
    assert!(running.contains("a server is running"), "{running}");
    drop(server);

    let done = machine.svcd("uninstall --check");
    assert_eq!(done.code, 1, "{}", done.out);
    for left in
        ["container ", "chain KUBE-SERVICES of table nat", "link svcd0", "on lo", "chain SVCD-MASQ", "store"]
    {
        assert!(done.out.contains(left), "{left}:\n{}", done.out);
    }
    machine.svcd("uninstall --keep-data").ok();
    machine.svcd("uninstall --check --keep-data").ok();
    assert_eq!(machine.svcd("uninstall --check").code, 1, "the store is still there");
    assert_eq!(state(&machine), before);
    machine.svcd("uninstall").ok();
    let done = machine.svcd("uninstall --check");
    assert_eq!((done.code, done.out.as_str()), (0, ""), "{}", done.err);
    assert!(!machine.data().exists());
    assert_eq!(state(&machine), before);
}
