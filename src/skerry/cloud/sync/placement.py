"""Which node needs which object; pure. A pod names its ConfigMaps and Secrets, and nothing else is given to its node.

Source: kubeedge cloud/pkg/edgecontroller/manager/pod.go, controller/downstream.go (v1.23), without their memory of pods
long gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from skerry.api.gvk import Object
from skerry.base.values import Struct
from skerry.wire.kubeedge import constants as c


class ConfigKey(Struct, frozen=True):
    """A ConfigMap or Secret; ``type`` is ``configmap`` or ``secret``."""

    type: str
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """Wire resource."""
        return f"{self.namespace}/{self.type}/{self.name}"


def node_of(pod: Object) -> str:
    """The node that a pod is bound to; empty when it is bound to none."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def configs_of(pod: Object) -> dict[ConfigKey, bool]:
    """Every ConfigMap and Secret that a pod names; the value says whether one of the references is required."""
    namespace = pod["metadata"].get("namespace") or "default"
    found: dict[ConfigKey, bool] = {}
    for type_, name, is_optional in _references(pod.get("spec") or {}):
        if name:
            key = ConfigKey(type_, namespace, name)
            found[key] = found.get(key, False) or not is_optional
    return found


def claims_of(pod: Object) -> set[tuple[str, str]]:
    """``(namespace, name)`` of every PersistentVolumeClaim that a pod mounts."""
    namespace, name = pod["metadata"].get("namespace") or "default", pod["metadata"]["name"]
    found: set[tuple[str, str]] = set()
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            found.add((namespace, str(claim.get("claimName", ""))))
        elif volume.get("ephemeral") is not None:
            found.add((namespace, f"{name}-{volume.get('name')}"))
    return found


def service_accounts_of(pods: Iterable[Object]) -> set[tuple[str, str]]:
    """``(namespace, name)`` of the service accounts that these pods run as."""
    return {
        (pod["metadata"].get("namespace") or "default", (pod.get("spec") or {}).get("serviceAccountName") or "default")
        for pod in pods
    }


def stripped(obj: Object) -> Object:
    """The object without what no node needs: ``managedFields``, kubectl's copy of what was applied, and for how long
    a kubelet may keep Secrets, which changes with the number of nodes, of all of them at once.
    """
    meta = dict(obj["metadata"])
    meta.pop("managedFields", None)
    annotations = meta.get("annotations") or {}
    if not _NOT_FOR_NODES.isdisjoint(annotations):
        meta["annotations"] = {key: value for key, value in annotations.items() if key not in _NOT_FOR_NODES}
    return obj | {"metadata": meta}


def is_status_only(old: Object, new: Object) -> bool:
    """Whether nothing that a node acts on differs: only status, versions, or what ``stripped`` takes away.

    Conditions that open a pod's readiness gates are acted on.
    """
    if any(old.get(part) != new.get(part) for part in ("spec", "data", "binaryData", "type", "immutable")):
        return False
    if _gates(old) != _gates(new):
        return False
    return all(old["metadata"].get(part) == new["metadata"].get(part) for part in _META_PARTS)


def _gates(obj: Object) -> list[tuple[str, Any]]:
    wanted = {gate.get("conditionType") for gate in (obj.get("spec") or {}).get("readinessGates") or ()}
    if not wanted:
        return []
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return sorted((c["type"], c.get("status")) for c in conditions if c.get("type") in wanted)


_NOT_FOR_NODES = frozenset({"kubectl.kubernetes.io/last-applied-configuration", "node.alpha.kubernetes.io/ttl"})
_META_PARTS = (
    "uid", "labels", "annotations", "deletionTimestamp", "deletionGracePeriodSeconds", "finalizers", "ownerReferences",
)  # fmt: skip


def _references(spec: Object) -> Iterator[tuple[str, str, bool]]:
    for volume in spec.get("volumes") or ():
        yield from _volume(volume)
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(part) or ():
            yield from _container(container)
    for secret in spec.get("imagePullSecrets") or ():
        yield c.TYPE_SECRET, secret.get("name", ""), True


def _volume(volume: Any) -> Iterator[tuple[str, str, bool]]:
    if config := volume.get("configMap"):
        yield c.TYPE_CONFIGMAP, config.get("name", ""), bool(config.get("optional"))
    if secret := volume.get("secret"):
        yield c.TYPE_SECRET, secret.get("secretName", ""), bool(secret.get("optional"))
    for source in (volume.get("projected") or {}).get("sources") or ():
        if config := source.get("configMap"):
            yield c.TYPE_CONFIGMAP, config.get("name", ""), bool(config.get("optional"))
        if secret := source.get("secret"):
            yield c.TYPE_SECRET, secret.get("name", ""), bool(secret.get("optional"))


def _container(container: Any) -> Iterator[tuple[str, str, bool]]:
    for source in container.get("envFrom") or ():
        if config := source.get("configMapRef"):
            yield c.TYPE_CONFIGMAP, config.get("name", ""), bool(config.get("optional"))
        if secret := source.get("secretRef"):
            yield c.TYPE_SECRET, secret.get("name", ""), bool(secret.get("optional"))
    for variable in container.get("env") or ():
        value = variable.get("valueFrom") or {}
        if config := value.get("configMapKeyRef"):
            yield c.TYPE_CONFIGMAP, config.get("name", ""), bool(config.get("optional"))
        if secret := value.get("secretKeyRef"):
            yield c.TYPE_SECRET, secret.get("name", ""), bool(secret.get("optional"))
