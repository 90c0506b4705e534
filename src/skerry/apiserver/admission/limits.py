"""LimitRanges: default requests and limits of containers, and bounds for containers, pods and claims.

Source: kubernetes plugin/pkg/admission/limitranger/admission.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.api.kinds.amounts import Amounts, amounts, pod_amounts
from skerry.api.quantity import Quantity, parse_quantity
from skerry.apiserver.admission.request import AdmissionRequest, Collect

ANNOTATION = "kubernetes.io/limit-ranger"
_STORAGES = ("pods", "persistentvolumeclaims")
_CONTAINERS = (("containers", "container"), ("initContainers", "init container"))


class LimitRanges:
    """Fills defaults (``mutate``) and checks bounds (``validate``) of new pods and claims."""

    def __init__(self, collection: Collect) -> None:
        self._collection = collection

    def mutate(self, request: AdmissionRequest) -> None:
        """Give containers the default requests and limits of their namespace."""
        if request.is_new_pod:
            for limit_range in self._of(request.namespace):
                fill_defaults(request.obj, limit_range)

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse what is out of bounds.

        Raises:
            Forbidden: with every bound that is broken.
        """
        if not any(request.creates(storage) for storage in _STORAGES):
            return
        found = [text for limit_range in self._of(request.namespace) for text in broken(request.obj, limit_range)]
        if found:
            raise request.forbidden(found[0] if len(found) == 1 else f"[{', '.join(dict.fromkeys(found))}]")

    def _of(self, namespace: str) -> list[Object]:
        return [entry.content() for entry in self._collection("limitranges").entries(namespace)]


def fill_defaults(pod: Object, limit_range: Object) -> None:
    """Give the pod's containers what a LimitRange has as default, and say so in an annotation."""
    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for item in _items(limit_range, "Container"):
        requests |= item.get("defaultRequest") or {}
        limits |= item.get("default") or {}
    said: list[str] = []
    for name, words in _CONTAINERS:
        for container in pod["spec"].get(name) or ():
            said += _fill(container, requests, limits, words)
    if said:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[ANNOTATION] = f"LimitRanger plugin set: {'; '.join(said)}"


def broken(obj: Object, limit_range: Object) -> Iterator[str]:
    """Every bound of a LimitRange that a pod or a claim breaks."""
    spec = obj.get("spec") or {}
    if "containers" not in spec:
        for item in _items(limit_range, "PersistentVolumeClaim"):
            requests = amounts((spec.get("resources") or {}).get("requests"))
            yield from _minimum(item, requests, {})
            for name, most in amounts(item.get("max")).items():
                yield from _most_requested(item["type"], name, most, requests)
        return
    for item in _items(limit_range, "Container"):
        for name, _ in _CONTAINERS:
            for container in spec.get(name) or ():
                resources = container.get("resources") or {}
                yield from _bounds(item, amounts(resources.get("requests")), amounts(resources.get("limits")))
    for item in _items(limit_range, "Pod"):
        yield from _bounds(item, pod_amounts(spec, "requests"), pod_amounts(spec, "limits"))


def _items(limit_range: Object, kind: str) -> list[dict[str, Any]]:
    return [item for item in (limit_range.get("spec") or {}).get("limits") or () if item.get("type") == kind]


def _fill(container: dict[str, Any], requests: dict[str, Any], limits: dict[str, Any], words: str) -> Iterator[str]:
    resources = container.setdefault("resources", {})
    texts = []
    for member, defaults in (("limits", limits), ("requests", requests)):
        lacking = sorted(name for name in defaults if name not in (resources.get(member) or {}))
        if lacking:
            resources[member] = {**(resources.get(member) or {}), **{name: defaults[name] for name in lacking}}
            texts.append(f"{', '.join(lacking)} {member[:-1]} for {words} {container.get('name', '')}")
    return reversed(texts)


def _bounds(item: Mapping[str, Any], requests: Amounts, limits: Amounts) -> Iterator[str]:
    kind = item["type"]
    yield from _minimum(item, requests, limits)
    for name, most in amounts(item.get("max")).items():
        if name not in limits:
            yield f"maximum {name} usage per {kind} is {most}.  No limit is specified"
        elif most < limits[name]:
            yield f"maximum {name} usage per {kind} is {most}, but limit is {limits[name]}"
        elif name in requests and most < requests[name]:
            yield f"maximum {name} usage per {kind} is {most}, but request is {requests[name]}"
    for name, ratio in (item.get("maxLimitRequestRatio") or {}).items():
        yield from _ratio(kind, name, parse_quantity(ratio), requests.get(name), limits.get(name))


def _minimum(item: Mapping[str, Any], requests: Amounts, limits: Amounts) -> Iterator[str]:
    kind = item["type"]
    for name, least in amounts(item.get("min")).items():
        if name not in requests:
            yield f"minimum {name} usage per {kind} is {least}.  No request is specified"
        elif requests[name] < least:
            yield f"minimum {name} usage per {kind} is {least}, but request is {requests[name]}"
        elif name in limits and limits[name] < least:
            yield f"minimum {name} usage per {kind} is {least}, but limit is {limits[name]}"


def _most_requested(kind: str, name: str, most: Quantity, requests: Amounts) -> Iterator[str]:
    if name not in requests:
        yield f"maximum {name} usage per {kind} is {most}.  No request is specified"
    elif most < requests[name]:
        yield f"maximum {name} usage per {kind} is {most}, but request is {requests[name]}"


def _ratio(kind: str, name: str, most: Quantity, request: Quantity | None, limit: Quantity | None) -> Iterator[str]:
    head = f"{name} max limit to request ratio per {kind} is {most}"
    if request is None or not request.nano:
        yield f"{head}, but no request is specified or request is 0"
    elif limit is None or not limit.nano:
        yield f"{head}, but no limit is specified or limit is 0"
    elif limit.nano * 10**9 > most.nano * request.nano:
        yield f"{head}, but provided ratio is {limit.nano / request.nano:f}"
