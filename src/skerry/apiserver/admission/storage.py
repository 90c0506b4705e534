"""Claims: the default StorageClass, growth only where the class allows it; and the default IngressClass.

Source: kubernetes plugin/pkg/admission/storage/{storageclass/setdefault,persistentvolume/resize},
plugin/pkg/admission/network/defaultingressclass (v1.36).
"""

from __future__ import annotations

from skerry.api.quantity import parse_quantity
from skerry.apiserver.admission.request import AdmissionRequest, Collect, Find
from skerry.apiserver.store.log import Key

IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_OLD_DEFAULT = "storageclass.beta.kubernetes.io/is-default-class"
_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
_CLASSES = "storageclasses.storage.k8s.io"
_INGRESS_CLASSES = "ingressclasses.networking.k8s.io"
_INGRESS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"


class StorageDefaults:
    """Give a claim that names no class the default one: the newest of those marked so, then by name."""

    def __init__(self, collection: Collect) -> None:
        self._collection = collection

    def __call__(self, request: AdmissionRequest) -> None:
        if not request.creates("persistentvolumeclaims"):
            return
        spec = request.obj.setdefault("spec", {})
        if "storageClassName" in spec or _OLD_CLASS in (request.obj["metadata"].get("annotations") or {}):
            return
        marked = []
        for entry in self._collection(_CLASSES).entries():
            meta = entry.content()["metadata"]
            notes = meta.get("annotations") or {}
            if "true" in (notes.get(IS_DEFAULT), notes.get(_OLD_DEFAULT)):
                marked.append((meta.get("creationTimestamp", ""), meta["name"]))
        if marked:
            newest = max(stamp for stamp, _ in marked)
            spec["storageClassName"] = min(name for stamp, name in marked if stamp == newest)


class IngressDefaults:
    """Give an Ingress that names no class the default one."""

    def __init__(self, collection: Collect) -> None:
        self._collection = collection

    def __call__(self, request: AdmissionRequest) -> None:
        if not request.creates("ingresses.networking.k8s.io"):
            return
        spec = request.obj.setdefault("spec", {})
        notes = request.obj["metadata"].get("annotations") or {}
        if spec.get("ingressClassName") or "kubernetes.io/ingress.class" in notes:
            return
        marked = []
        for entry in self._collection(_INGRESS_CLASSES).entries():
            meta = entry.content()["metadata"]
            if (meta.get("annotations") or {}).get(_INGRESS_DEFAULT) == "true":
                marked.append((meta.get("creationTimestamp", ""), meta["name"]))
        if marked:
            newest = max(stamp for stamp, _ in marked)
            spec["ingressClassName"] = min(name for stamp, name in marked if stamp == newest)


class ClaimGrowth:
    """A bound claim grows only where its class allows expansion."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def __call__(self, request: AdmissionRequest) -> None:
        if request.kind.storage != "persistentvolumeclaims" or request.operation != "update" or request.subresource:
            return
        old, new = request.old or {}, request.obj
        before, now = _size(old), _size(new)
        if before is None or now is None or parse_quantity(now) <= parse_quantity(before):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise request.forbidden("Only bound persistent volume claims can be expanded")
        entry = self._find(Key(_CLASSES, "", str((old.get("spec") or {}).get("storageClassName") or "")))
        if entry is None or not entry.content().get("allowVolumeExpansion"):
            raise request.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize"
            )


def _size(claim: dict[str, object]) -> str | None:
    spec = claim.get("spec")
    resources = spec.get("resources") if isinstance(spec, dict) else None
    requests = (resources or {}).get("requests") or {}
    size = requests.get("storage")
    return None if size is None else str(size)
