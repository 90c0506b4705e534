"""Which pod goes first when the node runs short. Pure.

Memory: pods that use more than they asked for, then the lower priority, then the larger excess; so BestEffort goes
before Burstable before Guaranteed. Disk: by priority and use. Process ids: by priority and count.
Never: static pods, and pods with a system priority. Source: kubernetes pkg/kubelet/eviction/helpers.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.api.podrequests import requests_of
from skerry.api.quantity import Quantity, parse_quantity
from skerry.base.values import Struct, field
from skerry.edge.resources.admission import has_ended
from skerry.edge.resources.pressure import DISK, MEMORY, Shortage

SYSTEM_PRIORITY = 2_000_000_000
STATIC_ANNOTATION = "kubernetes.io/config.source"
_RESOURCES = {MEMORY: "memory", DISK: "ephemeral-storage"}


class Usage(Struct, frozen=True):
    """What a pod uses now.

    Args:
        containers: of each container by its name, memory and disk (writable layer and logs) in bytes.
    """

    memory_bytes: int = 0
    disk_bytes: int = 0
    process_count: int = 0
    containers: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def ranked(pods: Sequence[Object], usage: Mapping[str, Usage], kind: str) -> list[Object]:
    """Pods that may be evicted for a pressure, first to go first.

    Args:
        usage: by pod uid; a pod without one uses nothing.
        kind: MemoryPressure, DiskPressure or PIDPressure.
    """
    candidates = [pod for pod in pods if not is_critical(pod) and not has_ended(pod)]
    return sorted(candidates, key=lambda pod: _order(pod, usage.get(_uid(pod), Usage()), kind))


def is_critical(pod: Object) -> bool:
    """Whether a pod is never evicted."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    is_static = annotations.get(STATIC_ANNOTATION, "api") != "api"
    return is_static or _priority(pod) >= SYSTEM_PRIORITY


def message(pod: Object, usage: Usage, shortage: Shortage) -> str:
    """What the pod's status and Event say, as from a kubelet."""
    resource = _RESOURCES.get(shortage.kind, "pids") if shortage.signal.endswith(".available") else "inodes"
    least, left = (_written(amount, shortage) for amount in (shortage.threshold, shortage.available))
    text = f"The node was low on resource: {resource}. Threshold quantity: {least}, available: {left}. "
    spec = pod.get("spec") or {}
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        name = str(container.get("name"))
        if resource not in _RESOURCES.values() or name not in usage.containers:
            continue
        asked = parse_quantity(((container.get("resources") or {}).get("requests") or {}).get(resource) or 0)
        used = usage.containers[name][shortage.kind == DISK]
        if used > asked.value:
            amount = _written(used, shortage)
            text += f"Container {name} was using {amount}, request is {asked}, has larger consumption of {resource}. "
    return text


def _written(amount: int, shortage: Shortage) -> str:
    return str(Quantity(amount * 10**9, "decimal" if shortage.is_of_pieces else "binary"))


def _order(pod: Object, usage: Usage, kind: str) -> tuple[Any, ...]:
    if kind not in _RESOURCES:
        return _priority(pod), -usage.process_count
    used = usage.memory_bytes if kind == MEMORY else usage.disk_bytes
    asked = requests_of(pod.get("spec") or {}).get(_RESOURCES[kind], 0)
    return used <= asked, _priority(pod), asked - used


def _priority(pod: Object) -> int:
    return int((pod.get("spec") or {}).get("priority") or 0)


def _uid(pod: Object) -> str:
    return str((pod.get("metadata") or {}).get("uid") or "")
