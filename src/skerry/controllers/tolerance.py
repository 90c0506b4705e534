"""Taints: whether a pod may be on a node. Pure.

Source of behaviour: k8s.io/component-helpers/scheduling/corev1 (v1.36).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.tolerations import tolerates

HARD_EFFECTS = ("NoSchedule", "NoExecute")
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"


def untolerated(
    taints: Iterable[Mapping[str, Any]], tolerations: Iterable[Mapping[str, Any]], effects: Collection[str]
) -> Mapping[str, Any] | None:
    """The first taint with one of ``effects`` that nothing tolerates."""
    tolerations = tuple(tolerations)
    for taint in taints:
        if taint.get("effect") in effects and not any(tolerates(t, taint) for t in tolerations):
            return taint
    return None


def taints_of(node: Object) -> list[dict[str, Any]]:
    """The node's taints; cordoning counts as one, also before the taint is written."""
    spec = node.get("spec") or {}
    taints: list[dict[str, Any]] = list(spec.get("taints") or ())
    if spec.get("unschedulable") and all(taint.get("key") != UNSCHEDULABLE for taint in taints):
        taints.append({"key": UNSCHEDULABLE, "effect": "NoSchedule"})
    return taints
