"""Pods as no API server should let them pass: nothing leaves its directory, and no pod harms another."""

import copy
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.edge.desk import Desk, pod

from skerry.testing.fakeruntime import FakeEngine, FakeImages, FakeRuntime

pytestmark = pytest.mark.timeout(90)
COUNT = 12
HOOK = {"exec": {"command": ["true"]}}
PROBE = {"httpGet": {"path": "/", "port": "web", "httpHeaders": [{"name": "a", "value": "b"}]}, "periodSeconds": 1}
ENV = [
    {"name": "A", "value": "1"},
    {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
]
FULL: dict[str, Any] = {
    "env": ENV,
    "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s", "optional": True}}],
    "ports": [{"name": "web", "containerPort": 80, "hostPort": 80}],
    "lifecycle": {"postStart": HOOK, "preStop": HOOK},
    "livenessProbe": PROBE,
    "readinessProbe": {"grpc": {"port": 5000}, "periodSeconds": 1},
    "startupProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
    "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}, {"name": "p", "mountPath": "/p"}],
    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}},
    "securityContext": {"capabilities": {"add": ["X"]}, "seccompProfile": {"type": "RuntimeDefault"}},
}
SOURCES = [
    {"configMap": {"name": "c", "items": [{"key": "k", "path": "k"}]}},
    {"serviceAccountToken": {"path": "t"}},
    {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
]
SPEC: dict[str, Any] = {
    "initContainers": [{"name": "init", "image": "i", "command": ["/bin/sh", "-c", "exit 0"]}],
    "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "p", "projected": {"sources": SOURCES}}],
    "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a"]}],
    "dnsConfig": {"options": [{"name": "ndots", "value": "1"}], "searches": ["a"]},
    "readinessGates": [{"conditionType": "x/y"}],
    "securityContext": {"fsGroup": 1, "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]},
    "activeDeadlineSeconds": 1000,
    "terminationGracePeriodSeconds": 1,
}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    engine = FakeEngine()
    desk = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine))
    config = {"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": {"k": "v"}}
    await desk.objects.put("default/configmap/c", config)
    await desk.roster.start()
    yield desk
    await desk.close()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every member and item of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def broken(found: dict[str, Any], path: tuple[Any, ...], how: str) -> dict[str, Any]:
    """The document with one place missing, null, empty or of another type."""
    changed = copy.deepcopy(found)
    at: Any = changed
    for key in path[:-1]:
        at = at[key]
    if how == "missing":
        del at[path[-1]]
    else:
        at[path[-1]] = {"null": None, "text": "", "list": [], "object": {}}[how]
    return changed


async def test_a_pod_with_any_field_missing_or_empty_harms_no_other(desk: Desk) -> None:
    whole = pod(container=FULL, **SPEC)
    chance = random.Random(11)
    cases = [(path, how) for path in places(whole["spec"]) for how in ("missing", "null", "text", "list", "object")]
    for number, (path, how) in enumerate(chance.sample(cases, COUNT)):
        found = broken(whole, ("spec", *path), how)
        found["spec"]["nodeName"] = "edge-1"
        found["metadata"] = whole["metadata"] | {"name": f"bad-{number}", "uid": f"bad-{number}"}
        await desk.objects.put(f"default/pod/bad-{number}", found)
    await desk.objects.put("default/pod/web", pod())
    await desk.until(lambda: "running" in desk.state())
    for worker in desk.roster.pods():
        assert worker["metadata"]["name"].startswith(("bad-", "web"))
    for number in range(COUNT):
        await desk.objects.delete(f"default/pod/bad-{number}")
    await desk.until(lambda: [each["metadata"]["name"] for each in desk.roster.pods()] == ["web"])


@pytest.mark.parametrize(
    "changed",
    [
        {"metadata": {"uid": "../../escaped"}},
        {"metadata": {"uid": ".."}},
        {"metadata": {"namespace": "../up"}},
        {"metadata": {"name": "a/b"}},
        {"container": {"name": "../../../escaped"}},
        {"container": {"name": ""}},
    ],
)
async def test_names_that_leave_their_directory_are_not_taken(desk: Desk, changed: dict[str, Any]) -> None:
    found = pod(container=changed.get("container", {}))
    found["metadata"] |= changed.get("metadata", {})
    await desk.objects.put("default/pod/bad", found)
    await desk.objects.put("default/pod/web", pod(name="web", uid="u9"))
    await desk.until(lambda: "running" in desk.state())
    assert [each["metadata"]["uid"] for each in desk.roster.pods()] == ["u9"]
    assert not list(desk.directory.parent.rglob("escaped*"))
