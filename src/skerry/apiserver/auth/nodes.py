"""What a node may do: its own Node, lease and pods, and what its pods refer to.

Source: Kubernetes plugin/pkg/auth/authorizer/node/node_authorizer.go (v1.36), reduced to reads of the node itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from skerry.api.gvk import Object
from skerry.apiserver.auth.rbac import Attributes

NODE_USER = "system:node:"
NODES_GROUP = "system:nodes"

_READ = ("get", "list", "watch")
_REFERRED = {"configmaps": "configmaps", "secrets": "secrets", "serviceaccounts": "serviceaccounts"}


class NodeAuthorizer:
    """Answers for users ``system:node:<name>`` in group ``system:nodes``.

    Args:
        pods_of: the pods bound to a node.
    """

    def __init__(self, pods_of: Callable[[str], Iterable[Object]]) -> None:
        self._pods_of = pods_of

    def allows(self, attributes: Attributes) -> bool:
        """Whether the node may; False also for users that are no nodes."""
        user = attributes.user
        if not user.name.startswith(NODE_USER) or NODES_GROUP not in user.groups or not attributes.is_resource:
            return False
        node = user.name[len(NODE_USER) :]
        if attributes.group == "coordination.k8s.io":
            return attributes.resource == "leases" and self._own_lease(attributes, node)
        if attributes.group in ("", "events.k8s.io") and attributes.resource == "events":
            return attributes.verb in ("create", "patch", "update")
        if attributes.group != "":
            return False
        return self._core(attributes, node)

    def _core(self, attributes: Attributes, node: str) -> bool:
        resource, verb = attributes.resource, attributes.verb
        if resource == "nodes":
            return verb in (*_READ, "create") or (attributes.name == node and verb in ("update", "patch"))
        if resource == "services":
            return verb in _READ
        if resource == "pods":
            return self._pod(attributes, node)
        if resource == "serviceaccounts" and attributes.subresource == "token":
            return verb == "create" and self._refers(node, attributes)
        return resource in _REFERRED and verb in _READ and self._refers(node, attributes)

    @staticmethod
    def _own_lease(attributes: Attributes, node: str) -> bool:
        if attributes.namespace != "kube-node-lease":
            return False
        return attributes.verb == "create" or attributes.name == node

    def _pod(self, attributes: Attributes, node: str) -> bool:
        if attributes.verb in _READ:
            return True
        if not (attributes.verb == "delete" or (attributes.subresource == "status" and attributes.verb != "create")):
            return False
        return any(_is(pod, attributes) for pod in self._pods_of(node))

    def _refers(self, node: str, attributes: Attributes) -> bool:
        wanted = (attributes.resource, attributes.namespace, attributes.name)
        return any(wanted in references(pod) for pod in self._pods_of(node))


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
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for source in container.get("envFrom") or ():
            add("configmaps", (source.get("configMapRef") or {}).get("name"))
            add("secrets", (source.get("secretRef") or {}).get("name"))
        for variable in container.get("env") or ():
            value = variable.get("valueFrom") or {}
            add("configmaps", (value.get("configMapKeyRef") or {}).get("name"))
            add("secrets", (value.get("secretKeyRef") or {}).get("name"))
    return found


def _of_volume(volume: Object, add: Callable[[str, Any], None]) -> None:
    add("configmaps", (volume.get("configMap") or {}).get("name"))
    add("secrets", (volume.get("secret") or {}).get("secretName"))
    for source in (volume.get("projected") or {}).get("sources") or ():
        add("configmaps", (source.get("configMap") or {}).get("name"))
        add("secrets", (source.get("secret") or {}).get("name"))


def _is(pod: Object, attributes: Attributes) -> bool:
    meta = pod["metadata"]
    return bool(meta.get("namespace") == attributes.namespace and meta.get("name") == attributes.name)
