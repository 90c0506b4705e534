"""ResourceQuota: what each object uses of a quota, and which quotas cover it. Pure.

Amounts are whole nano units. Shared by admission, which refuses, and by the counter of the quotas' status.

Source: kubernetes pkg/quota/v1/evaluator/core/{pods,services,persistent_volume_claims}.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.kinds.amounts import amounts, pod_amounts
from skerry.api.qos import qos_class
from skerry.api.quantity import Quantity, parse_quantity

ONE = 10**9
Usage = dict[str, int]

_COUNTED = ("pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims")  # noqa: E501  # fmt: skip
_DEVICE_CLAIMS, _DEVICES = "resourceclaims.resource.k8s.io", ".deviceclass.resource.k8s.io/devices"
_CLASS = ".storageclass.storage.k8s.io/"
_MUST_STATE = ("cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory")
_PLAIN = ("cpu", "memory", "ephemeral-storage")
_SERVICES = ("services", "services.loadbalancers", "services.nodeports")


def usage(storage: str, obj: Object) -> Usage:
    """What one object uses.

    Args:
        storage: its group resource, such as ``pods`` or ``deployments.apps``.
    """
    found = {f"count/{storage}": ONE}
    if storage == "pods":
        if (obj.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            found |= _pod(obj)
    elif storage in _COUNTED:
        found[storage] = ONE
    if storage == "services":
        found |= _service(obj)
    elif storage == "persistentvolumeclaims":
        found |= _claim(obj)
    elif storage == _DEVICE_CLAIMS:
        found |= _devices(obj)
    return found


def storages(hard: Iterable[str]) -> set[str]:
    """The group resources whose objects count for these names."""
    return {storage_of(name) for name in hard}


def storage_of(name: str) -> str:
    """The group resource whose objects count for one name of a quota."""
    if name.startswith("count/"):
        return name[len("count/") :]
    if name in _SERVICES:
        return "services"
    if name in ("persistentvolumeclaims", "requests.storage") or _CLASS in name:
        return "persistentvolumeclaims"
    if name.endswith(_DEVICES):
        return _DEVICE_CLAIMS
    return name if name in _COUNTED else "pods"


def covers(quota: Object, storage: str, obj: Object) -> bool:
    """Whether a quota counts an object: by its names, and by every one of its scopes."""
    spec = quota.get("spec") or {}
    if storage not in storages(spec.get("hard") or ()):
        return False
    scopes = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    scopes += (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    return all(storage == "pods" and _in_scope(scope, obj) for scope in scopes)


def lacking(hard: Iterable[str], pod: Object) -> str:
    """What a pod must state because a quota counts it, as text; empty when nothing is missing."""
    spec = pod.get("spec") or {}
    if any((spec.get("resources") or {}).get(member) for member in ("requests", "limits")):
        return ""
    wanted = sorted(set(hard) & set(_MUST_STATE))
    missing: dict[str, set[str]] = {}
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container.get("resources") or {}
        stated = _named(amounts(resources.get("requests")), amounts(resources.get("limits")))
        for name in wanted:
            if name not in stated:
                missing.setdefault(name, set()).add(str(container.get("name", "")))
    texts = [f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing)]
    return f"must specify {'; '.join(texts)}" if texts else ""


def hard_amounts(quota: Object) -> dict[str, Quantity]:
    """The bounds of a quota."""
    return amounts((quota.get("spec") or {}).get("hard"))


def text_of(name: str, nano: int, hard: Mapping[str, Quantity]) -> str:
    """An amount in the form in which the quota's bound is written."""
    form = hard[name].form if name in hard else "decimal"
    return str(Quantity(nano, form))


def _pod(pod: Object) -> Usage:
    spec = pod.get("spec") or {}
    stated = _named(pod_amounts(spec, "requests"), pod_amounts(spec, "limits"))
    return {"pods": ONE} | {name: amount.nano for name, amount in stated.items()}


def _named(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]) -> dict[str, Quantity]:
    found: dict[str, Quantity] = {}
    for name, amount in requests.items():
        if name in _PLAIN or name.startswith("hugepages-"):
            found[name] = found[f"requests.{name}"] = amount
        elif "/" in name:
            found[f"requests.{name}"] = amount
    found |= {f"limits.{name}": amount for name, amount in limits.items() if name in _PLAIN}
    return found


def _service(service: Object) -> Usage:
    spec = service.get("spec") or {}
    ports = spec.get("ports") or []
    kind = spec.get("type")
    found = {"services": ONE}
    if kind == "LoadBalancer":
        found["services.loadbalancers"] = ONE
        if spec.get("allocateLoadBalancerNodePorts") is False:
            ports = [port for port in ports if port.get("nodePort")]
    if kind in ("LoadBalancer", "NodePort"):
        found["services.nodeports"] = len(ports) * ONE
    return found


def _claim(claim: Object) -> Usage:
    spec = claim.get("spec") or {}
    found = {"persistentvolumeclaims": ONE}
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    given = (((claim.get("status") or {}).get("allocatedResources")) or {}).get("storage")
    size = max((parse_quantity(text).nano for text in (asked, given) if text is not None), default=0)
    found["requests.storage"] = size
    annotations = claim["metadata"].get("annotations") or {}
    name = spec.get("storageClassName") or annotations.get("volume.beta.kubernetes.io/storage-class")
    if name:
        found[f"{name}{_CLASS}persistentvolumeclaims"] = ONE
        found[f"{name}{_CLASS}requests.storage"] = size
    return found


def _devices(claim: Object) -> Usage:
    """Devices by their class; of alternatives the greatest of each class counts."""
    found: Usage = {}
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        most: Usage = {}
        for part in [request["exactly"]] if request.get("exactly") else request.get("firstAvailable") or ():
            name = f"{part.get('deviceClassName', '')}{_DEVICES}"
            most[name] = max(most.get(name, 0), int(part.get("count") or 1) * ONE)
        for name, amount in most.items():
            found[name] = found.get(name, 0) + amount
    return found


def _in_scope(scope: Mapping[str, Any], pod: Object) -> bool:
    spec = pod.get("spec") or {}
    match scope.get("scopeName"):
        case "Terminating":
            return _ends(spec)
        case "NotTerminating":
            return not _ends(spec)
        case "BestEffort":
            return qos_class(pod) == "BestEffort"
        case "NotBestEffort":
            return qos_class(pod) != "BestEffort"
        case "PriorityClass":
            return _in_class(scope, str(spec.get("priorityClassName") or ""))
        case "CrossNamespacePodAffinity":
            return _crosses_namespaces(spec)
    return False


def _ends(spec: Mapping[str, Any]) -> bool:
    deadline = spec.get("activeDeadlineSeconds")
    return deadline is not None and deadline >= 0


def _in_class(scope: Mapping[str, Any], name: str) -> bool:
    values = scope.get("values") or ()
    match scope.get("operator"):
        case "In":
            return name in values
        case "NotIn":
            return name not in values
        case "DoesNotExist":
            return not name
    return bool(name)


def _crosses_namespaces(spec: Mapping[str, Any]) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [item.get("podAffinityTerm") or {} for item in preferred]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
