"""What the server itself decides about an object's content at create, update and status update (pure).

Generic rules come first, the few kinds that need more follow as rows of small tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry.api import gvk
from skerry.api.gvk import Object
from skerry.api.kinds import podparts
from skerry.api.kinds.batch import select_own_pods
from skerry.api.qos import qos_class
from skerry.apiserver.registry import Kind

SYSTEM_METADATA = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)
PARTS = ("status", "approval", "ephemeralcontainers", "resize")
"""Subresources that are a part of the object."""

_DECISIONS = ("Approved", "Denied")
_STATUS_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
_KEEPS_STATUS_ON_CREATE = ("nodes",)


def prepare_create(kind: Kind, obj: Object) -> None:
    """Set what a new object starts with; the caller has set name, namespace, uid and creationTimestamp."""
    meta = obj["metadata"]
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "generation"):
        meta.pop(name, None)
    if kind.bumps_generation:
        meta["generation"] = 1
    plural = kind.resource.plural
    if kind.has_status and plural not in _KEEPS_STATUS_ON_CREATE:
        obj.pop("status", None)
        if kind.custom is None:
            obj["status"] = {}
    special = _CREATE.get(plural) if kind.custom is None else None
    if special is not None:
        special(obj)


def prepare_update(kind: Kind, obj: Object, old: Object) -> None:
    """Make ``obj`` the next state: keep what clients may not change, and count the generation."""
    _keep_system_metadata(obj, old)
    if kind.has_status:
        _take("status", obj, old)
    special = _UPDATE.get(kind.resource.plural) if kind.custom is None else None
    if special is not None:
        special(obj, old)
    if is_bumped(kind, obj, old):
        obj["metadata"]["generation"] = int(old["metadata"].get("generation", 0)) + 1


def prepare_part(kind: Kind, subresource: str, obj: Object, old: Object) -> Object:
    """The next state after a write to one of ``PARTS``: only that part counts, and a little metadata.

    Raises:
        Invalid: a part that only grows would lose something.
    """
    new = dict(old)
    new["metadata"] = dict(old["metadata"])
    if subresource in ("status", "approval") and kind.custom is None and kind.resource.group != "apps":
        for name in _STATUS_METADATA:
            if name != "ownerReferences" or kind.storage != gvk.PODS.group_resource:
                _take(name, new["metadata"], obj["metadata"])
    if subresource == "status":
        _take("status", new, obj)
        if kind.storage == gvk.CSRS.group_resource:
            _take_conditions(new, old, keep=_DECISIONS)
    elif subresource == "approval":
        new["status"] = dict(old.get("status") or {})
        _take("conditions", new["status"], obj.get("status") or {})
    else:
        new["spec"] = podparts.changed_spec(subresource, obj, old)
        if is_bumped(kind, new, old):
            new["metadata"]["generation"] = int(old["metadata"].get("generation", 0)) + 1
    return new


def _take_conditions(new: Object, old: Object, *, keep: tuple[str, ...]) -> None:
    """The signer writes certificates, the approver decides: conditions of these types stay as they are."""
    before = [c for c in (old.get("status") or {}).get("conditions") or () if c.get("type") in keep]
    given = [c for c in (new.get("status") or {}).get("conditions") or () if c.get("type") not in keep]
    new["status"] = {**(new.get("status") or {}), "conditions": [*before, *given]}
    if not new["status"]["conditions"]:
        del new["status"]["conditions"]


def mark_deleting(kind: Kind, obj: Object, *, timestamp: str, grace_s: int) -> None:
    """Write down that an object is on its way out."""
    meta = obj["metadata"]
    meta["deletionTimestamp"] = timestamp
    meta["deletionGracePeriodSeconds"] = grace_s
    if meta.get("generation"):
        meta["generation"] += 1
    if kind.resource.plural == "namespaces" and kind.custom is None:
        obj.setdefault("status", {})["phase"] = "Terminating"


def holds_back(kind: Kind, obj: Object) -> bool:
    """Whether finalizers still keep a deleted object."""
    if obj["metadata"].get("finalizers"):
        return True
    if kind.resource.plural == "namespaces" and kind.custom is None:
        return bool((obj.get("spec") or {}).get("finalizers"))
    return False


def pod_grace_s(pod: Object, asked_s: int | None) -> int:
    """Seconds that a pod gets to end."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    grace = asked_s
    if grace is None:
        grace = spec.get("terminationGracePeriodSeconds")
    return 1 if (grace or 0) < 0 else int(grace or 0)


def _keep_system_metadata(obj: Object, old: Object) -> None:
    meta, before = obj["metadata"], old["metadata"]
    for name in SYSTEM_METADATA:
        _take(name, meta, before)
    meta.pop("selfLink", None)
    meta.pop("managedFields", None)


def _take(name: str, into: Object, source: Object) -> None:
    if name in source:
        into[name] = source[name]
    else:
        into.pop(name, None)


def is_bumped(kind: Kind, obj: Object, old: Object) -> bool:
    """Whether a change counts up the generation."""
    if not kind.bumps_generation:
        return False
    if kind.bumps_generation == "spec":
        return bool(obj.get("spec") != old.get("spec"))
    outside = {"metadata", "kind", "apiVersion"} | ({"status"} if kind.has_status else set())
    return {n: v for n, v in obj.items() if n not in outside} != {n: v for n, v in old.items() if n not in outside}


def _new_namespace(obj: Object) -> None:
    obj.setdefault("spec", {})["finalizers"] = ["kubernetes"]
    obj["status"] = {"phase": "Active"}
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def _next_namespace(obj: Object, old: Object) -> None:
    obj["spec"] = {**(obj.get("spec") or {}), "finalizers": (old.get("spec") or {}).get("finalizers", [])}
    if not obj["spec"]["finalizers"]:
        del obj["spec"]["finalizers"]
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def _new_pod(obj: Object) -> None:
    obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj)}


def _new_claim(obj: Object) -> None:
    obj["status"] = {"phase": "Pending"}


def _new_crd(obj: Object) -> None:
    obj["status"] = {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": _stored(obj)}


def _stored(crd: Object) -> list[str]:
    """The storage version, of a definition that is not validated yet."""
    versions = (crd.get("spec") or {}).get("versions") or ()
    return [version["name"] for version in versions if version.get("storage") and version.get("name")]


def _next_crd(obj: Object, old: Object) -> None:
    status = obj.get("status") or {}
    known = status.get("storedVersions") or []
    obj["status"] = {**status, "storedVersions": [*known, *(name for name in _stored(obj) if name not in known)]}


def _new_budget(obj: Object) -> None:
    obj["status"] = {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}


def _new_load_balanced(obj: Object) -> None:
    obj["status"] = {"loadBalancer": {}}


def _new_replicated(obj: Object) -> None:
    obj["status"] = {"replicas": 0}


def _new_statefulset(obj: Object) -> None:
    obj["status"] = {"replicas": 0, "availableReplicas": 0}


def _new_daemonset(obj: Object) -> None:
    names = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    obj["status"] = dict.fromkeys(names, 0)


def _next_request(obj: Object, old: Object) -> None:
    """What is asked for, and by whom, never changes."""
    obj["spec"] = old.get("spec") or {}


_CREATE: dict[str, Callable[[Object], None]] = {
    "namespaces": _new_namespace,
    "pods": _new_pod,
    "persistentvolumes": _new_claim,
    "persistentvolumeclaims": _new_claim,
    "services": _new_load_balanced,
    "customresourcedefinitions": _new_crd,
    "ingresses": _new_load_balanced,
    "poddisruptionbudgets": _new_budget,
    "replicasets": _new_replicated,
    "replicationcontrollers": _new_replicated,
    "statefulsets": _new_statefulset,
    "daemonsets": _new_daemonset,
    "jobs": select_own_pods,
}
_UPDATE: dict[str, Callable[[Object, Object], None]] = {
    "namespaces": _next_namespace,
    "customresourcedefinitions": _next_crd,
    "certificatesigningrequests": _next_request,
}


def success(kind: Kind, entry_name: str, uid: str) -> dict[str, Any]:
    """The Status that answers a DELETE of most kinds."""
    details: dict[str, Any] = {"name": entry_name, "kind": kind.resource.plural, "uid": uid}
    if kind.resource.group:
        details["group"] = kind.resource.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
