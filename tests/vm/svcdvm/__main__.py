"""The command line: makes the machines, runs the scenarios on them one after another, and says how long each took."""

import argparse
import os
import pathlib
import signal
import sys
import time

from . import container, network, scenarios
from .container import Container
from .machine import Failed
from .qemu import Qemu, accelerator
from .site import Site

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
# However it goes, it ends. Emulated machines on a loaded host may need most of it.
LIMIT = 5400
BOOT = 600


def main():
    """Returns the exit code."""
    options = parse()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT)
    work = pathlib.Path(os.environ["SVCD_VM_WORK"])
    site = build(options, work)
    try:
        started = time.monotonic()
        for machine in site.machines:
            machine.start()
        for machine in site.machines:
            machine.wait_for_ssh(started + BOOT)
        tell("boot", started)
        for name in options.scenarios or scenarios.ALL:
            started = time.monotonic()
            said = scenarios.ALL[name](site)
            tell(name, started, said)
    except Failed as failure:
        return failed(site, failure, options.keep)
    return 0


def parse():
    """What was typed."""
    parser = argparse.ArgumentParser(prog="tests/vm/run", description=__doc__)
    parser.add_argument("--machines", choices=["qemu", "containers"], default="qemu")
    parser.add_argument("--workers", type=int, choices=range(1, 10), default=2)
    parser.add_argument("--binary", type=pathlib.Path, default=REPOSITORY / "target/dist/svcd")
    parser.add_argument("--keep", action="store_true", help="after a failure wait, with the machines running")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO",
                        help=f"default: all, in this order: {' '.join(scenarios.ALL)}; most need install before them")
    options = parser.parse_args()
    if not options.binary.is_file():
        parser.error(f"{options.binary} is not there: make dist, or name one with --binary")
    if unknown := [name for name in options.scenarios if name not in scenarios.ALL]:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    return options


def build(options, work):
    """The machines, not started."""
    names = ["control-plane"] + [f"node{n}" for n in range(1, options.workers + 1)]
    numbers = [11] + [20 + n for n in range(1, options.workers + 1)]
    network.build(names)
    if options.machines == "containers":
        container.prepare(work)
    kind = Container if options.machines == "containers" else Qemu
    machines = [kind(name, f"192.168.56.{number}", work) for name, number in zip(names, numbers)]
    how = "containers" if kind is Container else f"qemu, {accelerator()}"
    print(f"{len(machines)} machines ({how}), binary {options.binary}, logs in {work}", flush=True)
    return Site(machines, work, options.binary.resolve())


def tell(name, started, said=None):
    """One line a step."""
    print(f"ok {name:<16} {time.monotonic() - started:7.1f} s  {said or ''}".rstrip(), flush=True)


def failed(site, failure, keep):
    """What a person needs who looks into it."""
    print(f"FAILED: {failure}\nThe logs of the machines and of every playbook are in {site.work}.", flush=True)
    if keep:
        for machine in site.machines:
            print(f"  nsenter --net=/proc/{os.environ['SVCD_VM_PID']}/ns/net {machine.enter()}")
        print("The machines run until you end this (Ctrl-C).", flush=True)
        signal.alarm(0)
        signal.pause()
    return 1


def too_long(_signal, _frame):
    """The end that nothing can put off."""
    raise Failed(f"not done within {LIMIT} s")


sys.exit(main())
