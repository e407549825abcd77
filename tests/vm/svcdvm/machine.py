"""What every machine is, however it is made: a name, an address, and what is asked of it over ssh."""

import os
import pathlib
import shlex
import subprocess
import time

IMAGE = pathlib.Path(os.environ.get("SVCD_VM_IMAGE", "/nowhere"))
KEY = IMAGE / "key"
SSH = ["-i", str(KEY), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
       "-o", "ConnectTimeout=15"]


class Failed(Exception):
    """Something that should be true and is not, in words for whoever reads the test's output."""


class Machine:
    """A Debian machine with two interfaces, as Vagrant makes them: the first is a NAT with 10.0.2.15 on every machine, the
    second is on the network that all share. How it runs is its subclass's matter: `start`, `cut_power`, `ended`."""

    def __init__(self, name, address, work):
        self.name, self.address, self.work = name, address, work
        self.log = work / f"{name}.log"

    def start(self):
        """Switches the machine on."""
        raise NotImplementedError

    def cut_power(self):
        """The machine is gone from one moment to the next."""
        raise NotImplementedError

    def ended(self):
        """Whether it is off."""
        raise NotImplementedError

    def wait_for_ssh(self, deadline):
        """Until somebody can log in."""
        while True:
            try:
                return self.run("true", timeout=60)
            except (Failed, subprocess.TimeoutExpired):
                if self.ended():
                    raise Failed(f"{self.name} is not running: see {self.log}") from None
                if time.monotonic() > deadline:
                    raise Failed(f"{self.name} cannot be reached over ssh: see {self.log}") from None
                time.sleep(1)

    def ssh(self, *command):
        """The line that logs in as somebody who may do everything."""
        return ["ssh", *SSH, f"vagrant@{self.address}", *command]

    def run(self, command, timeout=120):
        """The output of a shell command, run as root."""
        done = subprocess.run(self.ssh("sudo", "sh", "-s"), input=command, capture_output=True, text=True, timeout=timeout,
                              check=False)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            raise Failed(f"{self.name}: `{command}` ended with {done.returncode}: {said}")
        return done.stdout

    def enter(self):
        """What a person types to log in."""
        return shlex.join(self.ssh())
