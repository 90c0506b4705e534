"""What every cluster has from its first second (pure data)."""

from __future__ import annotations

from collections.abc import Iterable

from skerry.api import gvk
from skerry.api.gvk import Object, Resource
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.auth.bootstrap_policy import bootstrap_policy

SYSTEM_USER = User("system:apiserver", (MASTERS,))
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease", "kubeedge")

_CRITICAL = (("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000))


def initial_objects(
    service_address: str, service_network: str, crds: Iterable[Object]
) -> list[tuple[Resource, Object]]:
    """What is created at start when it is missing, in order."""
    found: list[tuple[Resource, Object]] = [(gvk.NAMESPACES, {"metadata": {"name": name}}) for name in NAMESPACES]
    found += bootstrap_policy()
    found += [(gvk.PRIORITYCLASSES, {"metadata": {"name": name}, "value": value}) for name, value in _CRITICAL]
    found += [(gvk.CRDS, crd) for crd in crds]
    found.append((gvk.SERVICECIDRS, {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [service_network]}}))
    found.append((gvk.SERVICES, _kubernetes_service(service_address)))
    return found


def client_authority(ca_pem: str) -> tuple[Resource, Object]:
    """Who signs client certificates, for other servers that check them."""
    meta = {"name": "extension-apiserver-authentication", "namespace": "kube-system"}
    return gvk.CONFIGMAPS, {"metadata": meta, "data": {"client-ca-file": ca_pem}}


def token_tracking(today: str) -> tuple[Resource, Object]:
    """Since when tokens kept in Secrets are watched; kube-controller-manager asks. ``today`` is such as 2030-01-31."""
    meta = {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"}
    return gvk.CONFIGMAPS, {"metadata": meta, "data": {"since": today}}


def address_objects(address: str, port: int) -> list[tuple[Resource, Object]]:
    """Where the API server is, behind the Service ``kubernetes``."""
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    slice_ = {
        "metadata": _named({"kubernetes.io/service-name": "kubernetes"}),
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": ports,
    }
    endpoints = {
        "metadata": _named({"endpointslice.kubernetes.io/skip-mirror": "true"}),
        "subsets": [{"addresses": [{"ip": address}], "ports": ports}],
    }
    return [(gvk.ENDPOINTSLICES, slice_), (gvk.ENDPOINTS, endpoints)]


def _named(labels: dict[str, str]) -> Object:
    return {"name": "kubernetes", "namespace": "default", "labels": labels}


def _kubernetes_service(address: str) -> Object:
    return {
        "metadata": _named({"component": "apiserver", "provider": "kubernetes"}),
        "spec": {
            "clusterIP": address,
            "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    }
