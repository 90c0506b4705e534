"""The rows of every built-in resource (pure data): what kube-controller-manager, the scheduler and kubectl ask for.

Source: registry strategies of Kubernetes v1.36 (create on update, unconditional update, returned objects, generation).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skerry.api import gvk
from skerry.api.gvk import Resource
from skerry.apiserver.registry import ALL_VERBS, Kind, Subresource

_NAMESPACE_VERBS = tuple(verb for verb in ALL_VERBS if verb != "deletecollection")
_CREATE = ("create",)
_READ = ("get", "list")
_GET = ("get",)
_ALL = ("all",)
_EXTENSIONS = ("api-extensions",)
_CONNECTED = ("create", "get")
_PROXIED = ("create", "delete", "get", "patch", "update")
_SCALE = Subresource("scale", group="autoscaling", version="v1", kind="Scale")


def _kind(
    resource: Resource,
    *,
    status: bool = False,
    subs: Iterable[Subresource] = (),
    short: str = "",
    categories: tuple[str, ...] = (),
    **flags: Any,
) -> Kind:
    subresources = (*((Subresource("status"),) if status else ()), *subs)
    flags.setdefault("storage", resource.group_resource)
    return Kind(
        resource=resource,
        singular=resource.kind.lower(),
        short_names=tuple(short.split()),
        categories=categories,
        subresources=tuple(sorted(subresources, key=lambda sub: sub.name)),
        **flags,
    )


def _review(group: str, plural: str, kind: str, *, namespaced: bool = False, version: str = "v1") -> Kind:
    return _kind(Resource(group, version, plural, kind, namespaced), verbs=_CREATE, storage="")


def builtin_kinds() -> tuple[Kind, ...]:
    """Every built-in row."""
    return (*_core(), *_workloads(), *_reviews(), *_rules(), *_network(), *_storage(), *_extensions(), *_cluster())


def _core() -> tuple[Kind, ...]:
    return (
        _kind(gvk.NAMESPACES, status=True, subs=[Subresource("finalize", ("update",))], short="ns",
              verbs=_NAMESPACE_VERBS, returns_deleted=True),
        _kind(gvk.NODES, status=True, short="no", subs=[Subresource("proxy", _PROXIED, kind="NodeProxyOptions")]),
        _kind(
            gvk.PODS, status=True, short="po", categories=_ALL, bumps_generation="spec", returns_deleted=True,
            subs=[
                Subresource("attach", _CONNECTED, kind="PodAttachOptions"),
                Subresource("binding", _CREATE, kind="Binding"),
                Subresource("ephemeralcontainers"),
                Subresource("eviction", _CREATE, "policy", "v1", "Eviction"),
                Subresource("exec", _CONNECTED, kind="PodExecOptions"),
                Subresource("log", _GET),
                Subresource("portforward", _CONNECTED, kind="PodPortForwardOptions"),
                Subresource("proxy", _PROXIED, kind="PodProxyOptions"),
                Subresource("resize"),
            ],
        ),
        _kind(gvk.PODTEMPLATES, returns_deleted=True),
        _kind(gvk.REPLICATIONCONTROLLERS, status=True, short="rc", categories=_ALL, bumps_generation="spec",
              subs=[_SCALE]),
        _kind(gvk.CONFIGMAPS, short="cm"),
        _kind(gvk.SECRETS),
        _kind(gvk.SERVICES, status=True, short="svc", categories=_ALL, creates_on_update=True, returns_deleted=True,
              subs=[Subresource("proxy", _PROXIED, kind="ServiceProxyOptions")]),
        _kind(gvk.ENDPOINTS, short="ep", creates_on_update=True),
        _kind(gvk.EVENTS, short="ev", creates_on_update=True, storage="events"),
        _kind(Resource("events.k8s.io", "v1", "events", "Event"), short="ev", creates_on_update=True,
              storage="events", view="events"),
        _kind(
            gvk.SERVICEACCOUNTS, short="sa", returns_deleted=True,
            subs=[Subresource("token", _CREATE, "authentication.k8s.io", "v1", "TokenRequest")],
        ),
        _kind(gvk.PERSISTENTVOLUMES, status=True, short="pv", returns_deleted=True),
        _kind(gvk.PERSISTENTVOLUMECLAIMS, status=True, short="pvc", returns_deleted=True),
        _kind(gvk.LIMITRANGES, short="limits", creates_on_update=True),
        _kind(gvk.RESOURCEQUOTAS, status=True, short="quota", returns_deleted=True),
        _kind(Resource("", "v1", "bindings", "Binding"), verbs=_CREATE, storage=""),
        _kind(gvk.COMPONENTSTATUSES, short="cs", verbs=_READ, storage=""),
    )  # fmt: skip


def _workloads() -> tuple[Kind, ...]:
    return (
        _kind(gvk.DEPLOYMENTS, status=True, short="deploy", categories=_ALL, bumps_generation="spec", subs=[_SCALE]),
        _kind(gvk.REPLICASETS, status=True, short="rs", categories=_ALL, bumps_generation="spec", subs=[_SCALE]),
        _kind(gvk.STATEFULSETS, status=True, short="sts", categories=_ALL, bumps_generation="spec", subs=[_SCALE]),
        _kind(gvk.DAEMONSETS, status=True, short="ds", categories=_ALL, bumps_generation="spec"),
        _kind(gvk.CONTROLLERREVISIONS),
        _kind(gvk.JOBS, status=True, categories=_ALL, bumps_generation="spec"),
        _kind(gvk.CRONJOBS, status=True, short="cj", categories=_ALL, bumps_generation="spec"),
        _kind(gvk.HPAS, status=True, short="hpa", categories=_ALL),
        _kind(gvk.HPAS_V1, status=True, short="hpa", categories=_ALL, view="autoscaling/v1"),
        _kind(gvk.PDBS, status=True, short="pdb", bumps_generation="spec", needs_version_on_update=True),
    )


def _reviews() -> tuple[Kind, ...]:
    return (
        _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
        _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
        # kubectl 1.27 asks who it is in the beta version only
        _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", version="v1beta1"),
        _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
        _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        _review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        _review("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", namespaced=True),
    )


def _rules() -> tuple[Kind, ...]:
    return (
        _kind(gvk.ROLES, creates_on_update=True),
        _kind(gvk.ROLEBINDINGS, creates_on_update=True),
        _kind(gvk.CLUSTERROLES, creates_on_update=True),
        _kind(gvk.CLUSTERROLEBINDINGS, creates_on_update=True),
        _kind(gvk.CSRS, status=True, short="csr", subs=[Subresource("approval")]),
    )


def _network() -> tuple[Kind, ...]:
    return (
        _kind(gvk.INGRESSES, status=True, short="ing", bumps_generation="spec"),
        _kind(gvk.INGRESSCLASSES, bumps_generation="spec"),
        _kind(gvk.NETWORKPOLICIES, short="netpol", bumps_generation="spec"),
        _kind(gvk.IPADDRESSES, short="ip"),
        _kind(gvk.SERVICECIDRS, status=True),
        _kind(gvk.ENDPOINTSLICES, bumps_generation="any"),
    )


def _storage() -> tuple[Kind, ...]:
    pinned: dict[str, Any] = {"needs_version_on_update": True, "returns_deleted": True}
    return (
        _kind(gvk.STORAGECLASSES, short="sc", returns_deleted=True),
        _kind(gvk.CSIDRIVERS, **pinned),
        _kind(gvk.CSINODES, **pinned),
        _kind(gvk.CSISTORAGECAPACITIES, needs_version_on_update=True),
        _kind(gvk.VOLUMEATTACHMENTS, status=True, **pinned),
        _kind(gvk.VOLUMEATTRIBUTESCLASSES, short="vac", returns_deleted=True),
    )


def _extensions() -> tuple[Kind, ...]:
    hook: dict[str, Any] = {"categories": _EXTENSIONS, "needs_version_on_update": True}
    return (
        _kind(gvk.CRDS, status=True, short="crd crds", bumps_generation="spec", **hook),
        _kind(gvk.APISERVICES, status=True, categories=_EXTENSIONS),
        _kind(gvk.VALIDATINGWEBHOOKS, bumps_generation="any", **hook),
        _kind(gvk.MUTATINGWEBHOOKS, bumps_generation="any", **hook),
        _kind(gvk.VALIDATINGPOLICIES, status=True, bumps_generation="spec", **hook),
        _kind(gvk.VALIDATINGPOLICYBINDINGS, bumps_generation="spec", **hook),
        _kind(gvk.MUTATINGPOLICIES, bumps_generation="spec", **hook),
        _kind(gvk.MUTATINGPOLICYBINDINGS, bumps_generation="spec", **hook),
    )


def _cluster() -> tuple[Kind, ...]:
    return (
        _kind(gvk.PRIORITYCLASSES, short="pc", bumps_generation="any"),
        _kind(gvk.LEASES, creates_on_update=True, needs_version_on_update=True),
        _kind(gvk.RUNTIMECLASSES, creates_on_update=True, needs_version_on_update=True),
        _kind(gvk.DEVICECLASSES, bumps_generation="spec", returns_deleted=True),
        _kind(gvk.RESOURCECLAIMS, status=True, returns_deleted=True),
        _kind(gvk.RESOURCECLAIMTEMPLATES, returns_deleted=True),
        _kind(gvk.RESOURCESLICES, bumps_generation="spec", returns_deleted=True),
        _kind(gvk.FLOWSCHEMAS, status=True, bumps_generation="spec"),
        _kind(gvk.PRIORITYLEVELS, status=True, bumps_generation="spec"),
        _kind(gvk.NODEMETRICS, verbs=_READ, storage=""),
        _kind(gvk.PODMETRICS, verbs=_READ, storage=""),
    )
