"""What people do with kubectl, each as a story of its own."""

from __future__ import annotations

import asyncio

import pytest
from tests.component.kubectls import Kubectl, files, kubectl, version

__all__ = ["files", "kubectl", "version"]

pytestmark = pytest.mark.timeout(60)

CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: conf, labels: {app: web}}
data: {color: blue}
"""

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: "busybox:1", ports: [{containerPort: 80}], env: [{name: A, value: "1"}]}
"""


async def test_apply_patch_label_delete(kubectl: Kubectl) -> None:
    assert await kubectl("apply", "-f", "-", text=CONFIG) == "configmap/conf created\n"
    assert await kubectl("apply", "-f", "-", text=CONFIG) == "configmap/conf unchanged\n"
    changed = CONFIG.replace("blue", "red")
    assert "-  color: blue" in await kubectl("diff", "-f", "-", text=changed, code=1)
    assert "(server dry run)" in await kubectl("apply", "--dry-run=server", "-f", "-", text=changed)
    assert await kubectl("apply", "-f", "-", text=changed) == "configmap/conf configured\n"
    assert await kubectl("get", "cm", "conf", "-o", "jsonpath={.data.color}") == "red"
    assert "labeled" in await kubectl("label", "cm", "conf", "tier=x")
    assert "annotate" in await kubectl("annotate", "cm", "conf", "note=y")
    for kind, patch in (
        ("strategic", '{"data":{"a":"1"}}'),
        ("merge", '{"data":{"b":"2"}}'),
        ("json", '[{"op":"add","path":"/data/c","value":"3"}]'),
    ):
        assert "patched" in await kubectl("patch", "cm", "conf", f"--type={kind}", "-p", patch)
    assert await kubectl("get", "cm", "-l", "tier=x", "-o", "name") == "configmap/conf\n"
    described = await kubectl("describe", "cm", "conf")
    for part in ("color:", "red", "tier=x"):
        assert part in described
    assert "replaced" in await kubectl("replace", "-f", "-", text=CONFIG)
    assert "deleted" in await kubectl("delete", "-f", "-", text=CONFIG)
    assert "NotFound" in await kubectl("get", "cm", "conf", code=1)


async def test_server_side_apply(kubectl: Kubectl) -> None:
    async def applied(text: str, *words: str, code: int = 0) -> str:
        return await kubectl("apply", "--server-side", "-f", "-", *words, text=text, code=code)

    assert await applied(CONFIG) == "configmap/conf serverside-applied\n"
    await kubectl("annotate", "cm", "conf", "note=x")
    await kubectl("patch", "cm", "conf", "--type=merge", "-p", '{"data":{"color":"green","size":"1"}}')
    red = CONFIG.replace("blue", "red")
    refused = await applied(red, code=1)
    for part in ('conflict with "kubectl-patch" using v1: .data.color', "--force-conflicts"):
        assert part in refused
    assert "serverside-applied (server dry run)" in await applied(red, "--force-conflicts", "--dry-run=server")
    assert "green" in await kubectl("get", "cm", "conf", "-o", "jsonpath={.data}")
    assert "serverside-applied" in await applied(red, "--force-conflicts")
    assert await kubectl("get", "cm", "conf", "-o", "jsonpath={.data}") == '{"color":"red","size":"1"}'
    assert "-  color: red" in await kubectl("diff", "--server-side", "-f", "-", text=CONFIG, code=1)
    shown = await kubectl("get", "cm", "conf", "-o", "yaml", "--show-managed-fields")
    for part in ("manager: kubectl", "operation: Apply", "manager: kubectl-annotate", "f:size: {}"):
        assert part in shown
    assert "managedFields" not in await kubectl("get", "cm", "conf", "-o", "yaml")
    assert "deleted" in await kubectl("delete", "cm", "conf")
    assert "created" in await kubectl("apply", "-f", "-", text=DEPLOYMENT)
    assert "serverside-applied" in await applied(DEPLOYMENT.replace("busybox:1", "busybox:2"))
    removed = DEPLOYMENT.replace(', env: [{name: A, value: "1"}]', "").replace("busybox:1", "busybox:3")
    assert "serverside-applied" in await applied(removed)
    container = "jsonpath={.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env}"
    assert await kubectl("get", "deploy", "web", "-o", container) == "busybox:3 "


async def test_unknown_fields_are_refused(kubectl: Kubectl) -> None:
    wrong = DEPLOYMENT.replace("replicas: 1", "replcas: 1")
    assert 'unknown field "spec.replcas"' in await kubectl("apply", "-f", "-", text=wrong, code=1)
    assert 'unknown field "spec.replcas"' in await kubectl("create", "-f", "-", text=wrong, code=1)


async def test_typed_creates(kubectl: Kubectl) -> None:
    await kubectl("create", "configmap", "c", "--from-literal=x=1")
    await kubectl("create", "secret", "generic", "s", "--from-literal=password=p")
    await kubectl("create", "namespace", "n")
    await kubectl("create", "deployment", "d", "--image=busybox:1", "--replicas=2")
    await kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    await kubectl("create", "rolebinding", "rb", "--role=r", "--user=bob")
    await kubectl("expose", "deployment", "d", "--port=80")
    await kubectl("run", "p", "--image=busybox:1")
    assert await kubectl("get", "secret", "s", "-o", "jsonpath={.data.password}") == "cA=="
    assert await kubectl("get", "deploy", "d", "-o", "jsonpath={.spec.replicas}") == "2"
    assert (await kubectl("create", "token", "default")).count(".") == 2
    assert await kubectl("auth", "can-i", "create", "pods") == "yes\n"
    assert "skerry-admin" in await kubectl("auth", "whoami") or kubectl.version == "1.27"
    assert "Forbidden" in await kubectl("--as=bob", "get", "secrets", code=1)
    assert "p" in await kubectl("--as=bob", "get", "pod", "p", "-o", "name")


async def test_workloads(kubectl: Kubectl) -> None:
    assert await kubectl("apply", "-f", "-", text=DEPLOYMENT) == "deployment.apps/web created\n"
    assert "scaled" in await kubectl("scale", "deploy/web", "--replicas=3")
    assert await kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "3"
    assert "image updated" in await kubectl("set", "image", "deploy/web", "app=busybox:2")
    assert (
        await kubectl("apply", "-f", "-", text=DEPLOYMENT.replace('"1"', '"2"')) == "deployment.apps/web configured\n"
    )
    template = "jsonpath={.spec.template.spec.containers[0]['image','env']}"
    assert "busybox:1" in await kubectl("get", "deploy", "web", "-o", template)
    waiting = await kubectl.start("rollout", "status", "deploy/web", "--timeout=30s")
    assert waiting.stdout is not None
    assert b"Waiting for deployment" in await asyncio.wait_for(waiting.stdout.readline(), 20)
    generation = await kubectl("get", "deploy", "web", "-o", "jsonpath={.metadata.generation}")
    status = (
        f'{{"status":{{"observedGeneration":{generation},"replicas":1,"updatedReplicas":1,"readyReplicas":1,'
        '"availableReplicas":1,"conditions":[{"type":"Available","status":"True"}]}}'
    )
    condition = await kubectl.start("wait", "--for=condition=Available", "deploy/web", "--timeout=30s")
    await kubectl("patch", "deploy", "web", "--subresource=status", "--type=merge", "-p", status)
    rolled, _ = await asyncio.wait_for(waiting.communicate(), 20)
    assert b"successfully rolled out" in rolled
    met, _ = await asyncio.wait_for(condition.communicate(), 20)
    assert met == b"deployment.apps/web condition met\n"
    described = await kubectl("describe", "deploy", "web")
    for part in ("busybox:1", "RollingUpdate", "app=web"):
        assert part in described
    assert "restarted" in await kubectl("rollout", "restart", "deploy/web")
    assert "deleted" in await kubectl("delete", "deploy", "web")


async def test_columns(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", text=DEPLOYMENT)
    await kubectl("run", "p", "--image=busybox:1")
    await kubectl("create", "cm", "c")
    node = '{"apiVersion":"v1","kind":"Node","metadata":{"name":"edge-1","labels":{"node-role.kubernetes.io/edge":""}}}'
    await kubectl("create", "-f", "-", text=node)
    assert await kubectl.header("pods") == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert await kubectl.header("pods", "-o", "wide") == [
        "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES",
    ]  # fmt: skip
    assert await kubectl.header("pods", "-A") == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert await kubectl.header("deploy", "-o", "wide") == [
        "NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR",
    ]  # fmt: skip
    assert await kubectl.header("nodes", "-o", "wide") == [
        "NAME", "STATUS", "ROLES", "AGE", "VERSION", "INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION",
        "CONTAINER-RUNTIME",
    ]  # fmt: skip
    assert await kubectl.header("svc") == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    assert await kubectl.header("cm") == ["NAME", "DATA", "AGE"]
    assert await kubectl.header("ns") == ["NAME", "STATUS", "AGE"]
    assert await kubectl.header("crd") == ["NAME", "CREATED AT"]
    row = (await kubectl("get", "nodes", "--no-headers")).split()
    assert row[:3] == ["edge-1", "Unknown", "edge"]
    everything = await kubectl("get", "all")
    for part in ("pod/p", "deployment.apps/web", "service/kubernetes"):
        assert part in everything


async def test_watches(kubectl: Kubectl) -> None:
    watching = await kubectl.start("get", "cm", "-w", "-o", "name")
    assert watching.stdout is not None
    await kubectl("create", "cm", "first")
    assert await asyncio.wait_for(watching.stdout.readline(), 20) == b"configmap/first\n"
    await kubectl("label", "cm", "first", "a=b")
    assert await asyncio.wait_for(watching.stdout.readline(), 20) == b"configmap/first\n"
    watching.terminate()
    await watching.communicate()


async def test_discovery(kubectl: Kubectl) -> None:
    resources = await kubectl("api-resources", "--api-group=apps")
    for part in ("deployments", "replicasets", "daemonsets"):
        assert part in resources
    assert "devices.kubeedge.io/v1beta1" in await kubectl("api-versions")
    assert "strategy" in await kubectl("explain", "deployment.spec")
    assert "containers" in await kubectl("explain", "pod.spec", "--recursive")
    assert "deviceModelRef" in await kubectl("explain", "device.spec")
    assert "Server Version" in await kubectl("version")
    assert "is running at" in await kubectl("cluster-info")
    assert "the server doesn't have a resource type" in await kubectl("get", "nonsense", code=1)


async def test_custom_resources(kubectl: Kubectl) -> None:
    model = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: thermometer}
spec:
  protocol: modbus
  properties:
  - {name: temperature, type: INT, accessMode: ReadOnly}
"""
    assert "created" in await kubectl("apply", "-f", "-", text=model)
    assert "unchanged" in await kubectl("apply", "-f", "-", text=model)
    assert "configured" in await kubectl("apply", "-f", "-", text=model.replace("ReadOnly", "ReadWrite"))
    access = "jsonpath={.spec.properties[0].accessMode}"
    assert await kubectl("get", "devicemodel", "thermometer", "-o", access) == "ReadWrite"
    assert "unknown field" in await kubectl("apply", "-f", "-", text=model + "  bogus: 1\n", code=1)
    assert "deleted" in await kubectl("delete", "devicemodel", "thermometer")


async def test_logs(kubectl: Kubectl) -> None:
    await kubectl("run", "p", "--image=busybox:1")
    binding = '{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"edge-1"}}'
    await kubectl("create", "--raw", "/api/v1/namespaces/default/bindings", "-f", "-", text=binding)
    following = await kubectl.start("logs", "-f", "p")
    assert following.stdout is not None
    assert await asyncio.wait_for(following.stdout.readline(), 20) == b"first line\n"
    kubectl.nodes.more.set()
    rest, _ = await asyncio.wait_for(following.communicate(), 20)
    assert (rest, following.returncode) == (b"last line\n", 0)
    assert await kubectl("logs", "p", "--tail=1") == "first line\nlast line\n"


async def test_drain_and_pod_deletion(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", text='{"apiVersion":"v1","kind":"Node","metadata":{"name":"edge-1"}}')
    assert "cordoned" in await kubectl("cordon", "edge-1")
    assert "tainted" in await kubectl("taint", "node", "edge-1", "a=b:NoSchedule")
    assert "uncordoned" in await kubectl("uncordon", "edge-1")
    assert "edge-1" in await kubectl("describe", "node", "edge-1")
    await kubectl("run", "p", "--image=busybox:1")
    assert "Pending" in await kubectl("describe", "pod", "p")
    assert "deleted" in await kubectl("delete", "pod", "p", "--timeout=20s")
    await kubectl("create", "ns", "gone")
    deleting = await kubectl.start("delete", "ns", "gone")
    assert deleting.stdout is not None
    assert b"deleted" in await asyncio.wait_for(deleting.stdout.readline(), 20)
    assert await kubectl("get", "ns", "gone", "-o", "jsonpath={.status.phase}") == "Terminating"
    body = '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"gone"},"spec":{"finalizers":[]}}'
    await kubectl("replace", "--raw", "/api/v1/namespaces/gone/finalize", "-f", "-", text=body)
    await asyncio.wait_for(deleting.communicate(), 20)
    assert deleting.returncode == 0
