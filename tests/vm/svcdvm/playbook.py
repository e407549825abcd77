"""ansible-playbook on the machines, as a person types it."""

import os
import pathlib
import re
import subprocess

from .machine import KEY, SSH, Failed

ANSIBLE = pathlib.Path(__file__).resolve().parents[3] / "ansible"
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


class Playbooks:
    """The playbooks of ansible/ with one inventory. What they print is kept in the work directory."""

    def __init__(self, work, control_plane, workers, binary):
        self.work, self.count = work, 0
        self.kubeconfig = work / "kubeconfig"
        self.inventory = work / "hosts.ini"
        self.variables = {"svcd_binary": binary, "svcd_kubeconfig": self.kubeconfig, "svcd_backup_dir": work / "backups"}
        # Connections that are kept open are found by address, and other runs have machines with the same.
        self.environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_SSH_CONTROL_PATH_DIR": str(work / "ssh")}
        self.inventory.write_text(inventory(control_plane, workers), encoding="utf-8")

    def run(self, playbook, *options, timeout=1200, **variables):
        """Runs one and returns how many things it changed; raises when it fails."""
        code, text = self.attempt(playbook, *options, timeout=timeout, **variables)
        if code:
            raise Failed(f"{playbook} ended with {code}:\n{text}")
        return sum(int(changed) for _, changed, _, _ in RECAP.findall(text))

    def attempt(self, playbook, *options, timeout=1200, **variables):
        """Its exit code, and all that it prints."""
        self.count += 1
        line = ["ansible-playbook", "-i", self.inventory, playbook, *options]
        for name, value in {**self.variables, **variables}.items():
            line += ["-e", f"{name}={value}"]
        log = self.work / f"{self.count:02}-{playbook}.log"
        with open(log, "w", encoding="utf-8") as words:
            done = subprocess.run(line, cwd=ANSIBLE, stdin=subprocess.DEVNULL, stdout=words, stderr=words, timeout=timeout,
                                  env=self.environment, check=False)
        return done.returncode, log.read_text(encoding="utf-8")


def inventory(control_plane, workers):
    """What a person writes who has such machines: addresses, and nothing about interfaces."""
    def lines(machines):
        return "\n".join(f"{machine.name} ansible_host={machine.address}" for machine in machines)
    options = " ".join(SSH[2:])
    return (f"[all:vars]\nansible_user=vagrant\nansible_ssh_private_key_file={KEY}\nansible_ssh_common_args={options}\n"
            f"\n[control_plane]\n{lines([control_plane])}\n\n[workers]\n{lines(workers)}\n")
