"""The machines of one run, with what acts on them."""

from .cluster import Cluster, eventually
from .playbook import Playbooks


class Site:
    """A control plane, workers, the playbooks, and the cluster that these make."""

    def __init__(self, machines, work, binary):
        self.machines, self.work, self.binary = machines, work, binary
        self.control_plane, self.workers = machines[0], machines[1:]
        self.playbooks = Playbooks(work, self.control_plane, self.workers, binary)
        self.cluster = Cluster(self.playbooks.kubeconfig)
        self.before = {}

    def wait_until_ready(self, seconds=300):
        """Every machine a Ready node with the address on the network that all share."""
        wanted = {machine.name: (machine.address, True) for machine in self.machines}
        eventually(f"nodes {wanted}", lambda: self.cluster.nodes() == wanted, seconds)

    def wait_until_answered(self, machine, target, seconds=120):
        """What a URL answers, asked on a machine."""
        return eventually(f"{machine.name} reaches {target}", lambda: machine.run(f"curl -sS --max-time 10 {target}"), seconds)
