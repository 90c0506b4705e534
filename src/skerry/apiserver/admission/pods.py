"""What a new pod gets: its account and token, its priority, its tolerations, the overhead of its runtime.

Source: kubernetes plugin/pkg/admission/{serviceaccount,priority,defaulttolerationseconds,runtimeclass} (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import Forbidden
from skerry.apiserver.admission.request import AdmissionRequest, Collect, Find
from skerry.apiserver.auth.nodes import MIRROR
from skerry.apiserver.store.log import Key

EDGE_TAINT = "node-role.kubernetes.io/edge"
TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_EXPIRY_S = 3607
SYSTEM_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
"""Classes that every cluster has; they need no object."""

_CLASSES = "priorityclasses.scheduling.k8s.io"
_RUNTIMES = "runtimeclasses.node.k8s.io"


class ServiceAccounts:
    """Name the account of a new pod, and mount its token.

    Args:
        letters: makes the random end of names, given a length.
    """

    def __init__(self, find: Find, *, letters: Callable[[int], str]) -> None:
        self._find = find
        self._letters = letters

    def __call__(self, request: AdmissionRequest) -> None:
        if not request.is_new_pod:
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


class Priorities:
    """Resolve the priority class of a new pod, and keep one global default at most."""

    def __init__(self, find: Find, collection: Collect) -> None:
        self._find = find
        self._collection = collection

    def __call__(self, request: AdmissionRequest) -> None:
        if request.kind.storage == _CLASSES and request.operation in ("create", "update"):
            self._one_default(request)
        if not request.is_new_pod:
            return
        spec = request.obj["spec"]
        name = spec.get("priorityClassName")
        found = self._priority_class(name)
        if name and found is None:
            raise request.forbidden(f"no PriorityClass with name {name} was found")
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
        value = found["value"] if found is not None else 0
        given = spec.get("priority")
        if given is not None and given != value:
            raise request.forbidden(
                f"the integer value of priority ({given}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name"
            )
        spec["priority"] = value
        policy = (found or {}).get("preemptionPolicy") or "PreemptLowerPriority"
        asked = spec.get("preemptionPolicy")
        if asked and asked != policy:
            raise request.forbidden(
                f"the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name"
            )
        spec["preemptionPolicy"] = policy

    def _priority_class(self, name: str | None) -> dict[str, Any] | None:
        if name:
            entry = self._find(Key(_CLASSES, "", name))
            if entry is not None:
                return entry.content()
            value = SYSTEM_PRIORITIES.get(name)
            return {"metadata": {"name": name}, "value": value} if value is not None else None
        best: dict[str, Any] | None = None
        for candidate in self._collection(_CLASSES).entries():
            content = candidate.content()
            if content.get("globalDefault") and (best is None or content["value"] < best["value"]):
                best = content
        return best

    def _one_default(self, request: AdmissionRequest) -> None:
        if not request.obj.get("globalDefault"):
            return
        for entry in self._collection(_CLASSES).entries():
            if entry.key.name != request.name and entry.content().get("globalDefault"):
                raise request.forbidden(
                    f"PriorityClass {entry.key.name} is already marked as default. Only one default can exist"
                )


class RuntimeOverhead:
    """Take overhead and placement of a new pod from its RuntimeClass."""

    def __init__(self, find: Find) -> None:
        self._find = find

    def __call__(self, request: AdmissionRequest) -> None:
        if not request.is_new_pod:
            return
        spec = request.obj["spec"]
        name = spec.get("runtimeClassName")
        if not name:
            if spec.get("overhead"):
                raise request.forbidden(
                    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                )
            return
        entry = self._find(Key(_RUNTIMES, "", name))
        if entry is None:
            raise request.forbidden(f'pod rejected: RuntimeClass "{name}" not found')
        runtime = entry.content()
        fixed = (runtime.get("overhead") or {}).get("podFixed")
        if spec.get("overhead") and spec["overhead"] != fixed:
            raise request.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
        if fixed:
            spec["overhead"] = fixed
        scheduling = runtime.get("scheduling") or {}
        selector = spec.setdefault("nodeSelector", {}) if scheduling.get("nodeSelector") else {}
        for key, value in (scheduling.get("nodeSelector") or {}).items():
            if selector.setdefault(key, value) != value:
                raise request.forbidden(
                    f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                    f"pod.spec.nodeSelector[{key}] = {selector[key]}"
                )
        tolerations = spec.setdefault("tolerations", [])
        tolerations += [each for each in scheduling.get("tolerations") or () if each not in tolerations]


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


def default_tolerations(request: AdmissionRequest) -> None:
    """A pod stays 300 s on a node that has become not ready or unreachable."""
    if not request.is_new_pod:
        return
    tolerations = request.obj["spec"].setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(_tolerates(t, key, "NoExecute") for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})


def edge_toleration(request: AdmissionRequest) -> None:
    """Every pod may run on edge nodes, so that a plain Deployment needs no toleration typed by hand."""
    if not request.is_new_pod:
        return
    tolerations = request.obj["spec"].setdefault("tolerations", [])
    if not any(_tolerates(t, EDGE_TAINT, "NoSchedule") for t in tolerations):
        tolerations.append({"key": EDGE_TAINT, "operator": "Exists"})


def _tolerates(toleration: dict[str, Any], key: str, effect: str) -> bool:
    if toleration.get("effect") not in (None, "", effect):
        return False
    return toleration.get("key") == key or (not toleration.get("key") and toleration.get("operator") == "Exists")
