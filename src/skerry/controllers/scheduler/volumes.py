"""The claims of a pod: which nodes they allow, and what has to be bound before the pod can start. Pure.

Source of behaviour: kubernetes pkg/scheduler/framework/plugins/volumebinding (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skerry.api.affinity import matches_term
from skerry.api.gvk import Object
from skerry.api.meta import controller_of, is_deleting
from skerry.base.values import Struct, field
from skerry.controllers.scheduler.views import NodeView
from skerry.controllers.volumes.matching import class_of, find_volume, is_bound, is_delayed

SELECTED_NODE = "volume.kubernetes.io/selected-node"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"
NONE_TO_BIND = "node(s) didn't find available persistent volumes to bind"
WRONG_NODE = "node(s) didn't match PersistentVolume's node affinity"
VANISHED = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


class Storage(Struct, frozen=True):
    """Claims by ``(namespace, name)``, volumes and classes by name."""

    claims: Mapping[tuple[str, str], Object] = field(default_factory=dict)
    volumes: Mapping[str, Object] = field(default_factory=dict)
    classes: Mapping[str, Object] = field(default_factory=dict)


class PodClaims(Struct, frozen=True):
    """A pod's claims.

    Args:
        bound: claims that have a volume.
        waiting: claims that get one when the pod has a node.
        problem: why the pod cannot be placed at all; empty when it can.
    """

    bound: tuple[Object, ...] = ()
    waiting: tuple[Object, ...] = ()
    problem: str = ""


def claim_names(pod: Object) -> Iterator[tuple[str, bool]]:
    """Names of the claims that a pod mounts, and whether each is made for this pod (an ephemeral volume)."""
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"], False
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}", True


def claims_of(pod: Object, storage: Storage) -> PodClaims:
    """Sort a pod's claims."""
    bound: list[Object] = []
    waiting: list[Object] = []
    for name, is_ephemeral in claim_names(pod):
        claim = storage.claims.get((pod["metadata"]["namespace"], name))
        if claim is None:
            text = f'persistentvolumeclaim "{name}" not found'
            if is_ephemeral:
                text = f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
            return PodClaims(problem=text)
        if is_deleting(claim):
            return PodClaims(problem=f'persistentvolumeclaim "{name}" is being deleted')
        if is_ephemeral and (controller_of(claim) or {}).get("uid") != pod["metadata"]["uid"]:
            return PodClaims(problem=f'PVC "{name}" was not created for pod "{pod["metadata"]["name"]}"')
        if (claim.get("status") or {}).get("phase") == "Lost":
            lost = f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume'
            return PodClaims(problem=f'{lost} "{claim["spec"].get("volumeName")}"')
        if is_bound(claim):
            bound.append(claim)
        elif is_delayed(claim, storage.classes):
            waiting.append(claim)
        else:
            return PodClaims(problem=UNBOUND)
    return PodClaims(tuple(bound), tuple(waiting))


def obstacle(claims: PodClaims, storage: Storage, node: NodeView) -> str:
    """Why the claims keep the pod off the node; empty when they do not."""
    for claim in claims.bound:
        volume = storage.volumes.get(claim["spec"].get("volumeName") or "")
        if volume is None:
            return VANISHED
        if not reaches(volume, node.node):
            return WRONG_NODE
    return NONE_TO_BIND if claims.waiting and bindings(claims, storage, node) is None else ""


def reaches(volume: Object, node: Object) -> bool:
    """Whether the volume can be used on the node."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return required is None or any(matches_term(term, node) for term in required.get("nodeSelectorTerms") or ())


class Binding(Struct, frozen=True):
    """What makes one waiting claim get its volume.

    Args:
        claim: the claim.
        volume: an existing volume to reserve; None to have one made for the node.
    """

    claim: Object
    volume: Object | None


def bindings(claims: PodClaims, storage: Storage, node: NodeView) -> list[Binding] | None:
    """How the waiting claims can be served on a node; None when they cannot."""
    taken: set[str] = set()
    found = []
    for claim in claims.waiting:
        local = [v for v in storage.volumes.values() if reaches(v, node.node) and v["metadata"]["name"] not in taken]
        volume = find_volume(claim, local)
        if volume is None and not _can_provision(claim, storage, node):
            return None
        if volume is not None:
            taken.add(volume["metadata"]["name"])
        found.append(Binding(claim, volume))
    return found


def _can_provision(claim: Object, storage: Storage, node: NodeView) -> bool:
    storage_class = storage.classes.get(class_of(claim))
    if storage_class is None or storage_class.get("provisioner") in ("", None, NO_PROVISIONER):
        return False
    chosen = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
    if chosen and chosen != node.name:
        return False
    return _in_topology(storage_class.get("allowedTopologies") or (), node)


def _in_topology(terms: Sequence[Mapping[str, Any]], node: NodeView) -> bool:
    if not terms:
        return True
    return any(
        all(node.label(e["key"]) in e["values"] for e in term.get("matchLabelExpressions") or ()) for term in terms
    )
