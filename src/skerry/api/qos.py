"""The quality of service class of a pod. Pure.

Source: kubernetes pkg/apis/core/v1/helper/qos/qos.go (1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.quantity import parse_quantity

_LISTS = ("initContainers", "containers")


def qos_class(pod: Object) -> str:
    """``Guaranteed``, ``Burstable`` or ``BestEffort``."""
    spec = pod.get("spec") or {}
    containers = [item for name in _LISTS for item in spec.get(name) or []]
    has_any, is_guaranteed = False, bool(containers)
    for container in containers:
        resources = container.get("resources") or {}
        requests, limits = _amounts(resources.get("requests")), _amounts(resources.get("limits"))
        has_any = has_any or bool(requests or limits)
        complete = set(limits) == {"cpu", "memory"}
        same = all(requests.get(name, limit) == limit for name, limit in limits.items())
        is_guaranteed = is_guaranteed and complete and same
    if is_guaranteed:
        return "Guaranteed"
    return "Burstable" if has_any else "BestEffort"


def _amounts(resources: Mapping[str, Any] | None) -> dict[str, int]:
    """CPU and memory that are not zero, in nano units; what cannot be read counts as absent."""
    found: dict[str, int] = {}
    for name in ("cpu", "memory"):
        text = (resources or {}).get(name)
        try:
            amount = parse_quantity(text).nano if text is not None else 0
        except ValueError:
            amount = 0
        if amount:
            found[name] = amount
    return found
