"""``skerry doctor`` and ``skerry why``: gather facts, let the pure deciders judge, show the findings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry.api.causes import Finding
from skerry.api.checkup import CloudFacts, EdgeFacts, MachineFacts, diagnose
from skerry.api.gvk import DEVICEMODELS, DEVICES, DEVICESTATUSES, EVENTS, NODES, PODS, Object, Resource
from skerry.api.status import ApiError, NotFound
from skerry.api.why import no_node, why_device, why_node, why_pod
from skerry.app import client, output
from skerry.app.edge_settings import NODE_FILE, read_node
from skerry.app.onsite import read_status
from skerry.app.places import data_root
from skerry.app.runtime_cri import probe_engine
from skerry.base import json
from skerry.base.errors import ConfigError
from skerry.base.files import lock_holder
from skerry.base.x509_child import ChildError
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.node.machine import disk
from skerry.edge.node.rivals import rivals
from skerry.kube.ports import KubeApi

_LINK_WORDS = (
    ("SK-L001", ("resolve", "Name or service not known")),
    ("SK-L003", ("answered 403", "answered 401", "answered 409", "revoked")),
    ("SK-L005", ("not yet valid", "has expired")),
)


def main(*, side: str, data: Path | None, as_json: bool) -> int:
    """Examine this machine. Exit code 1 when something is broken."""
    facts = asyncio.run(gather(side, data))
    return _show(diagnose(facts), as_json=as_json, healthy="nothing wrong was found on this machine")


def why(*, target: str, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """Explain one object's trouble. Exit code 1 when something is broken."""
    kind, separator, name = target.partition("/")
    if not separator or not name:
        raise ConfigError(f"{target!r} is not KIND/NAME", hint="for example pod/web, node/gate-1, device/thermometer")
    judge = _JUDGES.get(kind.lower())
    if judge is None:
        raise ConfigError(
            f"`skerry why` knows nothing about {kind!r}", hint=f"it knows: {', '.join(sorted(set(_JUDGES)))}"
        )

    async def work(api: KubeApi) -> int:
        findings = await judge(api, namespace or "default", name)
        return _show(findings, as_json=as_json, healthy=f"{target}: nothing wrong was found")

    return client.run(work, kubeconfig=kubeconfig, data=data)


async def gather(side: str, data: Path | None) -> MachineFacts:
    """Everything that ``doctor`` looks at."""
    root = data or data_root()
    cloud, edge = _directories(root)
    if side == "cloud" or (side == "auto" and (cloud / "cluster.db").exists()):
        cloud_facts = await _cloud(cloud)
    else:
        cloud_facts = None
    examine_edge = side == "edge" or (side == "auto" and ((edge / NODE_FILE).exists() or cloud_facts is None))
    place = next((path for path in (root, *root.parents) if path.exists()), Path("/"))
    total, free = disk(place)
    return MachineFacts(
        now_s=time.time(), disk_free_bytes=free, disk_total_bytes=total, data=str(root), cloud=cloud_facts,
        edge=await _edge(edge) if examine_edge else None,
    )  # fmt: skip


def _directories(root: Path) -> tuple[Path, Path]:
    """The cloud's and the agent's directory below, or at, ``root``."""
    cloud = root if (root / "cluster.db").exists() else root / "cloud"
    edge = root if (root / NODE_FILE).exists() else root / "edge"
    return cloud, edge


async def _cloud(directory: Path) -> CloudFacts:
    try:
        run = json.loads((directory / "run.json").read_bytes()) if lock_holder(directory) else None
    except (OSError, json.JsonError):
        run = None
    if run is None:
        return CloudFacts(is_running=False, answers=False)
    try:
        async with client.open_api(Path(run["kubeconfig"])) as api:
            await api.list(NODES, limit=1)
    except ApiError as exc:
        return CloudFacts(is_running=True, answers=False, answer=exc.message)
    return CloudFacts(is_running=True, answers=True)


async def _edge(directory: Path) -> EdgeFacts:
    if not (directory / NODE_FILE).exists():
        return EdgeFacts(has_joined=False, is_running=False, rivals=_rivals())
    status = read_status(directory)
    error = "" if not status["running"] or status.get("link_up") else str(status.get("why", ""))
    left_s, age_s = await _certificate(directory)
    runtime = str(status.get("runtime", ""))
    probes = await probe_engine(str(read_node(directory).get("criSocket", ""))) if runtime == "cri" else ()
    return EdgeFacts(
        has_joined=True, is_running=status["running"], link_error=error, link_code=link_code(error),
        certificate_left_s=left_s, certificate_age_s=age_s, runtime=runtime,
        engine=probes, rivals=_rivals(),
    )  # fmt: skip


async def _certificate(directory: Path) -> tuple[float | None, float]:
    try:
        found = await CertificateFiles(directory / "certs").certificate()
    except (OSError, ChildError):
        return None, 0.0
    now_s = time.time()
    return found.not_after_s - now_s, now_s - found.not_before_s


def link_code(error: str) -> str:
    """The cause that fits why the link is down; empty when it is up."""
    if not error:
        return ""
    return next((code for code, words in _LINK_WORDS if any(word in error for word in words)), "SK-L002")


def _rivals() -> Sequence[str]:
    """Other node agents among the processes of this machine."""
    return sorted({rival.name for rival in rivals()})


async def _why_pod(api: KubeApi, namespace: str, name: str) -> list[Finding]:
    pod = await api.get(PODS, name, namespace=namespace)
    node = await _maybe(api, NODES, pod.get("spec", {}).get("nodeName"), None)
    about = f"involvedObject.kind=Pod,involvedObject.uid={pod['metadata']['uid']}"
    events = (await api.list(EVENTS, namespace=namespace, field_selector=about)).items
    return why_pod(pod, node, events)


async def _why_node(api: KubeApi, namespace: str, name: str) -> list[Finding]:
    node = await _maybe(api, NODES, name, None)
    return why_node(node) if node is not None else no_node(name)


async def _why_device(api: KubeApi, namespace: str, name: str) -> list[Finding]:
    device = await api.get(DEVICES, name, namespace=namespace)
    model = await _maybe(api, DEVICEMODELS, device.get("spec", {}).get("deviceModelRef", {}).get("name"), namespace)
    node = await _maybe(api, NODES, device.get("spec", {}).get("nodeName"), None)
    return why_device(device, model, await _maybe(api, DEVICESTATUSES, name, namespace), node)


async def _maybe(api: KubeApi, resource: Resource, name: str | None, namespace: str | None) -> Object | None:
    if not name:
        return None
    try:
        return await api.get(resource, name, namespace=namespace)
    except NotFound:
        return None


_JUDGES: dict[str, Any] = {
    "pod": _why_pod, "pods": _why_pod, "po": _why_pod, "node": _why_node, "nodes": _why_node, "no": _why_node,
    "device": _why_device, "devices": _why_device,
}  # fmt: skip


def _show(findings: Sequence[Finding], *, as_json: bool, healthy: str) -> int:
    lines = []
    for finding in findings:
        mark = "BROKEN" if finding.cause.severity == "broken" else "risk  "
        lines.append(f"{mark} {finding.cause.code} {finding.subject}: {finding.cause.title}")
        lines.append(f"       seen: {finding.evidence}")
        lines.append(f"       what to do: {finding.cause.remedy}")
    output.emit({"findings": [f.to_json() for f in findings]}, as_json=as_json, text="\n".join(lines) or healthy)
    return 1 if any(finding.cause.severity == "broken" for finding in findings) else 0
