"""Topology spread constraints: how many of the selected pods are in each domain. Pure.

Source of behaviour: kubernetes pkg/scheduler/framework/plugins/podtopologyspread (v1.36).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.affinity import fits_affinity
from skerry.api.gvk import Object
from skerry.api.meta import is_deleting
from skerry.base.values import Struct
from skerry.controllers.objects import labels_of, matches
from skerry.controllers.scheduler.views import NodeView
from skerry.controllers.tolerance import HARD_EFFECTS, taints_of, untolerated

UNEVEN = "node(s) didn't match pod topology spread constraints"
UNLABELLED = f"{UNEVEN} (missing required label)"


class Constraint(Struct, frozen=True):
    """One constraint with the pods counted.

    Args:
        key: topology key.
        max_skew: how many more than in the emptiest domain there may be.
        counts: value of the key → pods.
        fewest: pods in the emptiest domain.
        own: 1 when the pod counts itself.
    """

    key: str
    max_skew: int
    counts: Mapping[str, int]
    fewest: int
    own: int


def constraints(pod: Object, views: Sequence[NodeView], *, hard: bool) -> list[Constraint]:
    """The pod's constraints, counted: those that must hold, or those that are only wished for."""
    action = "DoNotSchedule" if hard else "ScheduleAnyway"
    asked = [
        item
        for item in pod["spec"].get("topologySpreadConstraints") or ()
        if (item.get("whenUnsatisfiable") or "DoNotSchedule") == action
    ]
    if not asked:
        return []
    keys = [item["topologyKey"] for item in asked]
    labelled = [node for node in views if all(node.label(key) is not None for key in keys)]
    return [_count(pod, item, labelled) for item in asked]


def _count(pod: Object, asked: Mapping[str, Any], nodes: Sequence[NodeView]) -> Constraint:
    key, selector = asked["topologyKey"], _selector(pod, asked)
    counts: Counter[str] = Counter()
    for node in nodes:
        if not _counts(pod, asked, node):
            continue
        value = node.label(key)
        assert value is not None
        counts[value] += sum(
            other["metadata"]["namespace"] == pod["metadata"]["namespace"]
            and not is_deleting(other)
            and matches(selector, labels_of(other))
            for other in node.pods
        )
    is_wide = len(counts) >= int(asked.get("minDomains") or 1)
    return Constraint(
        key=key,
        max_skew=int(asked["maxSkew"]),
        counts=counts,
        fewest=min(counts.values(), default=0) if is_wide else 0,
        own=int(matches(selector, labels_of(pod))),
    )


def _selector(pod: Object, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The label selector with the pod's own values of ``matchLabelKeys`` added."""
    selector = dict(asked.get("labelSelector") or {})
    labels = labels_of(pod)
    own = {key: labels[key] for key in asked.get("matchLabelKeys") or () if key in labels}
    return {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), **own}}


def _counts(pod: Object, asked: Mapping[str, Any], node: NodeView) -> bool:
    if (asked.get("nodeAffinityPolicy") or "Honor") == "Honor" and not fits_affinity(pod["spec"], node.node):
        return False
    if (asked.get("nodeTaintsPolicy") or "Ignore") == "Honor":
        return untolerated(taints_of(node.node), pod["spec"].get("tolerations") or (), HARD_EFFECTS) is None
    return True


def obstacle(found: Sequence[Constraint], node: NodeView) -> str:
    """Why the pod cannot be on the node; empty when it can."""
    for constraint in found:
        value = node.label(constraint.key)
        if value is None:
            return UNLABELLED
        if constraint.counts.get(value, 0) + constraint.own - constraint.fewest > constraint.max_skew:
            return UNEVEN
    return ""


def crowding(found: Sequence[Constraint], node: NodeView) -> float:
    """How full the node's domains are for constraints that are only wished for; less is better."""
    total = 0.0
    for constraint in found:
        value = node.label(constraint.key)
        full = constraint.counts.get(value or "", 0)
        total += full if value is not None else 2 * max(constraint.counts.values(), default=0)
    return total
