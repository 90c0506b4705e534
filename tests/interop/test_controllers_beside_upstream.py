"""The same objects under our control loops and under upstream's: the same pods and the same words in every status.

``SKERRY_KUBE_CONTROLLER_MANAGER`` and ``SKERRY_KUBE_SCHEDULER`` name the programs.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.interop.judges import Bench
from tests.interop.kubelet import ENDS_NOTE

from skerry.api import gvk
from skerry.api.gvk import Object, Resource
from skerry.base import json
from skerry.kube.ports import KubeApi
from skerry.testing.site import until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

QUIET_S = 8.0
"""A cluster that did not change for so long has settled."""
SHOWN = (
    gvk.DEPLOYMENTS, gvk.REPLICASETS, gvk.STATEFULSETS, gvk.DAEMONSETS, gvk.REPLICATIONCONTROLLERS, gvk.JOBS, gvk.PDBS,
    gvk.PODS, gvk.ENDPOINTSLICES, gvk.ENDPOINTS, gvk.PERSISTENTVOLUMECLAIMS, gvk.CONTROLLERREVISIONS,
)  # fmt: skip
_MOVING = ("Time", "Timestamp", "IP", "resourceVersion", "uid", "managedFields", "Hash")
_ADDRESS = re.compile(r"10\.10\d\.\d+\.\d+")
_SUFFIX = re.compile(r"-[bcdfghjklmnpqrstvwxz0-9]{4,10}(?=-|$|\")")


def pod_template(app: str, *, ends: str = "", **spec: Any) -> Object:
    container = {"name": "c", "image": "registry.example/nothing:1", "ports": [{"name": "http", "containerPort": 80}]}
    notes = {ENDS_NOTE: ends} if ends else {}
    return {"metadata": {"labels": {"app": app}, "annotations": notes}, "spec": {"containers": [container], **spec}}


def workload(name: str, **spec: Any) -> Object:
    selector = {"matchLabels": {"app": name}}
    return {"metadata": {"name": name}, "spec": {"selector": selector, "template": pod_template(name), **spec}}


def job(name: str, ends: str, **spec: Any) -> Object:
    template = pod_template(name, ends=ends, restartPolicy="Never")
    return {"metadata": {"name": name}, "spec": {"template": template, **spec}}


INDEXED: dict[str, Any] = {"completionMode": "Indexed", "completions": 3, "parallelism": 2}
LED = {"successPolicy": {"rules": [{"succeededCount": 1}]}}
FIRST: tuple[tuple[Resource, Object], ...] = (
    (gvk.DEPLOYMENTS, workload("web", replicas=3)),
    (gvk.DEPLOYMENTS, workload("once", replicas=2, strategy={"type": "Recreate"})),
    (gvk.STATEFULSETS, workload("db", replicas=3, serviceName="db")),
    (gvk.STATEFULSETS, workload("par", replicas=2, serviceName="par", podManagementPolicy="Parallel",
                                ordinals={"start": 4})),
    (gvk.DAEMONSETS, workload("agent")),
    (gvk.REPLICATIONCONTROLLERS, {"metadata": {"name": "rc"}, "spec": {
        "replicas": 2, "selector": {"app": "rc"}, "template": pod_template("rc")}}),
    (gvk.JOBS, job("good", "Succeeded", completions=4, parallelism=2)),
    (gvk.JOBS, job("bad", "Failed", backoffLimit=0)),
    (gvk.JOBS, job("parts", "Succeeded", **INDEXED)),
    (gvk.JOBS, job("lost-parts", "Failed", **INDEXED, backoffLimitPerIndex=0)),
    (gvk.JOBS, job("led", "Succeeded", **{**INDEXED, "parallelism": 1}, **LED)),
    (gvk.JOBS, job("later", "Succeeded", suspend=True)),
    (gvk.PDBS, {"metadata": {"name": "web"}, "spec": {"maxUnavailable": "30%", "selector": {
        "matchLabels": {"app": "web"}}}}),
    (gvk.PDBS, {"metadata": {"name": "db"}, "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "db"}}}}),
    (gvk.SERVICES, {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [
        {"name": "a", "port": 80, "targetPort": "http"}, {"name": "b", "port": 81, "targetPort": 8081}]}}),
    (gvk.SERVICES, {"metadata": {"name": "db"}, "spec": {
        "clusterIP": "None", "selector": {"app": "db"}, "ports": [{"port": 80}], "publishNotReadyAddresses": True}}),
)  # fmt: skip
IMAGE = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "registry.example/nothing:2"}]}}}}
THEN: tuple[tuple[Resource, str, Object], ...] = (
    (gvk.DEPLOYMENTS, "web", IMAGE),
    (gvk.DEPLOYMENTS, "once", IMAGE),
    (gvk.STATEFULSETS, "db", {"spec": {**IMAGE["spec"], "updateStrategy": {"rollingUpdate": {"partition": 1}}}}),
    (gvk.STATEFULSETS, "par", {"spec": {"replicas": 1}}),
    (gvk.DAEMONSETS, "agent", IMAGE),
    (gvk.REPLICATIONCONTROLLERS, "rc", {"spec": {"replicas": 1}}),
    (gvk.JOBS, "later", {"spec": {"suspend": False}}),
)


def plain(value: Any) -> Any:
    """A value without what differs from run to run: times, addresses, uids; hashes and random names cut off."""
    if isinstance(value, dict):
        kept = {key: plain(item) for key, item in value.items() if not key.endswith(_MOVING) and key != "nodeName"}
        return {key: item for key, item in kept.items() if item not in (None, [], {}, "")}
    if isinstance(value, list):
        return sorted((plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    return _ADDRESS.sub("10.x", _SUFFIX.sub("-*", value)) if isinstance(value, str) else value


def shown(obj: Object) -> Any:
    """What of an object is compared."""
    meta = obj["metadata"]
    owners = [(owner["kind"], _SUFFIX.sub("-*", owner["name"])) for owner in meta.get("ownerReferences") or ()]
    labels = sorted(key for key in meta.get("labels") or ())
    body = {key: obj[key] for key in ("status", "subsets", "endpoints", "ports", "revision") if key in obj}
    if obj["kind"] == "Pod":
        state = obj["status"]
        body = {"phase": state["phase"], "hostname": obj["spec"].get("hostname"),
                "image": obj["spec"]["containers"][0]["image"], "finalizers": meta.get("finalizers")}  # fmt: skip
    return plain({"kind": obj["kind"], "name": meta["name"], "owners": owners, "labels": labels, **body})


async def snapshot(api: KubeApi) -> list[str]:
    """Everything in the namespace, comparable."""
    lines = []
    for resource in SHOWN:
        for obj in (await api.list(resource, namespace="default")).items:
            if obj["metadata"]["name"] != "kubernetes":
                lines.append(json.dumps(shown(obj), sort_keys=True).decode())
    return sorted(lines)


async def settled(api: KubeApi) -> list[str]:
    """The snapshot once it has not changed for a while."""
    async with asyncio.timeout(180):
        before, since_s = await snapshot(api), asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - since_s < QUIET_S:
            await asyncio.sleep(0.5)
            now = await snapshot(api)
            if now != before:
                before, since_s = now, asyncio.get_running_loop().time()
    return before


async def outcome(directory: Path, *, upstream: bool) -> list[list[str]]:
    """The snapshots after each step."""
    async with AsyncExitStack() as stack:
        bench = Bench(directory, controllers="-*" if upstream else "*")
        await bench.start(stack)
        if upstream:
            await bench.run(stack, bench.controller_manager())
            await bench.run(stack, bench.scheduler())
        await bench.run(stack, bench.hollow_nodes(2))
        api = bench.api

        async def account() -> str:
            await api.get(gvk.SERVICEACCOUNTS, "default", namespace="default")
            return ""

        await until(account, within_s=60)
        for resource, obj in FIRST:
            await api.create(resource, obj, namespace="default")
        first = await settled(api)
        for resource, name, patch in THEN:
            await api.patch(resource, name, patch, patch_type="strategic", namespace="default")
        return [first, await settled(api)]


async def test_the_same_objects_come_to_the_same_end(tmp_path: Path) -> None:
    theirs = await outcome(tmp_path / "theirs", upstream=True)
    ours = await outcome(tmp_path / "ours", upstream=False)
    for step, (we, they) in enumerate(zip(ours, theirs, strict=True), 1):
        only_ours = sorted(set(we) - set(they))
        only_theirs = sorted(set(they) - set(we))
        assert (only_ours, only_theirs) == ([], []), f"step {step}:\n" + "\n".join(
            [*(f"+ {line}" for line in only_ours), *(f"- {line}" for line in only_theirs)]
        )
        assert len(we) == len(they)
