"""The network of the machines: a bridge in the namespace that this program runs in, with a tap for each machine.

It refuses to work anywhere but in namespaces of its own, where it is the first process.
"""

import os
import subprocess

BRIDGE = "vmbr0"
HOST = "192.168.56.1"


def build(names):
    """The bridge with the host's own address, and a tap for each name."""
    if os.getpid() != 1:
        raise SystemExit("start this with tests/vm/run: it makes the namespaces")
    _ip("link set lo up")
    _ip(f"link add {BRIDGE} type bridge")
    _ip(f"address add {HOST}/24 dev {BRIDGE}")
    _ip(f"link set {BRIDGE} up")
    for name in names:
        _ip(f"tuntap add dev {tap(name)} mode tap")
        _ip(f"link set {tap(name)} master {BRIDGE} up")


def tap(name):
    """The tap of a machine; link names have at most 15 characters."""
    return f"t-{name}"[:15]


def _ip(words):
    subprocess.run(["ip", *words.split()], check=True)
