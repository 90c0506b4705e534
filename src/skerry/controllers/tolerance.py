"""Taints, tolerations and node affinity: whether a pod may be on a node. Pure.

Source of behaviour: k8s.io/component-helpers/scheduling/corev1 (v1.36).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.controllers.objects import labels_of, matches_expression

HARD_EFFECTS = ("NoSchedule", "NoExecute")
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether one toleration covers one taint."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


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


def matches_term(term: Mapping[str, Any], node: Object) -> bool:
    """Whether a node selector term fits; an empty one fits nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    labels, named = labels_of(node), {"metadata.name": node["metadata"]["name"]}
    return all(matches_expression(e, labels) for e in expressions) and all(matches_expression(f, named) for f in fields)


def fits_affinity(spec: Mapping[str, Any], node: Object) -> bool:
    """Whether ``nodeSelector`` and the required node affinity of a pod spec allow the node."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = _node_affinity(spec).get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(matches_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def affinity_score(spec: Mapping[str, Any], node: Object) -> int:
    """Sum of the weights of the preferred terms that fit."""
    preferred = _node_affinity(spec).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return sum(int(item["weight"]) for item in preferred if matches_term(item["preference"], node))


def _node_affinity(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return (spec.get("affinity") or {}).get("nodeAffinity") or {}
