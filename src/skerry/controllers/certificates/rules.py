"""Which certificate requests are approved without a person, which may be signed, and when they are cleared away. Pure.

Source of behaviour: kubernetes pkg/controller/certificates/{approver,signer,cleaner}, pkg/apis/certificates/helpers.go
(v1.36).
"""

from __future__ import annotations

from collections.abc import Collection

from skerry.api.gvk import Object
from skerry.api.meta import parse_rfc3339
from skerry.base.values import Struct

KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
API_CLIENT = "kubernetes.io/kube-apiserver-client"
LEGACY = "kubernetes.io/legacy-unknown"
SIGNERS = (KUBELET_CLIENT, KUBELET_SERVING, API_CLIENT, LEGACY)
NODE_GROUP, NODE_PREFIX = "system:nodes", "system:node:"
LONGEST_S, SHORTEST_S = 365 * 86_400.0, 600.0
"""A certificate is valid for a year, or for as long as asked but at least ten minutes."""
_PENDING_S, _SETTLED_S = 86_400.0, 3_600.0


class Wish(Struct, frozen=True):
    """What a request asks for, read from its DER.

    Args:
        common_name: CN.
        organizations: each O.
        names: alternative names of any kind.
        hosts: those that are DNS names or IP addresses.
    """

    common_name: str
    organizations: tuple[str, ...]
    names: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


def is_true(request: Object, kind: str) -> bool:
    """Whether a condition of the request holds; conditions of older writers have no status and hold, too."""
    conditions = (request.get("status") or {}).get("conditions") or ()
    return any(c["type"] == kind and c.get("status", "True") == "True" for c in conditions)


def refusal(signer: str, wish: Wish, usages: Collection[str]) -> str:
    """Why a signer does not sign this; empty when it does."""
    asked = set(usages)
    if signer == LEGACY:
        return ""
    if signer == API_CLIENT:
        odd = asked - {"digital signature", "key encipherment", "client auth"}
        if odd:
            return f"invalid usage for client certificate: {min(odd)}"
        return "" if "client auth" in asked else 'missing required usage for client certificate: "client auth"'
    if wish.organizations != (NODE_GROUP,):
        return "subject organization is not system:nodes"
    if signer == KUBELET_CLIENT:
        if wish.names:
            return "subject alternative names are not allowed"
        required = {"digital signature", "client auth"}
    else:
        if not wish.hosts:
            return "DNS or IP subjectAltName is required"
        if len(wish.names) != len(wish.hosts):
            return "only DNS and IP subjectAltNames are allowed"
        required = {"digital signature", "server auth"}
    if asked - {"key encipherment"} != required:
        return f"usages did not match {sorted(required | {'key encipherment'})}"
    return "" if wish.common_name.startswith(NODE_PREFIX) else "subject common name does not begin with system:node:"


def approval_permissions(request: Object, wish: Wish) -> list[str]:
    """Subresources of which the requester must be allowed to create one, for an approval without a person."""
    spec = request["spec"]
    if spec.get("signerName") != KUBELET_CLIENT or refusal(KUBELET_CLIENT, wish, spec.get("usages") or ()):
        return []
    own = ["selfnodeclient"] if spec.get("username") == wish.common_name else []
    return [*own, "nodeclient"]


def validity_s(request: Object) -> float:
    """How long the certificate is valid."""
    asked = request["spec"].get("expirationSeconds")
    return LONGEST_S if asked is None else min(LONGEST_S, max(SHORTEST_S, float(asked)))


def cleared_in_s(request: Object, now_s: float) -> float:
    """Seconds until the request is removed: a day while pending, an hour when it is settled."""
    created_s = parse_rfc3339(request["metadata"].get("creationTimestamp")) or now_s
    due = [created_s + _PENDING_S]
    for condition in (request.get("status") or {}).get("conditions") or ():
        at_s = parse_rfc3339(condition.get("lastUpdateTime")) or parse_rfc3339(condition.get("lastTransitionTime"))
        is_issued = condition["type"] != "Approved" or (request.get("status") or {}).get("certificate")
        if at_s is not None and is_issued:
            due.append(at_s + _SETTLED_S)
    return max(0.0, min(due) - now_s)
