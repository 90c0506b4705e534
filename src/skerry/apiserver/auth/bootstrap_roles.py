"""The roles and bindings that every cluster starts with (pure data).

Source: Kubernetes plugin/pkg/auth/authorizer/rbac/bootstrappolicy (v1.36), reduced to what is served here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skerry.api.gvk import Object

GROUP = "rbac.authorization.k8s.io"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}

_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_WORKLOADS = ["daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale"]
_CORE_EDIT = ["configmaps", "endpoints", "persistentvolumeclaims", "pods", "services"]


def _rule(verbs: Iterable[str], groups: Iterable[str], resources: Iterable[str]) -> dict[str, Any]:
    return {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)}


def _urls(*urls: str) -> dict[str, Any]:
    return {"verbs": ["get"], "nonResourceURLs": list(urls)}


_VIEW = [
    _rule(_READ, [""], [*_CORE_EDIT, "persistentvolumeclaims/status", "pods/log", "pods/status", "serviceaccounts",
                        "services/status", "bindings", "events", "namespaces", "namespaces/status"]),
    _rule(_READ, ["events.k8s.io"], ["events"]),
    _rule(_READ, ["discovery.k8s.io"], ["endpointslices"]),
    _rule(_READ, ["apps"], [*_WORKLOADS, "controllerrevisions", "daemonsets/status", "deployments/status",
                            "replicasets/status"]),
]  # fmt: skip
_EDIT = [
    _rule(_WRITE, [""], [*_CORE_EDIT, "secrets", "serviceaccounts", "events"]),
    _rule(_READ, [""], ["secrets"]),
    _rule(["create"], [""], ["pods/eviction", "serviceaccounts/token"]),
    _rule(["impersonate"], [""], ["serviceaccounts"]),
    _rule(_WRITE, ["apps"], _WORKLOADS),
    _rule([*_READ, *_WRITE], ["coordination.k8s.io"], ["leases"]),
]
_ADMIN = [
    _rule([*_READ, *_WRITE], [GROUP], ["roles", "rolebindings"]),
    _rule(["create"], ["authorization.k8s.io"], ["localsubjectaccessreviews"]),
]
_NODE = [
    _rule(["create"], ["authentication.k8s.io"], ["tokenreviews"]),
    _rule(["create"], ["authorization.k8s.io"], ["subjectaccessreviews", "localsubjectaccessreviews"]),
    _rule(["create", *_READ, "patch", "update"], [""], ["nodes"]),
    _rule(["patch", "update"], [""], ["nodes/status"]),
    _rule(["create", "patch", "update"], ["", "events.k8s.io"], ["events"]),
    _rule([*_READ, "create", "delete"], [""], ["pods"]),
    _rule(["patch", "update"], [""], ["pods/status"]),
    _rule(["create"], [""], ["pods/eviction", "serviceaccounts/token"]),
    _rule(_READ, [""], ["configmaps", "secrets", "services"]),
    _rule(["get"], [""], ["persistentvolumes", "persistentvolumeclaims", "endpoints", "serviceaccounts"]),
    _rule(["create", "get", "update", "patch", "delete"], ["coordination.k8s.io"], ["leases"]),
]
_DISCOVERY = _urls("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz",
                   "/version", "/version/")  # fmt: skip

_ROLES: dict[str, list[dict[str, Any]]] = {
    "cluster-admin": [_rule(["*"], ["*"], ["*"]), {"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "system:basic-user": [
        _rule(["create"], ["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
        _rule(["create"], ["authentication.k8s.io"], ["selfsubjectreviews"]),
    ],
    "system:discovery": [_DISCOVERY],
    "system:public-info-viewer": [_urls("/healthz", "/livez", "/readyz", "/version", "/version/")],
    "system:service-account-issuer-discovery": [
        _urls("/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks",
              "/openid/v1/jwks/")
    ],
    "system:node": _NODE,
    "system:aggregate-to-view": _VIEW,
    "system:aggregate-to-edit": _EDIT,
    "system:aggregate-to-admin": _ADMIN,
}  # fmt: skip
_AGGREGATES = {"view": ["view"], "edit": ["edit", "view"], "admin": ["admin", "edit", "view"]}
_CLUSTER_BINDINGS = {
    "cluster-admin": ["system:masters"],
    "system:basic-user": ["system:authenticated"],
    "system:discovery": ["system:authenticated"],
    "system:public-info-viewer": ["system:authenticated", "system:unauthenticated"],
    "system:service-account-issuer-discovery": ["system:serviceaccounts"],
}


def cluster_roles() -> list[Object]:
    """Every ClusterRole."""
    found = []
    for name, rules in _ROLES.items():
        labels = dict(_LABELS)
        if name.startswith("system:aggregate-to-"):
            labels[f"{GROUP}/aggregate-to-{name.removeprefix('system:aggregate-to-')}"] = "true"
        found.append(_object("ClusterRole", name, labels) | {"rules": rules})
    for name, parts in _AGGREGATES.items():
        selectors = [{"matchLabels": {f"{GROUP}/aggregate-to-{part}": "true"}} for part in parts]
        found.append(
            _object("ClusterRole", name, _LABELS)
            | {"aggregationRule": {"clusterRoleSelectors": selectors}, "rules": []}
        )
    return found


def cluster_role_bindings() -> list[Object]:
    """Every ClusterRoleBinding."""
    return [
        _object("ClusterRoleBinding", role, _LABELS)
        | {
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": GROUP, "kind": "Group", "name": group} for group in groups],
        }
        for role, groups in _CLUSTER_BINDINGS.items()
    ]


def _object(kind: str, name: str, labels: dict[str, str]) -> Object:
    meta = {"name": name, "labels": dict(labels), "annotations": dict(_ANNOTATIONS)}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": meta}
