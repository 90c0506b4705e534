"""One pod in a few words, for people at the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import Object

_ON_THE_WAY = ("ContainerCreating", "PodInitializing")
_LONGEST_WHY = 300


def summary(pod: Object) -> dict[str, Any]:
    """Name, phase, ready containers, restarts, and ``why`` it does not run as it should: empty, or one line."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    containers = status.get("containerStatuses") or []
    return {
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name"),
        "phase": status.get("phase") or "Pending",
        "ready": sum(bool(container.get("ready")) for container in containers),
        "containers": len((pod.get("spec") or {}).get("containers") or []),
        "restarts": sum(int(container.get("restartCount") or 0) for container in containers),
        "why": _why_not(status),
    }


def _why_not(status: Mapping[str, Any]) -> str:
    found = [status] if status.get("reason") else []
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = container.get("state") or {}
        ended = state.get("terminated") or {}
        found += [state.get("waiting") or {}, ended if ended.get("exitCode") else {}]
    told = (each for each in found if each.get("message") or each.get("reason", "") not in ("", *_ON_THE_WAY))
    first = next(told, {})
    line = ": ".join(str(first[key]) for key in ("reason", "message") if first.get(key))
    return " ".join(line.split())[:_LONGEST_WHY]
