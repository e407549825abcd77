"""Machines that are containers: the same disk, systemd and ssh on this machine's kernel, at full speed. For work on the
playbooks; what a power cut does to a disk they cannot show."""

import subprocess
import time

from . import network
from .machine import IMAGE, Failed, Machine

NETWORK = """[Match]
Name={name}
[Network]
Address={address}
"""


def prepare(work):
    """A view of the control groups that systemd can work with, and the image's disk, in this program's own mounts."""
    for line in (["umount", "-R", "-l", "/sys/fs/cgroup"], ["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"]):
        subprocess.run(line, check=True)
    (work / "base").mkdir()
    subprocess.run(["mount", "-o", "loop,ro,noload", IMAGE / "disk.raw", work / "base"], check=True)


class Container(Machine):
    """One machine under systemd-nspawn, on a writable layer over the image."""

    def __init__(self, name, address, work):
        super().__init__(name, address, work)
        self.root = work / name / "root"
        self.process = None

    def start(self):
        if not self.root.exists():
            self._make_disk()
        # What svcd and its pods do to their own namespaces is theirs to do, as on a machine.
        line = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe", "--capability=all",
                "--system-call-filter=@default @keyring bpf", f"--machine={self.name}", f"--directory={self.root}",
                f"--network-bridge={network.BRIDGE}", f"--network-veth-extra=n-{self.name}:eth0"]
        with open(self.log, "ab") as words:
            self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
        self._plug_in_nat(time.monotonic() + 60)

    def _plug_in_nat(self, deadline):
        """systemd-nspawn leaves this end of the extra link down, and without a carrier there is no default route."""
        while subprocess.call(["ip", "link", "set", f"n-{self.name}", "up"], stderr=subprocess.DEVNULL):
            if self.ended() or time.monotonic() > deadline:
                raise Failed(f"{self.name} did not start: see {self.log}")
            time.sleep(0.1)

    def _make_disk(self):
        upper, work = self.root.parent / "upper", self.root.parent / "work"
        for directory in (upper, work, self.root):
            directory.mkdir(parents=True)
        layers = f"lowerdir={self.work / 'base'},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)
        etc = self.root / "etc"
        (etc / "hostname").write_text(self.name + "\n", encoding="utf-8")
        nat = NETWORK.format(name="eth0", address="10.0.2.15/24\nGateway=10.0.2.2")
        lan = NETWORK.format(name="host0", address=f"{self.address}/24")
        for name, text in (("50-eth0", nat), ("50-host0", lan)):
            (etc / f"systemd/network/{name}.network").write_text(text, encoding="utf-8")

    def cut_power(self):
        # The first process of the machine takes all others with it.
        for first in subprocess.check_output(["pgrep", "-P", str(self.process.pid)], text=True).split():
            subprocess.run(["kill", "-KILL", first], check=True)
        self.process.wait()

    def ended(self):
        return self.process.poll() is not None
