"""The storage class ``node-local``: a volume is a directory on the node where its first pod runs. Pure.

It needs no driver on the node and no connection: the directory is made when the pod starts. A volume stays on its node,
so its pod does, too.
"""

from __future__ import annotations

from typing import Any

from skerry.api.gvk import PERSISTENTVOLUMES, STORAGECLASSES, Object
from skerry.base.errors import SkerryError
from skerry.controllers.objects import labels_of
from skerry.controllers.volumes.matching import class_of

CLASS = "node-local"
PROVISIONER = "skerry.dev/node-local"
DIRECTORY = "/var/lib/skerry/volumes"
"""Where the directories are, unless the class's parameter ``directory`` says otherwise."""
HOSTNAME = "kubernetes.io/hostname"
_MODES = {"ReadWriteOnce", "ReadWriteOncePod"}


class Refused(SkerryError):
    """The claim asks for what a directory on one node cannot give."""


def default_class() -> Object:
    """The class that claims get which name none."""
    return {
        "apiVersion": STORAGECLASSES.api_version,
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": PROVISIONER,
        "parameters": {"directory": DIRECTORY},
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Retain",
        "allowVolumeExpansion": True,
    }


def local_volume(claim: Object, storage_class: Object, node: Object | None) -> Object:
    """The volume for a claim.

    Args:
        claim: with its node chosen.
        storage_class: its class.
        node: the chosen node, None when there is none.

    Raises:
        Refused: shared by nodes, a raw block device, or no node.
    """
    meta, spec = claim["metadata"], claim["spec"]
    if not set(spec.get("accessModes") or ()) <= _MODES:
        asked = ", ".join(spec["accessModes"])
        raise Refused(
            f"{PROVISIONER} cannot share a volume between nodes ({asked})", hint="ask for accessModes: [ReadWriteOnce]"
        )
    if spec.get("volumeMode") == "Block":
        raise Refused(f"{PROVISIONER} makes directories, not block devices", hint="ask for volumeMode: Filesystem")
    if node is None:
        raise Refused(f"{PROVISIONER} needs a node", hint="the class must have volumeBindingMode: WaitForFirstConsumer")
    name = f"pvc-{meta['uid']}"
    base = ((storage_class.get("parameters") or {}).get("directory") or DIRECTORY).rstrip("/")
    volume_spec: dict[str, Any] = {
        "capacity": {"storage": ((spec.get("resources") or {}).get("requests") or {}).get("storage", "0")},
        "accessModes": list(spec["accessModes"]),
        "volumeMode": "Filesystem",
        "storageClassName": class_of(claim),
        "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
        "hostPath": {"path": f"{base}/{name}", "type": "DirectoryOrCreate"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [_only(node)]}},
        "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta["namespace"],
            "name": meta["name"], "uid": meta["uid"],
        },
    }  # fmt: skip
    return {
        "apiVersion": PERSISTENTVOLUMES.api_version,
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": volume_spec,
    }


def _only(node: Object) -> dict[str, Any]:
    """The selector term of one node: by its host name, as other tools look for it, or by its own name."""
    hostname = labels_of(node).get(HOSTNAME)
    if hostname:
        return {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [hostname]}]}
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node["metadata"]["name"]]}]}
