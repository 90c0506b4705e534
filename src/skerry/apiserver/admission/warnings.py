"""What clients are told although their write is accepted: fields that nothing acts on yet, and what is deprecated.

A table on purpose: a row goes when the feature arrives. Source of the deprecations: kubernetes
pkg/api/{pod,service,persistentvolume}/warnings.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from skerry.api.gvk import Object
from skerry.apiserver.admission.request import AdmissionRequest

Tell = Callable[[Object], Iterator[str]]

_OLD_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'use "node.kubernetes.io/instance-type" instead',
}
_TEMPLATED = ("deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch")


def warn(request: AdmissionRequest) -> None:
    """Warn about one create or update; a field that the update does not touch is not told again."""
    if request.operation not in ("create", "update") or request.subresource or request.kind.custom is not None:
        return
    before = set(_texts(request.kind.storage, request.old)) if request.old is not None else set()
    for text in _texts(request.kind.storage, request.obj):
        if text not in before:
            request.warn(text)


def _texts(storage: str, obj: Object) -> Iterator[str]:
    tell = _TOLD.get(storage)
    if tell is not None:
        yield from tell(obj)
    for finalizer in obj["metadata"].get("finalizers") or ():
        if "/" not in finalizer and finalizer not in ("orphan", "foregroundDeletion"):
            yield (
                f'metadata.finalizers: "{finalizer}": prefer a domain-qualified finalizer name including a path (/) to '
                "avoid accidental conflicts with other finalizer writers"
            )


def _network_policy(obj: Object) -> Iterator[str]:
    yield "NetworkPolicy: stored, but nothing enforces it yet; traffic is not restricted"


def _ingress(obj: Object) -> Iterator[str]:
    yield "Ingress: stored, but no ingress controller is part of Skerry; install one to serve it"


def _service(obj: Object) -> Iterator[str]:
    spec = obj.get("spec") or {}
    if spec.get("type") == "LoadBalancer":
        yield "spec.type: no load balancer is part of Skerry; the Service gets an external address only if you add one"
    if spec.get("sessionAffinity") == "ClientIP":
        yield "spec.sessionAffinity: ClientIP is not enforced yet; connections spread over all endpoints"
    for name in ("internalTrafficPolicy", "externalTrafficPolicy"):
        if spec.get(name) == "Local":
            yield f"spec.{name}: Local is not enforced yet; it acts as Cluster"
    for name in ("externalIPs", "loadBalancerSourceRanges", "trafficDistribution"):
        if spec.get(name):
            yield f"spec.{name}: not enforced yet"
    if spec.get("loadBalancerIP"):
        yield (
            "spec.loadBalancerIP is deprecated, and its meaning differs between implementations; use annotations of "
            "your load balancer instead"
        )


def _endpoints(obj: Object) -> Iterator[str]:
    yield "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"


def _volume(obj: Object) -> Iterator[str]:
    spec = obj.get("spec") or {}
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        yield "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."  # noqa: E501  # fmt: skip
    if "volume.beta.kubernetes.io/storage-class" in (obj["metadata"].get("annotations") or {}):
        yield 'metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead'  # noqa: E501  # fmt: skip


def _pod(obj: Object) -> Iterator[str]:
    yield from _spec(obj.get("spec") or {}, "spec")


def _template(obj: Object) -> Iterator[str]:
    template = (obj.get("spec") or {}).get("template") or {}
    yield from _spec(template.get("spec") or {}, "spec.template.spec")


def _cron_job(obj: Object) -> Iterator[str]:
    spec = (((obj.get("spec") or {}).get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
    yield from _spec(spec.get("spec") or {}, "spec.jobTemplate.spec.template.spec")


def _spec(spec: dict[str, Any], path: str) -> Iterator[str]:
    for key in spec.get("nodeSelector") or {}:
        if key in _OLD_NODE_LABELS:
            yield f"{path}.nodeSelector[{key}]: deprecated since v1.14; {_OLD_NODE_LABELS[key]}"
    for index, volume in enumerate(spec.get("volumes") or ()):
        if volume.get("gitRepo") is not None:
            yield f"{path}.volumes[{index}].gitRepo: deprecated in v1.11"
    for index, container in enumerate(spec.get("containers") or ()):
        yield from _repeated(container, f"{path}.containers[{index}]")
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"  # noqa: E501  # fmt: skip


def _repeated(container: dict[str, Any], path: str) -> Iterator[str]:
    seen: dict[str, int] = {}
    for index, env in enumerate(container.get("env") or ()):
        name = str(env.get("name", ""))
        if name in seen:
            yield f'{path}.env[{index}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen[name] = index


_TOLD: dict[str, Tell] = {
    "networkpolicies.networking.k8s.io": _network_policy,
    "ingresses.networking.k8s.io": _ingress,
    "services": _service,
    "endpoints": _endpoints,
    "persistentvolumes": _volume,
    "persistentvolumeclaims": _volume,
    "pods": _pod,
    "cronjobs.batch": _cron_job,
    **dict.fromkeys(_TEMPLATED, _template),
}
