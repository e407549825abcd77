"""Clients that go on while something is done to the cluster, on one of its machines."""

from .machine import Failed

# New connections, one after another, each of which must be answered; the lines tell when one was not. With a pause: on an
# emulated processor they would leave nothing for what is tested.
NEW = """
rm -f /tmp/asked /tmp/refused
systemd-run --quiet --collect --unit=traffic-new sh -c '
    while :; do
        echo >>/tmp/asked
        curl -sS --max-time 20 -o /dev/null http://{address}/ 2>>/tmp/refused || date >>/tmp/refused
        sleep 0.1
    done'
"""
# One connection that stays: a request over it now and then, and none may need a second connection.
KEPT = """
cat >/tmp/kept.py <<'END'
import http.client, sys, time
connection = http.client.HTTPConnection("{address}", timeout=30)
connection.connect()
connection.auto_open = 0
while True:
    connection.request("GET", "/")
    connection.getresponse().read()
    open("/tmp/kept", "a").write(".")
    time.sleep(0.2)
END
rm -f /tmp/kept
systemd-run --quiet --collect --unit=traffic-kept --property=StandardError=file:/tmp/kept.error python3 /tmp/kept.py
"""
COUNT = "wc -l </tmp/asked; cat /tmp/kept 2>/dev/null | wc -c"


class Traffic:
    """Two clients on a machine: one that connects anew all the time, one that keeps its connection."""

    def __init__(self, machine, address):
        self.machine = machine
        machine.run(NEW.format(address=address) + KEPT.format(address=address))

    def counts(self):
        """How many new connections were made, and requests over the kept one."""
        new, kept = self.machine.run(COUNT).split()
        return int(new), int(kept)

    def end(self):
        """Stops both and returns the counts; raises when a connection was refused or the kept one broke."""
        counts = self.counts()
        kept = self.machine.run("systemctl is-active traffic-kept || { cat /tmp/kept.error; exit 1; }")
        self.machine.run("systemctl stop traffic-new traffic-kept")
        # Stopping it breaks off the last one, which says nothing.
        refused = self.machine.run("cat /tmp/refused")
        if refused:
            raise Failed(f"of {counts[0]} new connections some were refused: {refused} ({kept.strip()})")
        return counts
