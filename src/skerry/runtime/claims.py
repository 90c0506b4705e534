"""What stands behind a PersistentVolumeClaim on this node: a directory, or the reason why not.

The cloud binds claims (also those of the class ``node-local``); the node mounts what is bound. Kinds of volumes that
need a driver are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from skerry.api.gvk import Object
from skerry.base.values import Struct
from skerry.runtime.volume_files import VolumeError

_PROVISIONED_BY, _PROVISIONER = "pv.kubernetes.io/provisioned-by", "skerry.dev/node-local"
OWN_PLACE = Path("/var/lib/skerry/volumes")
"""Where volumes of the class ``node-local`` are, as their objects say; an agent that is not root has its own place."""
_NOT_SOURCES = frozenset(
    {
        "capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "storageClassName", "mountOptions",
        "volumeMode", "nodeAffinity", "volumeAttributesClassName",
    }
)  # fmt: skip


class Objects(Protocol):
    """ConfigMaps, Secrets, claims, volumes and RuntimeClasses."""

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        """``configmap``, ``secret``, ``persistentvolumeclaim``, ``persistentvolume`` (of namespace ``default``) or
        ``runtimeclass`` (of none).

        Raises ``ApiError`` (``NotFound`` when it does not exist).
        """

    async def fresh(self, kind: str, namespace: str, name: str) -> Object:
        """As ``get``, but never an old copy; one that does not exist any more is not kept. Raises ``ApiError``."""


class Place(Struct, frozen=True):
    """A directory or file of the node.

    Args:
        kind: of a hostPath, such as ``DirectoryOrCreate``.
        is_managed: whether the pod's fsGroup applies to it, and any user may write where it is made new.
    """

    path: str
    kind: str
    is_managed: bool = False
    is_read_only: bool = False


def claim_of(pod: Object, volume: Mapping[str, Any]) -> tuple[str, bool] | None:
    """(name of the claim, read only) of a volume; None when it is of another kind."""
    claim = volume.get("persistentVolumeClaim")
    if claim is not None:
        return str(claim["claimName"]), bool(claim.get("readOnly"))
    if volume.get("ephemeral") is not None:
        return f"{pod['metadata']['name']}-{volume['name']}", False
    return None


async def place_of(pod: Object, volume: Mapping[str, Any], objects: Objects, *, own: Path) -> Place:
    """What to mount for a claim.

    Args:
        own: where this node keeps the volumes of the class ``node-local`` that are at no place of their own.

    Raises:
        VolumeError: not bound, not of this pod, or of a kind that this node cannot mount.
        ApiError: claim or volume cannot be had.
    """
    found = claim_of(pod, volume)
    assert found is not None
    name, is_read_only = found
    namespace = str(pod["metadata"]["namespace"])
    claim = await objects.get("persistentvolumeclaim", namespace, name)
    if not (claim.get("spec") or {}).get("volumeName"):
        claim = await objects.fresh("persistentvolumeclaim", namespace, name)
    if volume.get("ephemeral") is not None:
        _check_owner(pod, claim)
    spec = claim.get("spec") or {}
    if not spec.get("volumeName"):
        raise VolumeError(f"PersistentVolumeClaim {name!r} is not bound")
    if spec.get("volumeMode") == "Block":
        raise VolumeError(f"PersistentVolumeClaim {name!r} is a block device, which is not supported on this node")
    persistent = await objects.get("persistentvolume", "default", str(spec["volumeName"]))
    return _place(persistent, is_read_only=is_read_only, own=own)


def _place(persistent: Object, *, is_read_only: bool, own: Path) -> Place:
    spec, metadata = persistent.get("spec") or {}, persistent.get("metadata") or {}
    if (source := spec.get("local")) is not None:
        return Place(str(source["path"]), "Directory", is_managed=True, is_read_only=is_read_only)
    if (source := spec.get("hostPath")) is not None:
        is_ours = (metadata.get("annotations") or {}).get(_PROVISIONED_BY) == _PROVISIONER
        kind = "DirectoryOrCreate" if is_ours else str(source.get("type") or "")
        path = Path(str(source["path"]))
        if is_ours and path.parent == OWN_PLACE:  # as the cloud names it, which does not know the agent's user
            path = own / path.name
        return Place(str(path), kind, is_managed=is_ours, is_read_only=is_read_only)
    kinds = ", ".join(sorted(spec.keys() - _NOT_SOURCES)) or "no source"
    raise VolumeError(
        f"PersistentVolume {metadata.get('name')!r} is of a kind that this node cannot mount ({kinds})",
        hint="use local or hostPath volumes, or the storage class node-local",
    )


def _check_owner(pod: Object, claim: Object) -> None:
    owners = (claim.get("metadata") or {}).get("ownerReferences") or []
    if not any(owner.get("uid") == pod["metadata"]["uid"] for owner in owners):
        name = (claim.get("metadata") or {}).get("name")
        raise VolumeError(f"PersistentVolumeClaim {name!r} was not created for this pod")
