"""Nodes: new ones take no pods at first, and a node's identity changes nothing but its own.

Source: kubernetes plugin/pkg/admission/{nodetaint,noderestriction}/admission.go (v1.36).
"""

from __future__ import annotations

from skerry.api.gvk import Object
from skerry.apiserver.admission.request import AdmissionRequest, Find
from skerry.apiserver.auth.nodes import MIRROR, NODE_USER, NODES_GROUP, references
from skerry.apiserver.store.log import Key

RESTRICTED_PREFIX = "node-restriction.kubernetes.io/"
_LABEL_PREFIXES = ("kubelet.kubernetes.io/", "node.kubernetes.io/")
_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "node-role.kubernetes.io/edge",
        "node-role.kubernetes.io/agent",
    }
)
"""Labels of Kubernetes' own domains that a node may set on itself; the two roles are those of edge nodes."""


def taint_new_nodes(request: AdmissionRequest) -> None:
    """A new node takes no pods before it has said that it is ready."""
    if not request.creates("nodes"):
        return
    spec = request.obj.setdefault("spec", {})
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    taints = spec.setdefault("taints", [])
    if all((t.get("key"), t.get("effect")) != (taint["key"], taint["effect"]) for t in taints):
        taints.append(taint)


class NodeRestriction:
    """What users ``system:node:<name>`` may write: their Node, their mirror pods, their pods' status, their lease."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def __call__(self, request: AdmissionRequest) -> None:
        user = request.user
        if not user.name.startswith(NODE_USER) or NODES_GROUP not in user.groups:
            return
        node = user.name[len(NODE_USER) :]
        match request.kind.storage:
            case "nodes":
                self._node(request, node)
            case "pods":
                self._pod(request, node)
            case "leases.coordination.k8s.io":
                if request.namespace == "kube-node-lease" and request.name != node:
                    raise request.forbidden("can only access node lease with the same name as the requesting node")
            case "csinodes.storage.k8s.io":
                if request.name != node:
                    raise request.forbidden("can only access CSINode with the same name as the requesting node")
            case "resourceslices.resource.k8s.io" if request.operation == "create":
                if (request.obj.get("spec") or {}).get("nodeName") != node:
                    raise request.forbidden(
                        "can only create ResourceSlice with the same NodeName as the requesting node"
                    )

    def _node(self, request: AdmissionRequest, node: str) -> None:
        if request.name != node:
            raise request.forbidden(f'node "{node}" is not allowed to modify node "{request.name}"')
        if request.operation == "create":
            if (request.obj.get("spec") or {}).get("configSource"):
                raise request.forbidden("is not allowed to create pods with a non-nil configSource")
            wrong = sorted(key for key in request.obj["metadata"].get("labels") or {} if _is_refused(key))
            if wrong:
                raise request.forbidden(f'node "{node}" is not allowed to set the following labels: {", ".join(wrong)}')
        elif request.operation == "update" and request.old is not None:
            self._changed_node(request, node, request.old)

    @staticmethod
    def _changed_node(request: AdmissionRequest, node: str, old: Object) -> None:
        new = request.obj
        if ((new.get("spec") or {}).get("taints") or []) != ((old.get("spec") or {}).get("taints") or []):
            raise request.forbidden(f'node "{node}" is not allowed to modify taints')
        if (new["metadata"].get("ownerReferences") or []) != (old["metadata"].get("ownerReferences") or []):
            raise request.forbidden(f'node "{node}" is not allowed to modify ownerReferences')
        before, now = old["metadata"].get("labels") or {}, new["metadata"].get("labels") or {}
        changed = {key for key in {*before, *now} if before.get(key) != now.get(key)}
        wrong = sorted(key for key in changed if _is_refused(key))
        if wrong:
            raise request.forbidden(f"is not allowed to modify labels: {', '.join(wrong)}")

    def _pod(self, request: AdmissionRequest, node: str) -> None:
        if request.subresource == "eviction":
            entry = self._find(Key("pods", request.namespace, request.name))
            if entry is not None and (entry.content().get("spec") or {}).get("nodeName") != node:
                raise request.forbidden(f'node "{node}" can only evict pods with spec.nodeName set to itself')
        elif request.operation == "create" and not request.subresource:
            self._mirror(request, node)
        elif request.operation == "delete":
            if (request.obj.get("spec") or {}).get("nodeName") != node:
                raise request.forbidden(f'node "{node}" can only delete pods with spec.nodeName set to itself')
        elif request.operation == "update" and request.old is not None:
            if request.subresource != "status":
                raise request.forbidden(f'node "{node}" can only update pod status')
            if (request.old.get("spec") or {}).get("nodeName") != node:
                raise request.forbidden(
                    f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
                )
            before = request.old["metadata"].get("labels") or {}
            if (request.obj["metadata"].get("labels") or {}) != before:
                raise request.forbidden(f'node "{node}" cannot update labels through pod status')
            mirrors = [(pod["metadata"].get("annotations") or {}).get(MIRROR) for pod in (request.old, request.obj)]
            if mirrors[0] != mirrors[1]:
                raise request.forbidden(f'node "{node}" cannot update annotation "{MIRROR}" through pod status')
            held, claimed = _claim_statuses(request.old), _claim_statuses(request.obj)
            if any(claim not in held for claim in claimed):
                raise request.forbidden(f'node "{node}" cannot update resource claim statuses')

    @staticmethod
    def _mirror(request: AdmissionRequest, node: str) -> None:
        pod = request.obj
        if MIRROR not in (pod["metadata"].get("annotations") or {}):
            raise request.forbidden(
                f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods'
            )
        if (pod.get("spec") or {}).get("nodeName") != node:
            raise request.forbidden(f'node "{node}" can only create pods with spec.nodeName set to itself')
        owners = pod["metadata"].get("ownerReferences") or []
        own = [owner for owner in owners if owner.get("kind") == "Node" and owner.get("name") == node]
        if owners and (len(owners) > 1 or not own or not owners[0].get("controller")):
            raise request.forbidden(f'node "{node}" can only create pods with an owner reference set to itself')
        named = sorted({kind for kind, _, name in references(pod) if kind != "serviceaccounts" and name})
        if named:
            raise request.forbidden(f'node "{node}" can not create pods that reference {", ".join(named)}')
        spec = pod.get("spec") or {}
        if any("persistentVolumeClaim" in volume or "ephemeral" in volume for volume in spec.get("volumes") or ()):
            raise request.forbidden(f'node "{node}" can not create pods that reference persistentvolumeclaims')
        if spec.get("resourceClaims"):
            raise request.forbidden(f'node "{node}" can not create pods that reference resourceclaims')


def _claim_statuses(pod: Object) -> list[Object]:
    return (pod.get("status") or {}).get("resourceClaimStatuses") or []


def _is_refused(label: str) -> bool:
    """Labels of Kubernetes' domains, and those that exist to tell nodes apart against their will."""
    prefix, slash, _ = label.partition("/")
    if not slash:
        return False
    domain = f"{prefix}/"
    if domain == RESTRICTED_PREFIX or prefix.endswith(f".{RESTRICTED_PREFIX[:-1]}"):
        return True
    is_theirs = any(prefix == zone or prefix.endswith(f".{zone}") for zone in ("kubernetes.io", "k8s.io"))
    if not is_theirs or label in _LABELS:
        return False
    return not any(prefix == kept[:-1] or prefix.endswith(f".{kept[:-1]}") for kept in _LABEL_PREFIXES)
