"""What a node may do: its own Node, lease and pods, and what its pods refer to.

Source: Kubernetes plugin/pkg/auth/authorizer/node/node_authorizer.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from skerry.api.gvk import Object
from skerry.api.selectors import exact_field
from skerry.api.status import BadRequest
from skerry.apiserver.auth.bootstrap_policy import node_rules
from skerry.apiserver.auth.rbac import Attributes, rule_allows

NODE_USER = "system:node:"
NODES_GROUP = "system:nodes"
MIRROR = "kubernetes.io/config.mirror"
"""Annotation of pods that a node made itself, to show what it runs on its own."""

_READ = ("get", "list", "watch")
_LEASES = "leases.coordination.k8s.io"
_CSINODES = "csinodes.storage.k8s.io"
_SLICES = "resourceslices.resource.k8s.io"
_FIXED_SECRETS = ("azureFile", "cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")


class Neighbours(Protocol):
    """What the authorizer asks of the store."""

    def pods_of(self, node: str) -> Iterable[Object]:
        """The pods bound to a node."""

    def find(self, gr: str, namespace: str, name: str) -> Object | None:
        """One object, without kind and apiVersion."""


class NodeAuthorizer:
    """Answers for users ``system:node:<name>`` in group ``system:nodes``.

    Args:
        neighbours: pods and the volumes that they claim.
    """

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._rules = node_rules()
        self._checks: dict[str, Callable[[Attributes, str], bool]] = {
            "secrets": self._referred,
            "configmaps": self._referred,
            "serviceaccounts": self._account,
            "persistentvolumeclaims": self._claim,
            "persistentvolumes": self._volume,
            "volumeattachments.storage.k8s.io": self._attachment,
            "resourceclaims.resource.k8s.io": self._resource_claim,
            "nodes": self._node,
            "pods": self._pod,
            _LEASES: self._own,
            _CSINODES: self._own,
            _SLICES: self._slice,
        }

    def allows(self, attributes: Attributes) -> bool:
        """Whether the node may; False also for users that are no nodes."""
        node = node_of(attributes.user.name, attributes.user.groups)
        if not node or not attributes.is_resource:
            return False
        resource, group = attributes.resource, attributes.group
        check = self._checks.get(f"{resource}.{group}" if group else resource)
        if check is not None:
            return check(attributes, node)
        return any(rule_allows(rule, attributes) for rule in self._rules)

    def _referred(self, attributes: Attributes, node: str) -> bool:
        """Read one named object that a pod of the node names."""
        if attributes.verb not in _READ or attributes.subresource or not attributes.name or not attributes.namespace:
            return False
        wanted = (attributes.resource, attributes.namespace, attributes.name)
        return any(wanted in references(pod) for pod in self._pods(node)) or (
            attributes.resource == "secrets" and wanted[1:] in self._volume_secrets(node)
        )

    def _account(self, attributes: Attributes, node: str) -> bool:
        wanted = ("serviceaccounts", attributes.namespace, attributes.name)
        is_token = attributes.subresource == "token" and attributes.verb == "create"
        is_read = not attributes.subresource and attributes.verb == "get"
        return (is_token or is_read) and any(wanted in references(pod) for pod in self._pods(node))

    def _claim(self, attributes: Attributes, node: str) -> bool:
        if attributes.subresource == "status":
            is_asked = attributes.verb in ("get", "update", "patch")
        else:
            is_asked = attributes.verb == "get" and not attributes.subresource
        return is_asked and (attributes.namespace, attributes.name) in self._claims(node)

    def _volume(self, attributes: Attributes, node: str) -> bool:
        if attributes.verb != "get" or attributes.subresource or not attributes.name:
            return False
        return attributes.name in self._volumes(node)

    def _attachment(self, attributes: Attributes, node: str) -> bool:
        if attributes.verb != "get" or not attributes.name:
            return False
        found = self._neighbours.find("volumeattachments.storage.k8s.io", "", attributes.name)
        return found is not None and (found.get("spec") or {}).get("nodeName") == node

    def _resource_claim(self, attributes: Attributes, node: str) -> bool:
        if attributes.verb != "get" or attributes.subresource:
            return False
        wanted = (attributes.namespace, attributes.name)
        return any(wanted in _resource_claims(pod) for pod in self._pods(node))

    def _node(self, attributes: Attributes, node: str) -> bool:
        if attributes.verb == "create":
            return not attributes.subresource
        if attributes.verb in _READ:
            return attributes.name == node and attributes.subresource in ("", "status")
        return (
            attributes.verb in ("update", "patch")
            and attributes.name == node
            and (attributes.subresource in ("", "status"))
        )

    def _pod(self, attributes: Attributes, node: str) -> bool:
        verb, sub = attributes.verb, attributes.subresource
        if sub == "status":
            return verb in ("update", "patch") and self._is_own_pod(attributes, node)
        if sub == "eviction":
            return verb == "create" and self._is_own_pod(attributes, node)
        if sub:
            return False
        if verb in ("list", "watch") and _selected_node(attributes.field_selector) == node:
            return True
        if verb == "create":  # admission lets only mirror pods of the node itself pass
            return True
        return verb in (*_READ, "delete") and self._is_own_pod(attributes, node)

    def _own(self, attributes: Attributes, node: str) -> bool:
        """An object with the node's name."""
        if attributes.subresource or attributes.verb not in ("get", "create", "update", "patch", "delete"):
            return False
        if attributes.resource == "leases" and attributes.namespace != "kube-node-lease":
            return False
        return attributes.verb == "create" or attributes.name == node

    def _slice(self, attributes: Attributes, node: str) -> bool:
        if attributes.subresource:
            return False
        if attributes.verb in ("list", "watch", "deletecollection"):
            return _selected_node(attributes.field_selector) == node
        if attributes.verb == "create":
            return True
        found = self._neighbours.find(_SLICES, "", attributes.name)
        return found is not None and (found.get("spec") or {}).get("nodeName") == node

    def _pods(self, node: str) -> Iterator[Object]:
        """The pods that give rights: mirror pods, which the node wrote itself, do not."""
        return (
            pod for pod in self._neighbours.pods_of(node) if MIRROR not in (pod["metadata"].get("annotations") or {})
        )

    def _is_own_pod(self, attributes: Attributes, node: str) -> bool:
        if not attributes.name:
            return False
        pod = self._neighbours.find("pods", attributes.namespace, attributes.name)
        return pod is not None and (pod.get("spec") or {}).get("nodeName") == node

    def _claims(self, node: str) -> set[tuple[str, str]]:
        return {claim for pod in self._pods(node) for claim in claims(pod)}

    def _volumes(self, node: str) -> set[str]:
        found = set()
        for namespace, name in self._claims(node):
            claim = self._neighbours.find("persistentvolumeclaims", namespace, name)
            volume = ((claim or {}).get("spec") or {}).get("volumeName")
            if volume:
                found.add(str(volume))
        return found

    def _volume_secrets(self, node: str) -> set[tuple[str, str]]:
        """Secrets that the volumes behind the claims need."""
        found: set[tuple[str, str]] = set()
        for name in self._volumes(node):
            volume = self._neighbours.find("persistentvolumes", "", name)
            spec = (volume or {}).get("spec") or {}
            space = str((spec.get("claimRef") or {}).get("namespace") or "")
            for source in spec.values():
                if not isinstance(source, dict):
                    continue
                for key, value in source.items():
                    if key.endswith("SecretRef") or key == "secretRef":
                        found.add((str(value.get("namespace") or space), str(value.get("name") or "")))
                    elif key == "secretName":
                        found.add((str(source.get("secretNamespace") or space), str(value)))
        return found


def node_of(user: str, groups: Iterable[str]) -> str:
    """The name of the node that a user is; empty for others."""
    return user[len(NODE_USER) :] if user.startswith(NODE_USER) and NODES_GROUP in groups else ""


def references(pod: Object) -> set[tuple[str, str, str]]:
    """``(resource, namespace, name)`` of every ConfigMap, Secret and ServiceAccount that a pod names."""
    namespace = pod["metadata"].get("namespace", "")
    spec = pod.get("spec") or {}
    found: set[tuple[str, str, str]] = set()

    def add(resource: str, name: Any) -> None:
        if name:
            found.add((resource, namespace, str(name)))

    add("serviceaccounts", spec.get("serviceAccountName"))
    for secret in spec.get("imagePullSecrets") or ():
        add("secrets", secret.get("name"))
    for volume in spec.get("volumes") or ():
        _of_volume(volume, add)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            for source in container.get("envFrom") or ():
                add("configmaps", (source.get("configMapRef") or {}).get("name"))
                add("secrets", (source.get("secretRef") or {}).get("name"))
            for variable in container.get("env") or ():
                value = variable.get("valueFrom") or {}
                add("configmaps", (value.get("configMapKeyRef") or {}).get("name"))
                add("secrets", (value.get("secretKeyRef") or {}).get("name"))
    return found


def claims(pod: Object) -> Iterator[tuple[str, str]]:
    """``(namespace, name)`` of every PersistentVolumeClaim that a pod mounts."""
    meta = pod["metadata"]
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield meta.get("namespace", ""), str(volume["persistentVolumeClaim"].get("claimName", ""))
        elif volume.get("ephemeral"):
            yield meta.get("namespace", ""), f"{meta.get('name', '')}-{volume.get('name', '')}"


def _resource_claims(pod: Object) -> Iterator[tuple[str, str]]:
    namespace = pod["metadata"].get("namespace", "")
    named = (pod.get("spec") or {}).get("resourceClaims") or ()
    made = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    for item in (*named, *made):
        if item.get("resourceClaimName"):
            yield namespace, str(item["resourceClaimName"])


def _of_volume(volume: Object, add: Callable[[str, Any], None]) -> None:
    add("configmaps", (volume.get("configMap") or {}).get("name"))
    add("secrets", (volume.get("secret") or {}).get("secretName"))
    add("secrets", ((volume.get("csi") or {}).get("nodePublishSecretRef") or {}).get("name"))
    for name in _FIXED_SECRETS:
        source = volume.get(name) or {}
        add("secrets", source.get("secretName") or (source.get("secretRef") or {}).get("name"))
    for source in (volume.get("projected") or {}).get("sources") or ():
        add("configmaps", (source.get("configMap") or {}).get("name"))
        add("secrets", (source.get("secret") or {}).get("name"))


def _selected_node(selector: str) -> str | None:
    try:
        return exact_field(selector, "spec.nodeName")
    except BadRequest:
        return None
