"""Pods as no API server should let them pass: nothing leaves its directory, and no pod harms another."""

import copy
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.edge.desk import Desk, pod

from skerry.edge.pods.env import pod_objects
from skerry.edge.resources.admission import admit
from skerry.edge.resources.pressure import MEMORY
from skerry.edge.resources.ranking import ranked
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
    # A change of what they name is looked for in every pod.
    config = {"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": {"k": "new"}}
    await desk.objects.put("default/configmap/c", config)
    mounted = {"volumeMounts": [{"name": "v", "mountPath": "/c"}]}
    volumes = [{"name": "v", "configMap": {"name": "c"}}]
    await desk.objects.put("default/pod/web2", pod(name="web2", uid="u2", container=mounted, volumes=volumes))
    await desk.until(lambda: "running" in desk.state("web2"))
    desk.roster.reconnected()
    await desk.objects.delete("default/pod/web2")
    for number in range(COUNT):
        await desk.objects.delete(f"default/pod/bad-{number}")
    await desk.until(lambda: [each["metadata"]["name"] for each in desk.roster.pods()] == ["web"])


def test_whatever_is_broken_in_a_pod_is_no_matter_of_the_others() -> None:
    whole = pod(container=FULL, **SPEC)
    other = pod(name="other", uid="u2")
    amounts = {"cpu": 10_000, "memory": 1 << 40, "pods": 10}
    count = 0
    for path in places(whole["spec"]):
        for how in ("missing", "null", "text", "list", "object"):
            if len(path) == 2 and path[0] in ("containers", "initContainers", "volumes"):
                continue  # what is no container, or no volume, has no name: such a pod is not taken at all
            found = broken(whole, ("spec", *path), how)
            pod_objects(found)
            assert admit(other, [found], amounts=amounts, node={"metadata": {"name": "edge-1"}}) is None
            admit(found, [other], amounts=amounts, node={"metadata": {"name": "edge-1"}})
            ranked([found, other], {}, MEMORY)
            count += 1
    assert count > 500


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
