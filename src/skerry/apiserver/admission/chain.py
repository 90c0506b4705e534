"""Admission: what is put into objects, and what is refused, between defaulting and validation.

An explicit list of steps, run in order. A step may change ``request.obj`` in place or raise ``ApiError``. Steps read
other objects from the store's memory and never write, so a dry run needs no exception here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import Forbidden, not_found
from skerry.apiserver.auth.authn import User
from skerry.apiserver.registry import Kind
from skerry.apiserver.store.log import Key
from skerry.apiserver.store.watch import Collection, Entry

MIRROR = "kubernetes.io/config.mirror"
EDGE_TAINT = "node-role.kubernetes.io/edge"
TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_EXPIRY_S = 3607
_KEPT_NAMESPACES = ("default", "kube-system", "kube-public")


@dataclass(slots=True)
class AdmissionRequest:
    """One write on its way.

    Args:
        operation: ``create``, ``update`` or ``delete``.
        obj: the new state; for ``delete`` the present one.
        old: the present state of an update.
    """

    user: User
    kind: Kind
    operation: str
    subresource: str
    namespace: str
    name: str
    obj: Object
    old: Object | None = None


Find = Callable[[Key], Entry | None]
Step = Callable[[AdmissionRequest], None]


class AdmissionChain:
    """The steps of this server.

    Args:
        find: looks up one object.
        collection: the objects of a storage resource.
        letters: makes the random end of names, given a length.
    """

    def __init__(self, *, find: Find, collection: Callable[[str], Collection], letters: Callable[[int], str]) -> None:
        self._find = find
        self._collection = collection
        self._letters = letters
        self.steps: Sequence[Step] = (
            self.namespace_lifecycle,
            self.service_account,
            taint_new_nodes,
            self.priority,
            default_tolerations,
            edge_toleration,
        )

    def run(self, request: AdmissionRequest) -> None:
        """Every step, in order.

        Raises:
            ApiError: a step refuses.
        """
        for step in self.steps:
            step(request)

    def namespace_lifecycle(self, request: AdmissionRequest) -> None:
        """Refuse content in missing or ending namespaces, and the removal of the system's namespaces."""
        resource = request.kind.resource
        if resource.plural == "namespaces" and request.operation == "delete":
            if request.name in _KEPT_NAMESPACES:
                raise Forbidden(
                    f'namespaces "{request.name}" is forbidden: this namespace may not be deleted',
                    details={"name": request.name, "kind": "namespaces"},
                )
            return
        if not resource.namespaced or request.operation != "create":
            return
        entry = self._find(Key("namespaces", "", request.namespace))
        if entry is None:
            raise not_found("namespaces", request.namespace)
        if (entry.content().get("status") or {}).get("phase") != "Terminating":
            return
        if resource.plural == "localsubjectaccessreviews" or request.subresource:
            return
        raise _terminating(request)

    def service_account(self, request: AdmissionRequest) -> None:
        """Name the account of a new pod, and mount its token."""
        if not _is_new_pod(request):
            return
        spec = request.obj["spec"]
        if MIRROR in (request.obj["metadata"].get("annotations") or {}):
            refuse_account(request.obj)
            return
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        entry = self._find(Key("serviceaccounts", request.namespace, name))
        if entry is None:
            pod = request.obj["metadata"].get("name", "")
            raise Forbidden(
                f'pods "{pod}" is forbidden: error looking up service account {request.namespace}/{name}: '
                f'serviceaccount "{name}" not found',
                details={"name": pod, "kind": "pods"},
            )
        account = entry.content()
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        wants = spec.get("automountServiceAccountToken")
        if wants is None:
            wants = account.get("automountServiceAccountToken")
        if wants is not False:
            self._mount_token(spec)

    def priority(self, request: AdmissionRequest) -> None:
        """Resolve the priority class of a new pod."""
        if not _is_new_pod(request):
            return
        spec = request.obj["spec"]
        name = spec.get("priorityClassName")
        found = self._priority_class(name)
        if name and found is None:
            pod = request.obj["metadata"].get("name", "")
            raise Forbidden(
                f'pods "{pod}" is forbidden: no PriorityClass with name {name} was found',
                details={"name": pod, "kind": "pods"},
            )
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
        value = found["value"] if found is not None else 0
        given = spec.get("priority")
        if given is not None and given != value:
            pod = request.obj["metadata"].get("name", "")
            raise Forbidden(
                f'pods "{pod}" is forbidden: the integer value of priority ({given}) must not be provided in pod spec; '
                f"priority admission controller computed {value} from the given PriorityClass name",
                details={"name": pod, "kind": "pods"},
            )
        spec["priority"] = value
        spec.setdefault("preemptionPolicy", (found or {}).get("preemptionPolicy", "PreemptLowerPriority"))

    def _priority_class(self, name: str | None) -> dict[str, Any] | None:
        if name:
            entry = self._find(Key("priorityclasses.scheduling.k8s.io", "", name))
            return entry.content() if entry is not None else None
        best: dict[str, Any] | None = None
        for candidate in self._collection("priorityclasses.scheduling.k8s.io").entries():
            content = candidate.content()
            if content.get("globalDefault") and (best is None or content["value"] < best["value"]):
                best = content
        return best

    def _mount_token(self, spec: dict[str, Any]) -> None:
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        lacking = [c for c in containers if all(m.get("mountPath") != TOKEN_MOUNT for m in c.get("volumeMounts") or ())]
        if not lacking:
            return
        volumes = spec.setdefault("volumes", [])
        volume = next((v["name"] for v in volumes if str(v.get("name", "")).startswith("kube-api-access-")), None)
        if volume is None:
            volume = f"kube-api-access-{self._letters(5)}"
            volumes.append(token_volume(volume))
        for container in lacking:
            container.setdefault("volumeMounts", []).append(
                {"name": volume, "readOnly": True, "mountPath": TOKEN_MOUNT}
            )


def refuse_account(pod: Object) -> None:
    """The image of a pod that runs from a file on its node gets no account: the node could ask for its token.

    Source: kubernetes plugin/pkg/admission/serviceaccount/admission.go (v1.36).
    """
    spec, name = pod["spec"], pod["metadata"].get("name", "")
    projected = [volume.get("projected") or {} for volume in spec.get("volumes") or ()]
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        raise Forbidden(f'pods "{name}" is forbidden: a mirror pod may not reference service accounts')
    if any("serviceAccountToken" in source for each in projected for source in each.get("sources") or ()):
        raise Forbidden(f'pods "{name}" is forbidden: a mirror pod may not project service account tokens')


def token_volume(name: str) -> dict[str, Any]:
    """The projected volume that carries token, CA and namespace into a pod."""
    return {
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_EXPIRY_S, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {
                    "downwardAPI": {
                        "items": [
                            {
                                "path": "namespace",
                                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                            }
                        ]
                    }
                },
            ],
        },
    }


def taint_new_nodes(request: AdmissionRequest) -> None:
    """A new node takes no pods before it has said that it is ready."""
    if request.kind.resource.plural != "nodes" or request.operation != "create":
        return
    spec = request.obj.setdefault("spec", {})
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    taints = spec.setdefault("taints", [])
    if all((t.get("key"), t.get("effect")) != (taint["key"], taint["effect"]) for t in taints):
        taints.append(taint)


def default_tolerations(request: AdmissionRequest) -> None:
    """A pod stays 300 s on a node that has become not ready or unreachable."""
    if not _is_new_pod(request):
        return
    tolerations = request.obj["spec"].setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(_tolerates(t, key, "NoExecute") for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})


def edge_toleration(request: AdmissionRequest) -> None:
    """Every pod may run on edge nodes, so that a plain Deployment needs no toleration typed by hand."""
    if not _is_new_pod(request):
        return
    tolerations = request.obj["spec"].setdefault("tolerations", [])
    if not any(_tolerates(t, EDGE_TAINT, "NoSchedule") for t in tolerations):
        tolerations.append({"key": EDGE_TAINT, "operator": "Exists"})


def _terminating(request: AdmissionRequest) -> Forbidden:
    resource = request.kind.resource
    text = f"unable to create new content in namespace {request.namespace} because it is being terminated"
    details: dict[str, Any] = {
        "name": request.name,
        "kind": resource.plural,
        "causes": [
            {
                "reason": "NamespaceTerminating",
                "message": f"namespace {request.namespace} is being terminated",
                "field": "metadata.namespace",
            }
        ],
    }
    if resource.group:
        details["group"] = resource.group
    return Forbidden(f'{resource.group_resource} "{request.name}" is forbidden: {text}', details=details)


def _tolerates(toleration: dict[str, Any], key: str, effect: str) -> bool:
    if toleration.get("effect") not in (None, "", effect):
        return False
    return toleration.get("key") == key or (not toleration.get("key") and toleration.get("operator") == "Exists")


def _is_new_pod(request: AdmissionRequest) -> bool:
    return request.kind.resource.plural == "pods" and request.operation == "create" and not request.subresource
