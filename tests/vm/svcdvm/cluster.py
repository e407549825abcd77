"""What a person with kubectl and curl sees of the cluster."""

import json
import subprocess
import time

from .machine import Failed

DEMO = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: echo, image: svcd.io/echo, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
"""


class Cluster:
    """The cluster behind a kubeconfig."""

    def __init__(self, kubeconfig):
        self.kubeconfig = kubeconfig

    def kubectl(self, *words, stdin=None, timeout=60):
        """What kubectl prints."""
        line = ["kubectl", "--kubeconfig", self.kubeconfig, "--request-timeout=30s", *words]
        done = subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise Failed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def apply_demo(self):
        """A pod on every worker, and a Service in front of them."""
        self.kubectl("apply", "-f", "-", stdin=DEMO)

    def nodes(self):
        """Each node's address and whether it is Ready."""
        found = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        return {node["metadata"]["name"]: _seen(node["status"]) for node in found}

    def pods(self):
        """Each ready pod of the demo: its node, its address, how often it was restarted."""
        found = json.loads(self.kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]
        return {pod["metadata"]["uid"]: (pod["spec"]["nodeName"], pod["status"].get("podIP"), _restarts(pod))
                for pod in found if _is(pod["status"], "Ready")}

    def virtual_address(self):
        """The Service's."""
        return self.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")


def _seen(status):
    addresses = {a["type"]: a["address"] for a in status["addresses"]}
    return addresses["InternalIP"], _is(status, "Ready")


def _is(status, condition):
    return any(c["type"] == condition and c["status"] == "True" for c in status.get("conditions", []))


def _restarts(pod):
    return sum(c["restartCount"] for c in pod["status"].get("containerStatuses", []))


def eventually(what, check, seconds):
    """Waits until check() gives something true, and returns it. A Failed on the way is just not yet."""
    deadline = time.monotonic() + seconds
    last = "never true"
    while time.monotonic() < deadline:
        try:
            if found := check():
                return found
        except (Failed, subprocess.TimeoutExpired) as error:
            last = error
        time.sleep(0.5)
    raise Failed(f"not within {seconds} s: {what} ({last})")
