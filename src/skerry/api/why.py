"""From objects to causes: what an object's status means for a person. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skerry.api import devices
from skerry.api.causes import CauseTable, Finding
from skerry.api.gvk import Object

BUILT_IN_PROTOCOLS = frozenset({"modbus"})
"""Protocols of devices that every node speaks without a mapper of its own."""
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
    if conditions.get("DeliveryBacklog", {}).get("status") == "True":
        found.append(table.found("SK-N005", subject, conditions["DeliveryBacklog"].get("message", "")))
    return found


def no_node(name: str) -> list[Finding]:
    """There is no such Node object."""
    return [CauseTable().found("SK-N004", f"node/{name}", f'Node "{name}" not found')]


def why_pod(pod: Object, node: Object | None, events: Sequence[Object] = ()) -> list[Finding]:
    """What is wrong with a pod, from its status, its node's, and the Events about it."""
    table = CauseTable()
    subject = f"pod/{_name(pod)}"
    found = _unscheduled(pod, subject, table) + _given_up(pod, subject, table) + _not_ended(pod, events, subject, table)
    for status in _container_statuses(pod):
        found += _container(status, subject, table)
    bound_to = pod.get("spec", {}).get("nodeName")
    if node is None and bound_to:
        found.append(table.found("SK-P013", subject, f'it is bound to node "{bound_to}", which does not exist'))
    if node is not None and _conditions(node).get("Ready", {}).get("status") != "True":
        found.append(table.found("SK-P007", subject, f"node {_name(node)} is not Ready"))
    if pod.get("status", {}).get("phase", "Pending") == "Pending" and not _has_begun(pod):
        found += _held_back(events, subject, table)
    if not found and pod.get("status", {}).get("phase") in ("Running", "Pending"):
        found += _not_ready(pod, subject, table)
    return found


def why_device(device: Object, model: Object | None, status: Object | None, node: Object | None) -> list[Finding]:
    """What is wrong with a device, from its spec, its model, its DeviceStatus and its node."""
    table = CauseTable()
    subject = f"device/{_name(device)}"
    spec = device.get("spec", {})
    if not spec.get("nodeName"):
        return [table.found("SK-D001", subject, "spec.nodeName is empty")]
    elsewhere = _node_of_device(spec["nodeName"], node, subject, table)
    if model is None:
        name = spec.get("deviceModelRef", {}).get("name", "")
        return [*elsewhere, table.found("SK-D002", subject, f'DeviceModel "{name}" not found')]
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
        found += elsewhere or _silent(device, model, subject, table)
    else:
        found += elsewhere
    return found + _unmet(properties, twins, subject, table)


def _node_of_device(name: str, node: Object | None, subject: str, table: CauseTable) -> list[Finding]:
    if node is None:
        return [table.found("SK-D007", subject, f'Node "{name}" not found')]
    if _conditions(node).get("Ready", {}).get("status") != "True":
        return [table.found("SK-D009", subject, f"node {name} is not Ready")]
    return []


def _silent(device: Object, model: Object, subject: str, table: CauseTable) -> list[Finding]:
    """Why nothing was reported: nobody speaks the protocol, or another reason that the cloud does not know."""
    protocol = devices.view(device, model).protocol
    if protocol.lower() in BUILT_IN_PROTOCOLS:
        return [table.found("SK-D004", subject, "no property has a reported value")]
    text = f'protocol "{protocol}" is not built in, and no mapper for it has reported anything'
    return [table.found("SK-D008", subject, text)]


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
        if "persistentvolumeclaim" in scheduled.get("message", "").lower():
            return [table.found("SK-P011", subject, scheduled["message"])]
        return [table.found("SK-P001", subject, scheduled.get("message", ""))]
    return []


def _given_up(pod: Object, subject: str, table: CauseTable) -> list[Finding]:
    """A pod that failed by decision of its node, such as NodeAffinity, OutOfcpu or Evicted."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed" or not status.get("reason"):
        return []
    return [table.found("SK-P014", subject, f"{status['reason']}: {status.get('message', '')}")]


def _not_ended(pod: Object, events: Sequence[Object], subject: str, table: CauseTable) -> list[Finding]:
    told = [event for event in events if event.get("reason") == "FailedKillPod"]
    if not told or not pod.get("metadata", {}).get("deletionTimestamp"):
        return []
    return [table.found("SK-P015", subject, str(max(told, key=_told_at).get("message") or ""))]


def _told_at(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


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


def _has_begun(pod: Object) -> bool:
    """Whether a container runs or ran: what held the pod back before that is over."""
    states = [status.get("state") or {} for status in _container_statuses(pod)]
    return any("running" in state or "terminated" in state for state in states)


def _held_back(events: Sequence[Object], subject: str, table: CauseTable) -> list[Finding]:
    """From the newest of the Events by which nodes tell that a pod cannot begin."""
    telling = [event for event in events if event.get("reason") in ("FailedMount", "FailedCreatePodSandBox")]
    if not telling:
        return []
    newest = max(telling, key=_told_at)
    message = str(newest.get("message") or "")
    lowered = message.lower()
    if newest["reason"] == "FailedCreatePodSandBox":
        code = "SK-P012"
    elif "persistentvolumeclaim" in lowered:
        code = "SK-P011"
    elif "not found" in lowered and ("configmap" in lowered or "secret" in lowered):
        code = "SK-P004"
    else:
        code = "SK-P005"
    return [table.found(code, subject, message)]


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
