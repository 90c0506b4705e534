"""Which volume a claim may have. Pure.

Source of behaviour: k8s.io/component-helpers/storage/volume/pv_helpers.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from skerry.api.gvk import Object
from skerry.api.meta import is_deleting
from skerry.api.quantity import whole_units
from skerry.controllers.objects import annotations_of, labels_of, matches

BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def class_of(obj: Object) -> str:
    """The storage class of a claim or volume; empty for none."""
    return str(annotations_of(obj).get(_BETA_CLASS) or obj["spec"].get("storageClassName") or "")


def is_bound(claim: Object) -> bool:
    """Whether the claim has its volume and both sides know."""
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)


def is_delayed(claim: Object, classes: Mapping[str, Object]) -> bool:
    """Whether the claim waits for a pod: its class says ``WaitForFirstConsumer``."""
    if claim["spec"].get("volumeName"):
        return False
    storage_class = classes.get(class_of(claim))
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def asked_bytes(claim: Object) -> int:
    """How much a claim asks for."""
    return _bytes(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage"))


def capacity_bytes(volume: Object) -> int:
    """How much a volume has."""
    return _bytes((volume["spec"].get("capacity") or {}).get("storage"))


def _bytes(text: str | int | float | None) -> int:
    try:
        return whole_units(text) if text is not None else 0
    except ValueError:
        return 0


def is_reserved_for(volume: Object, claim: Object) -> bool:
    """Whether the volume's ``claimRef`` means this claim."""
    ref, meta = volume["spec"].get("claimRef"), claim["metadata"]
    if not ref or (ref.get("namespace"), ref.get("name")) != (meta["namespace"], meta["name"]):
        return False
    return ref.get("uid") in (None, "", meta["uid"])


def fits(volume: Object, claim: Object) -> bool:
    """Whether size, modes, class and selector let the claim have the volume."""
    spec, asked = volume["spec"], claim["spec"]
    if (spec.get("volumeMode") or "Filesystem") != (asked.get("volumeMode") or "Filesystem"):
        return False
    if not set(asked.get("accessModes") or ()) <= set(spec.get("accessModes") or ()):
        return False
    return class_of(volume) == class_of(claim) and capacity_bytes(volume) >= asked_bytes(claim)


def find_volume(claim: Object, volumes: Iterable[Object]) -> Object | None:
    """The volume reserved for the claim, else the smallest free one that fits."""
    free: list[Object] = []
    for volume in volumes:
        if is_deleting(volume):
            continue
        if is_reserved_for(volume, claim):
            if fits(volume, claim):
                return volume
            continue
        if volume["spec"].get("claimRef") or (volume.get("status") or {}).get("phase") not in ("Available", None):
            continue
        selector = claim["spec"].get("selector")
        if (selector is None or matches(selector, labels_of(volume))) and fits(volume, claim):
            free.append(volume)
    return min(free, key=lambda volume: (capacity_bytes(volume), str(volume["metadata"]["name"])), default=None)
