"""Machines that qemu emulates: their own kernel, disk and clock. Slow without KVM, and as real as it gets here."""

import os
import re
import signal
import subprocess

from . import network
from .machine import IMAGE, Machine

MEMORY = os.environ.get("SVCD_VM_MEMORY", "384")


def accelerator():
    """KVM where the processor has it (a /dev/kvm alone is not enough: some only run kernels made for them)."""
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        has_it = re.search(r"\b(vmx|svm)\b", cpuinfo.read())
    return "kvm" if has_it and os.access("/dev/kvm", os.W_OK) else "tcg,tb-size=128"


class Qemu(Machine):
    """One machine under qemu. Its disk is a copy, made as it is written to, of the image's."""

    def __init__(self, name, address, work):
        super().__init__(name, address, work)
        self.disk = work / f"{name}.qcow2"
        self.process = None

    def start(self):
        if not self.disk.exists():
            base = ["-b", IMAGE / "disk.raw", "-F", "raw"]
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *base, self.disk], check=True)
        with open(f"{self.log}.qemu", "ab") as words:
            self.process = subprocess.Popen(self._line(), stdin=subprocess.DEVNULL, stdout=words, stderr=words)

    def _line(self):
        mac = f"52:54:00:56:00:{int(self.address.rpartition('.')[2]):02x}"
        kernel = (f"root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet systemd.hostname={self.name} "
                  f"ip={self.address}:::255.255.255.0::eth1:off")
        return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
                "-accel", accelerator(), "-cpu", "max", "-smp", "1", "-m", MEMORY,
                "-kernel", IMAGE / "vmlinuz", "-initrd", IMAGE / "initrd.img", "-append", kernel,
                "-drive", f"if=virtio,format=qcow2,file={self.disk}",
                "-chardev", f"file,id=console,path={self.log},append=on", "-serial", "chardev:console",
                # The same address on each, as Vagrant's providers have it.
                "-netdev", "user,id=nat", "-device", "virtio-net-pci,netdev=nat,romfile=",
                "-netdev", f"tap,id=lan,ifname={network.tap(self.name)},script=no,downscript=no",
                "-device", f"virtio-net-pci,netdev=lan,romfile=,mac={mac}"]

    def cut_power(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ended(self):
        return self.process.poll() is not None
