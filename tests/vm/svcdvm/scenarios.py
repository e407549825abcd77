"""What people do with machines, and what must be true afterwards. Each returns what is worth a word beside its time."""

import subprocess
import time

from .cluster import eventually
from .footprint import footprint
from .machine import Failed
from .traffic import Traffic

DNS = "10.96.0.10"
NAME = "web.default.svc.cluster.local"
MAIN = "systemctl show -P MainPID svcd-agent"


def refused(site):
    """What only a look at a machine can tell stops the play before anything is changed anywhere."""
    walled, other = site.workers[-1], site.work / "svcd-for-arm"
    program = site.binary.read_bytes()
    # The machine that an ELF file is for (e_machine); b7 is aarch64.
    other.write_bytes(program[:18] + b"\xb7\x00" + program[20:])
    # A wall that only lets ssh in, from here on.
    walled.run("ufw allow ssh && ufw --force enable")
    remember(site)
    expect_refusal(site, "ufw allow 30000:32767/tcp comment svcd")
    expect_refusal(site, "and {} is for aarch64".format(other), svcd_binary=other, svcd_firewall="ignore")
    walled.run("cp /usr/lib/os-release /run/os-release; sed -i 's/^ID=.*/ID=alpine/; s/^PRETTY_NAME=.*/PRETTY_NAME=Alpine/' "
               "/run/os-release; mount --bind /run/os-release /usr/lib/os-release")
    expect_refusal(site, f"{walled.name} runs Alpine. Use Debian 12 or newer", svcd_firewall="ignore")
    walled.run("umount /usr/lib/os-release; rm /run/os-release")
    expect_as_before(site)


def expect_refusal(site, words, **variables):
    """site.yml ends with an error that has these words, however it wraps them."""
    code, text = site.playbooks.attempt("site.yml", **variables)
    if code == 0 or words not in " ".join(text.split()):
        raise Failed(f"site.yml ended with {code}, and should have said '{words}':\n{text}")


def install(site):
    """E5: machines become a cluster, through their firewalls. Looking first (check mode) changes nothing."""
    if not site.before:
        remember(site)
    site.playbooks.run("site.yml", "--check", svcd_firewall="open")
    expect_as_before(site)
    started = time.monotonic()
    site.playbooks.run("site.yml", svcd_firewall="open")
    spent = time.monotonic() - started
    site.wait_until_ready()
    return f"site.yml took {spent:.1f} s"


def again(site):
    """E5: a second run changes nothing, nor would a third."""
    started = time.monotonic()
    changed = site.playbooks.run("site.yml")
    spent = time.monotonic() - started
    if changed or (changed := site.playbooks.run("site.yml", "--check")):
        raise Failed(f"a further run changed {changed} things")
    return f"site.yml took {spent:.1f} s"


def reach(site):
    """A Service answers at every machine's port, at its virtual address and by its name, from every machine."""
    site.cluster.apply_demo()
    eventually("a pod on every worker", lambda: len(site.cluster.pods()) == len(site.workers), 300)
    address = site.cluster.virtual_address()
    for machine in site.machines:
        for other in site.machines:
            site.wait_until_answered(machine, f"http://{other.address}:30080/")
        eventually(f"the name on {machine.name}", lambda: found(machine) == address, 60)
        # Until every worker's pod has answered.
        nodes = {worker.name for worker in site.workers}
        eventually(f"{machine.name} sees {nodes}", lambda: nodes.issubset(answering(machine, address)), 120)


def found(machine):
    """What the cluster's DNS says on a machine."""
    return machine.run(f"dig +short +time=2 +tries=1 @{DNS} {NAME}").strip()


def answering(machine, address):
    """The nodes whose pods answer behind an address."""
    text = machine.run(f"for n in 1 2 3 4 5 6 7 8 9 10; do curl -sS --max-time 10 http://{address}/; done")
    return {line.removeprefix("node: ") for line in text.splitlines() if line.startswith("node: ")}


def half_installed(site):
    """A run that broke off in the middle: the next one mends it."""
    broken = site.workers[-1]
    broken.run("cd /usr/local/bin; systemctl stop svcd-agent; head -c 5000 svcd >half; mv half svcd; rm /etc/default/svcd-agent")
    site.playbooks.run("site.yml")
    site.wait_until_ready()
    site.wait_until_answered(broken, f"http://{site.cluster.virtual_address()}/")


def watchdog(site):
    """An svcd that hangs is started anew by systemd; until then and afterwards its machine forwards, and its pods go on."""
    worker, address, pods = site.workers[0], site.cluster.virtual_address(), site.cluster.pods()
    hung = worker.run(MAIN).strip()
    started = time.monotonic()
    worker.run(f"kill -STOP {hung}")
    answering(worker, address)
    eventually("another process in place of one that hangs", lambda: worker.run(MAIN).strip() not in (hung, "0"), 240)
    spent = time.monotonic() - started
    site.wait_until_ready()
    if site.cluster.pods() != pods:
        raise Failed(f"pods were {pods} and are {site.cluster.pods()}")
    return f"another process after {spent:.0f} s"


def power_cut(site):
    """E6: the control plane's power is cut. Services go on without it, nothing acknowledged is lost, all comes back."""
    address, pods = site.cluster.virtual_address(), site.cluster.pods()
    client = site.workers[0]
    site.cluster.kubectl("create", "configmap", "kept", "--from-literal=written=last")
    site.control_plane.cut_power()
    answering(client, address)
    started = time.monotonic()
    site.control_plane.start()
    site.control_plane.wait_for_ssh(started + 600)
    booted = time.monotonic()
    site.wait_until_ready()
    ready = time.monotonic()
    if "last" not in site.cluster.kubectl("get", "configmap", "kept", "-o", "yaml"):
        raise Failed("what was written last is lost")
    eventually("the same pods, none restarted", lambda: site.cluster.pods() == pods, 120)
    site.wait_until_answered(site.control_plane, f"http://{address}/")
    return f"log-in after {booted - started:.0f} s, all Ready {ready - booted:.1f} s later"


def worker_cut(site):
    """E6: a worker's power is cut."""
    worker, address = site.workers[-1], site.cluster.virtual_address()
    worker.cut_power()
    if len(site.workers) > 1:
        site.wait_until_answered(site.control_plane, f"http://{address}/")
    started = time.monotonic()
    worker.start()
    worker.wait_for_ssh(started + 600)
    nodes = {worker.name for worker in site.workers}
    site.wait_until_ready()
    eventually("its pod answers again", lambda: nodes.issubset(answering(site.control_plane, address)), 300)
    site.wait_until_answered(worker, f"http://{address}/")


def upgrade(site):
    """One node after another gets another binary, and no client notices."""
    address, pods = site.cluster.virtual_address(), site.cluster.pods()
    other = site.work / "svcd-other"
    # The same program, but another file: what stands after an executable's last section is nobody's.
    other.write_bytes(site.binary.read_bytes() + b"another")
    clients = [Traffic(machine, address) for machine in (site.control_plane, site.workers[0])]
    started = time.monotonic()
    site.playbooks.run("upgrade.yml", svcd_binary=other)
    spent = time.monotonic() - started
    counts = [client.end() for client in clients]
    for machine in site.machines:
        machine.run("cmp /proc/$(systemctl show -P MainPID 'svcd-*.service' | head -1)/exe /usr/local/bin/svcd")
    if site.cluster.pods() != pods:
        raise Failed(f"pods were {pods} and are {site.cluster.pods()}")
    if changed := site.playbooks.run("site.yml", svcd_binary=other):
        raise Failed(f"a run after the upgrade changed {changed} things")
    new, kept = (sum(column) for column in zip(*counts))
    return f"upgrade.yml took {spent:.1f} s; {new} new connections, none refused; {kept} requests on kept ones"


def backup(site):
    """E7: a snapshot is taken to this machine, for nobody else to read, and is whole."""
    site.playbooks.run("backup.yml")
    saved = list((site.work / "backups").iterdir())
    if len(saved) != 1 or saved[0].parent.stat().st_mode & 0o077:
        raise Failed(f"backup.yml left {saved}, or left the directory open")
    subprocess.run([site.binary, "snapshot", "list", saved[0].parent], check=True, stdout=subprocess.DEVNULL)
    return f"{saved[0].stat().st_size} bytes"


def reset(site):
    """Every machine is as it was."""
    code, text = site.playbooks.attempt("reset.yml")
    if code == 0 or "svcd_reset=true" not in text:
        raise Failed(f"reset.yml must ask first:\n{text}")
    site.playbooks.run("reset.yml", svcd_reset="true")
    expect_as_before(site)
    if changed := site.playbooks.run("reset.yml", svcd_reset="true"):
        raise Failed(f"a second reset changed {changed} things")


def remember(site):
    """Takes every machine's footprint."""
    site.before = {machine.name: footprint(machine) for machine in site.machines}


def expect_as_before(site):
    """The machines' footprints are those that were taken first."""
    for machine in site.machines:
        before, now = site.before[machine.name], footprint(machine)
        if before != now:
            gone, new = before - now, now - before
            raise Failed(f"{machine.name} is not as before: gone {sorted(gone)}, new {sorted(new)}")


ALL = {step.__name__: step for step in (
    refused, install, again, reach, half_installed, watchdog, power_cut, worker_cut, upgrade, backup, reset)}
