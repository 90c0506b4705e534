"""Small pure readers and builders that several control loops need: owners, conditions, pods, times.

Not here: decisions of one loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skerry.api.affinity import matches_expression
from skerry.api.gvk import Object, Resource
from skerry.api.meta import is_deleting, owner_reference, parse_rfc3339, rfc3339
from skerry.base.json import deep_copy

Labels = Mapping[str, str]


def created_s(obj: Object) -> float:
    """When the object was created; 0 when it does not say."""
    return parse_rfc3339(obj["metadata"].get("creationTimestamp")) or 0.0


def labels_of(obj: Object) -> dict[str, str]:
    """The labels; may be empty."""
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    """The annotations; may be empty."""
    return obj["metadata"].get("annotations") or {}


def matches(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a ``LabelSelector`` selects these labels. An absent one selects nothing, an empty one everything.

    For objects that were validated when they were stored: unlike ``api.selectors`` this parses and refuses nothing,
    because it runs for every pod in handlers that must not fail.

    Source: apimachinery/pkg/apis/meta/v1/helpers.go:LabelSelectorAsSelector (v1.36).
    """
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(matches_expression(item, labels) for item in selector.get("matchExpressions") or ())


def pod_selector(owner: Object) -> Mapping[str, Any] | None:
    """The selector of a workload's pods; a ReplicationController's is a plain map of labels."""
    selector: Mapping[str, Any] | None = owner["spec"].get("selector")
    return {"matchLabels": selector or {}} if owner.get("kind") == "ReplicationController" else selector


def pod_from_template(template: Mapping[str, Any], owner: Object, resource: Resource) -> Object:
    """A new Pod made from a pod template, controlled by ``owner``; named ``<owner>-<5 characters>`` by the server."""
    meta = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{owner['metadata']['name'][:57]}-",
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "annotations": dict(meta.get("annotations") or {}),
            "finalizers": list(meta.get("finalizers") or []),
            "ownerReferences": [owner_reference(owner, resource)],
        },
        "spec": deep_copy(template["spec"]),
    }


def condition_of(obj: Object, kind: str) -> dict[str, Any] | None:
    """One condition of the status."""
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == kind:
            return dict(condition)
    return None


def phase_of(pod: Object) -> str:
    """The pod's phase; Pending when it has none yet."""
    return (pod.get("status") or {}).get("phase") or "Pending"


def is_active(pod: Object) -> bool:
    """Neither finished nor being deleted."""
    return phase_of(pod) not in ("Succeeded", "Failed") and not is_deleting(pod)


def is_ready(pod: Object) -> bool:
    """Whether the Ready condition is True."""
    condition = condition_of(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


def ready_since_s(pod: Object) -> float | None:
    """When the pod became ready, None while it is not."""
    condition = condition_of(pod, "Ready")
    if condition is None or condition.get("status") != "True":
        return None
    return parse_rfc3339(condition.get("lastTransitionTime")) or created_s(pod)


def available_in_s(pod: Object, min_ready_s: int, now_s: float) -> float | None:
    """Seconds until the pod counts as available: 0 when it does, None while it is not ready."""
    since_s = ready_since_s(pod)
    if since_s is None:
        return None
    return max(0.0, since_s + min_ready_s - now_s) if min_ready_s else 0.0


def is_available(pod: Object, min_ready_s: int, now_s: float) -> bool:
    """Ready for at least ``min_ready_s`` seconds."""
    return available_in_s(pod, min_ready_s, now_s) == 0.0


def set_condition(
    conditions: list[dict[str, Any]], kind: str, status: str, reason: str, message: str, *, now_s: float
) -> list[dict[str, Any]]:
    """A new list with the condition set; ``lastTransitionTime`` moves only when the status does."""
    now = rfc3339(now_s)
    fresh = {"type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message}
    out = []
    found = False
    for old in conditions:
        if old.get("type") != kind:
            out.append(old)
            continue
        found = True
        if old.get("status") == status:
            fresh["lastTransitionTime"] = old.get("lastTransitionTime") or now
        out.append(fresh)
    return out if found else [*out, fresh]


def without_condition(conditions: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The conditions but one."""
    return [condition for condition in conditions if condition.get("type") != kind]


def resolve_percent(value: int | str | None, total: int, *, round_up: bool, default: int | str) -> int:
    """An int-or-percent as a number: ``"25%"`` of ``total``, rounded up or down."""
    value = default if value is None else value
    if isinstance(value, str):
        share = int(value.rstrip("%")) * total
        return -(-share // 100) if round_up else share // 100
    return value
