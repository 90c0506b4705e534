"""From objects to causes: what an object's status means for a person. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skerry.api.causes import CauseTable, Finding
from skerry.api.gvk import Object

_IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"}


def why_node(node: Object) -> list[Finding]:
    """What is wrong with a node, from its conditions."""
    table = CauseTable()
    subject = f"node/{_name(node)}"
    conditions = _conditions(node)
    found = []
    ready = conditions.get("Ready", {})
    if ready.get("status") != "True":
        since = ready.get("lastTransitionTime") or "its creation"
        found.append(
            table.found(
                "SK-N001",
                subject,
                f"Ready is {ready.get('status', 'absent')} since {since}: {ready.get('message', '')}",
            )
        )
    for kind in ("DiskPressure", "MemoryPressure", "PIDPressure"):
        if conditions.get(kind, {}).get("status") == "True":
            found.append(table.found("SK-N002", subject, f"{kind}: {conditions[kind].get('message', '')}"))
    if conditions.get("IdentityClash", {}).get("status") == "True":
        found.append(table.found("SK-N003", subject, conditions["IdentityClash"].get("message", "")))
    return found


def why_pod(pod: Object, node: Object | None) -> list[Finding]:
    """What is wrong with a pod, from its status and its node's."""
    table = CauseTable()
    subject = f"pod/{_name(pod)}"
    found = _unscheduled(pod, subject, table)
    for status in _container_statuses(pod):
        found += _container(status, subject, table)
    if node is not None and _conditions(node).get("Ready", {}).get("status") != "True":
        found.append(table.found("SK-P007", subject, f"node {_name(node)} is not Ready"))
    if not found and pod.get("status", {}).get("phase") in ("Running", "Pending"):
        found += _not_ready(pod, subject, table)
    return found


def why_device(device: Object, model: Object | None, status: Object | None) -> list[Finding]:
    """What is wrong with a device, from its spec, its model and its DeviceStatus."""
    table = CauseTable()
    subject = f"device/{_name(device)}"
    spec = device.get("spec", {})
    if not spec.get("nodeName"):
        return [table.found("SK-D001", subject, "spec.nodeName is empty")]
    if model is None:
        name = spec.get("deviceModelRef", {}).get("name", "")
        return [table.found("SK-D002", subject, f'DeviceModel "{name}" not found')]
    known = {item.get("name") for item in model.get("spec", {}).get("properties", [])}
    properties = spec.get("properties", [])
    found = [
        table.found("SK-D006", subject, f'property "{item.get("name")}" is not in model {_name(model)}')
        for item in properties
        if item.get("name") not in known
    ]
    state = (status or {}).get("status", {})
    if str(state.get("state", "")).lower() in ("offline", "unhealthy"):
        found.append(
            table.found(
                "SK-D003", subject, f"state is {state['state']}, last online {state.get('lastOnlineTime') or 'never'}"
            )
        )
    twins = {item.get("propertyName"): item for item in state.get("twins", [])}
    if not any(twin.get("reported", {}).get("value") for twin in twins.values()):
        found.append(table.found("SK-D004", subject, "no property has a reported value"))
    return found + _unmet(properties, twins, subject, table)


def _unmet(
    properties: Iterable[Mapping[str, Any]], twins: Mapping[Any, Any], subject: str, table: CauseTable
) -> list[Finding]:
    found = []
    for item in properties:
        wanted = (item.get("desired") or {}).get("value")
        reported = twins.get(item.get("name"), {}).get("reported", {}).get("value")
        if wanted not in (None, "") and reported not in (None, "") and not _is_same(wanted, reported):
            found.append(table.found("SK-D005", subject, f"{item['name']}: wanted {wanted}, device has {reported}"))
    return found


def _is_same(wanted: str, reported: str) -> bool:
    try:
        return abs(float(wanted) - float(reported)) < 1e-6 * max(1.0, abs(float(wanted)))
    except ValueError:
        return wanted == reported


def _unscheduled(pod: Object, subject: str, table: CauseTable) -> list[Finding]:
    scheduled = _conditions(pod).get("PodScheduled", {})
    if not pod.get("spec", {}).get("nodeName") and scheduled.get("status") == "False":
        return [table.found("SK-P001", subject, scheduled.get("message", ""))]
    return []


def _container(status: Mapping[str, Any], subject: str, table: CauseTable) -> list[Finding]:
    where = f"{subject} container {status.get('name')}"
    waiting = status.get("state", {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    last = status.get("lastState", {}).get("terminated") or status.get("state", {}).get("terminated") or {}
    if last.get("reason") == "OOMKilled":
        return [table.found("SK-P008", where, f"killed at {last.get('finishedAt')}")]
    if reason in _IMAGE_REASONS:
        return [table.found("SK-P003", where, f"{reason}: {message}")]
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return [table.found(_code_of_start(reason, message), where, f"{reason}: {message}")]
    if reason == "FailedMount":
        return [table.found("SK-P005", where, message)]
    if reason == "CrashLoopBackOff":
        ended = f"exit code {last.get('exitCode')}" if last else "no exit code known"
        return [table.found("SK-P002", where, f"{status.get('restartCount', 0)} restarts, last {ended}")]
    return []


def _code_of_start(reason: str, message: str) -> str:
    """Why a container could not be made or started."""
    if "has no command" in message:
        return "SK-P006"
    lowered = message.lower()
    if reason == "CreateContainerConfigError" and ("configmap" in lowered or "secret" in lowered):
        return "SK-P004"
    return "SK-P010"


def _not_ready(pod: Object, subject: str, table: CauseTable) -> list[Finding]:
    return [
        table.found("SK-P009", f"{subject} container {status.get('name')}", "running, but not ready")
        for status in pod.get("status", {}).get("containerStatuses", [])
        if "running" in status.get("state", {}) and not status.get("ready")
    ]


def _container_statuses(pod: Object) -> list[Mapping[str, Any]]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _conditions(obj: Object) -> dict[str, dict[str, Any]]:
    return {item.get("type", ""): item for item in obj.get("status", {}).get("conditions", [])}


def _name(obj: Object) -> str:
    return str(obj.get("metadata", {}).get("name", ""))
