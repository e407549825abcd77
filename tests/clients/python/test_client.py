"""The Python client against the server. KUBECONFIG names a cluster; every test has a namespace of its own."""

import json
import logging
import os
import sys
import threading
import time
import unittest
import uuid

from kubernetes import client, config, dynamic, informer, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

# The client logs what its own stopping does to its connections.
logging.disable()
# What is waited for comes within this time, or not at all.
PATIENCE = 30


def eventually(what, check):
    """Polls until check() is true."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {PATIENCE} s")
        time.sleep(0.02)


class Case(unittest.TestCase):
    """A test with a namespace."""

    @classmethod
    def setUpClass(cls):
        config.load_kube_config()

    def setUp(self):
        self.core = client.CoreV1Api()
        self.apps = client.AppsV1Api()
        self.ns = f"python-{uuid.uuid4().hex[:8]}"
        self.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=self.ns)))
        self.addCleanup(self.core.delete_namespace, self.ns)

    def refused(self, code, reason, call, *args, **kwargs):
        """The call must fail like this; its Status."""
        with self.assertRaises(ApiException) as caught:
            call(*args, **kwargs)
        status = json.loads(caught.exception.body)
        self.assertEqual((caught.exception.status, status["reason"]), (code, reason), status)
        return status


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data=data)


def service(name):
    return client.V1Service(
        metadata=client.V1ObjectMeta(name=name),
        spec=client.V1ServiceSpec(selector={"app": name}, ports=[client.V1ServicePort(port=80, target_port="http")]),
    )


def deployment(name):
    labels = {"app": name}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="svcd.io/echo")]),
    )
    spec = client.V1DeploymentSpec(replicas=0, selector=client.V1LabelSelector(match_labels=labels), template=template)
    return client.V1Deployment(metadata=client.V1ObjectMeta(name=name), spec=spec)


class TypedClient(Case):
    def test_create_read_list_replace_delete(self):
        made = self.core.create_namespaced_service(self.ns, service("web"))
        self.assertEqual(made.spec.type, "ClusterIP")
        self.assertEqual(made.spec.ports[0].target_port, "http")
        self.assertIsNotNone(made.metadata.creation_timestamp.tzinfo)
        made.metadata.labels = {"a": "b"}
        self.core.replace_namespaced_service("web", self.ns, made)
        self.refused(409, "Conflict", self.core.replace_namespaced_service, "web", self.ns, made)
        listed = self.core.list_namespaced_service(self.ns, label_selector="a in (b,c)")
        self.assertEqual([item.metadata.name for item in listed.items], ["web"])
        self.refused(409, "AlreadyExists", self.core.create_namespaced_service, self.ns, service("web"))
        options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="not-its-uid"))
        self.refused(409, "Conflict", self.core.delete_namespaced_service, "web", self.ns, body=options)
        self.core.delete_namespaced_service("web", self.ns)
        self.refused(404, "NotFound", self.core.read_namespaced_service, "web", self.ns)

    def test_patches_of_every_type(self):
        self.apps.create_namespaced_deployment(self.ns, deployment("d"))
        container = {"name": "c", "env": [{"name": "A", "value": "1"}]}
        strategic = {"spec": {"template": {"spec": {"containers": [container]}}}}
        apply = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"applied": "yes"}}}
        for kind, patch, options in [
            ("strategic-merge-patch+json", strategic, {}),
            ("merge-patch+json", {"metadata": {"labels": {"merged": "yes"}}}, {}),
            ("json-patch+json", [{"op": "add", "path": "/metadata/labels/added", "value": "yes"}], {}),
            ("apply-patch+yaml", apply, {"field_manager": "python", "force": True}),
        ]:
            with self.subTest(kind):
                content = f"application/{kind}"
                self.apps.patch_namespaced_deployment("d", self.ns, patch, _content_type=content, **options)
        read = self.apps.read_namespaced_deployment("d", self.ns)
        self.assertEqual(read.metadata.labels, {"merged": "yes", "added": "yes", "applied": "yes"})
        spec = read.spec.template.spec
        self.assertEqual((spec.containers[0].image, spec.containers[0].env[0].value), ("svcd.io/echo", "1"))

    def test_bad_input_names_the_field(self):
        bad = service("web")
        bad.spec.ports[0].port = 70000
        status = self.refused(422, "Invalid", self.core.create_namespaced_service, self.ns, bad)
        self.assertIn("spec.ports[0].port", [cause["field"] for cause in status["details"]["causes"]])

    def test_pages(self):
        for at in range(7):
            self.core.create_namespaced_config_map(self.ns, config_map(f"m{at}"))
        names, token = [], None
        while True:
            page = self.core.list_namespaced_config_map(self.ns, limit=3, _continue=token)
            names += [item.metadata.name for item in page.items if item.metadata.name.startswith("m")]
            token = page.metadata._continue
            if not token:
                break
        self.assertEqual(names, [f"m{at}" for at in range(7)])

    def test_watch_tells_what_happens(self):
        listed = self.core.list_namespaced_config_map(self.ns)
        self.core.create_namespaced_config_map(self.ns, config_map("w", a="1"))
        self.core.patch_namespaced_config_map("w", self.ns, {"data": {"a": "2"}}, _content_type="application/merge-patch+json")
        self.core.delete_namespaced_config_map("w", self.ns)
        seen = []
        stream = watch.Watch().stream(
            self.core.list_namespaced_config_map, self.ns, field_selector="metadata.name=w",
            resource_version=listed.metadata.resource_version, timeout_seconds=PATIENCE)
        for event in stream:
            seen.append((event["type"], event["object"].data["a"]))
            if event["type"] == "DELETED":
                break
        self.assertEqual(seen, [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")])

    def test_informer_keeps_a_cache(self):
        told = []
        shared = informer.SharedInformer(self.core.list_namespaced_config_map, namespace=self.ns)
        shared.add_event_handler("ADDED", lambda object: told.append(object.metadata.name))
        shared.start()
        self.addCleanup(shared.stop)
        # The first may have come with the list; the second comes by the watch, which stop() can end only once it is open.
        for name in ["first", "second"]:
            self.core.create_namespaced_config_map(self.ns, config_map(name))
            eventually(f"the informer is told of {name}", lambda: name in told)

    def test_scale_status_evict_and_token(self):
        self.apps.create_namespaced_deployment(self.ns, deployment("d"))
        scaled = self.apps.patch_namespaced_deployment_scale(
            "d", self.ns, {"spec": {"replicas": 1}}, _content_type="application/merge-patch+json")
        self.assertEqual(scaled.spec.replicas, 1)
        def pods():
            return self.core.list_namespaced_pod(self.ns, label_selector="app=d").items

        eventually("a pod", pods)
        eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pods()[0].metadata.name))
        self.core.create_namespaced_pod_eviction(eviction.metadata.name, self.ns, eviction)
        request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
        eventually("the default account", lambda: self.core.list_namespaced_service_account(self.ns).items)
        token = self.core.create_namespaced_service_account_token("default", self.ns, request)
        self.assertTrue(token.status.token.startswith("eyJ"))

    def test_create_from_dict_and_version(self):
        manifest = {"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": self.ns}},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "two", "namespace": self.ns}, "spec": {
                "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {
                    "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "svcd.io/echo"}]}}}},
        ]}
        utils.create_from_dict(client.ApiClient(), manifest)
        self.core.read_namespaced_config_map("one", self.ns)
        self.apps.read_namespaced_replica_set("two", self.ns)
        self.assertEqual(client.VersionApi().get_code().major, "1")
        self.assertIn("apps", [group.name for group in client.ApisApi().get_api_versions().groups])


class DynamicClient(Case):
    def setUp(self):
        super().setUp()
        self.dynamic = dynamic.DynamicClient(client.ApiClient())

    def test_everything_is_discovered(self):
        for version, kind, namespaced in [
            ("v1", "Service", True), ("v1", "Node", False), ("apps/v1", "Deployment", True),
            ("discovery.k8s.io/v1", "EndpointSlice", True), ("rbac.authorization.k8s.io/v1", "ClusterRole", False),
        ]:
            found = self.dynamic.resources.get(api_version=version, kind=kind)
            self.assertEqual(found.namespaced, namespaced, kind)
            self.dynamic.get(found)

    def test_create_patch_apply_watch_delete(self):
        maps = self.dynamic.resources.get(api_version="v1", kind="ConfigMap")
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "data": {"a": "1"}}
        version = maps.create(body=body, namespace=self.ns).metadata.resourceVersion
        for kind in ["strategic-merge-patch+json", "merge-patch+json"]:
            patch = {"metadata": {"name": "d"}, "data": {"b": kind}}
            patched = maps.patch(body=patch, namespace=self.ns, content_type=f"application/{kind}")
            self.assertEqual(patched.data.to_dict(), {"a": "1", "b": kind})
        with self.assertRaises(ConflictError):
            other = {**body, "data": {"a": "2"}}
            maps.server_side_apply(body=other, namespace=self.ns, field_manager="python")
        applied = maps.server_side_apply(body=other, namespace=self.ns, field_manager="python", force_conflicts=True)
        self.assertEqual(applied.data["a"], "2")
        maps.delete(name="d", namespace=self.ns)
        seen = []
        for event in maps.watch(namespace=self.ns, name="d", resource_version=version, timeout=PATIENCE):
            seen.append(event["type"])
            if event["type"] == "DELETED":
                break
        self.assertEqual(seen, ["MODIFIED", "MODIFIED", "MODIFIED", "DELETED"])

    def test_subresources(self):
        deployments = self.dynamic.resources.get(api_version="apps/v1", kind="Deployment")
        body = client.ApiClient().sanitize_for_serialization(deployment("d"))
        deployments.create(body={"apiVersion": "apps/v1", "kind": "Deployment", **body}, namespace=self.ns)
        scale = deployments.scale.get(name="d", namespace=self.ns)
        self.assertEqual((scale.kind, scale.spec.replicas or 0), ("Scale", 0))
        status = deployments.status.get(name="d", namespace=self.ns)
        self.assertEqual(status.kind, "Deployment")


class LeaderElection(Case):
    def test_one_leads_at_a_time(self):
        for lock in [ConfigMapLock, LeaseLock]:
            with self.subTest(lock.__name__):
                self.contend(lock)

    def contend(self, lock):
        leading, over = [], threading.Event()

        def candidate(name):
            def lead(*_):
                leading.append(name)
                over.wait(PATIENCE)

            election = electionconfig.Config(
                lock(lock.__name__.lower(), self.ns, name), lease_duration=4, renew_deadline=3, retry_period=1,
                onstarted_leading=lead, onstopped_leading=lambda: None)
            leaderelection.LeaderElection(election).run()

        for name in ["a", "b", "c"]:
            threading.Thread(target=candidate, args=(name,), daemon=True).start()
        eventually("somebody leads", lambda: leading)
        # Longer than a lease: the others have tried and lost.
        time.sleep(5)
        self.assertEqual(len(leading), 1)
        over.set()


if __name__ == "__main__":
    passed = unittest.main(exit=False).result.wasSuccessful()
    # Candidates cannot be told to stop. Python may abort in its own end while one of them prints: end without it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if passed else 1)
