"""Kinds of the core group other than Pod: defaults and validation.

Source: kubernetes pkg/apis/core/{v1/defaults,validation/validation}.go (v1.36).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from skerry.api.field import FieldError, duplicate, forbidden, invalid, not_supported, required, too_long
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, part, rows
from skerry.api.kinds.podspec import PROTOCOLS
from skerry.api.names import config_key, dns_label, dns_subdomain, label_errors, label_value, qualified_name
from skerry.api.patch import json_equal

CONTENT_LIMIT_BYTES = 1024 * 1024
SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

_IMMUTABLE = "field is immutable"
_FROZEN = "field is immutable when `immutable` is set"
_PORT_RANGE = "must be between 1 and 65535, inclusive"
_SECRET_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def default_service(obj: Object) -> None:
    """Fill what an omitted field becomes; addresses and node ports are given by the server."""
    spec = part(obj, "spec")
    fill(spec, "type", "ClusterIP")
    fill(spec, "sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        fill(part(part(spec, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds", 10800)
    for port in rows(spec, "ports"):
        fill(port, "protocol", "TCP")
        if port.get("targetPort") in (None, "", 0):
            port["targetPort"] = port.get("port", 0)
    if spec["type"] != "ExternalName":
        fill(spec, "internalTrafficPolicy", "Cluster")
        fill(spec, "ipFamilyPolicy", "SingleStack")
        if not spec.get("ipFamilies"):
            spec["ipFamilies"] = ["IPv4"]
    if spec["type"] in ("NodePort", "LoadBalancer"):
        fill(spec, "externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        fill(spec, "allocateLoadBalancerNodePorts", True)


def default_secret(obj: Object) -> None:
    """Fold ``stringData`` into ``data``; the type becomes ``Opaque``."""
    text = obj.pop("stringData", None)
    if text:
        data = part(obj, "data")
        for key, value in text.items():
            data[key] = base64.b64encode(str(value).encode()).decode()
    fill(obj, "type", "Opaque")


def default_volume(obj: Object) -> None:
    """Fill what an omitted field of a PersistentVolume becomes."""
    spec = part(obj, "spec")
    fill(spec, "persistentVolumeReclaimPolicy", "Retain")
    fill(spec, "volumeMode", "Filesystem")
    if isinstance(spec.get("hostPath"), dict):
        spec["hostPath"].setdefault("type", "")


def default_claim(obj: Object) -> None:
    """Fill what an omitted field of a PersistentVolumeClaim becomes."""
    fill(part(obj, "spec"), "volumeMode", "Filesystem")


def default_endpoints(obj: Object) -> None:
    """Fill what an omitted field of Endpoints becomes."""
    for subset in rows(obj, "subsets"):
        for port in rows(subset, "ports"):
            fill(port, "protocol", "TCP")


def service_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a Service."""
    spec = obj.get("spec") or {}
    kind, ports = spec.get("type") or "ClusterIP", rows(spec, "ports")
    if kind not in SERVICE_TYPES:
        yield not_supported("spec.type", kind, SERVICE_TYPES)
    if kind == "ExternalName":
        yield from _external_name(spec)
    elif not ports and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    if spec.get("clusterIP") == "None" and kind in ("NodePort", "LoadBalancer"):
        yield invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    yield from label_errors(spec.get("selector"), "spec.selector")
    if spec.get("sessionAffinity") not in (None, "", "None", "ClientIP"):
        yield not_supported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    for name in ("internalTrafficPolicy", "externalTrafficPolicy"):
        if spec.get(name) not in (None, "", "Cluster", "Local"):
            yield not_supported(f"spec.{name}", spec[name], ("Cluster", "Local"))
    yield from _family_errors(spec)
    yield from _service_ports(ports, kind)


def _family_errors(spec: dict[str, Any]) -> Iterator[FieldError]:
    """Addresses of Services are IPv4 alone."""
    policy, families = spec.get("ipFamilyPolicy"), spec.get("ipFamilies") or []
    if policy not in (None, "", "SingleStack", "PreferDualStack", "RequireDualStack"):
        yield not_supported("spec.ipFamilyPolicy", policy, ("PreferDualStack", "RequireDualStack", "SingleStack"))
    if policy == "RequireDualStack":
        yield invalid("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services")
    for index, family in enumerate(families):
        if family == "IPv6":
            yield invalid(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        elif family != "IPv4":
            yield not_supported(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6"))


def service_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """A cluster address stays while the Service has one."""
    new, before = obj.get("spec") or {}, old.get("spec") or {}
    was, now = before.get("clusterIP"), new.get("clusterIP")
    has_address = before.get("type") != "ExternalName" and new.get("type") != "ExternalName"
    if has_address and was and now != was:
        yield invalid("spec.clusterIPs[0]", [now] if now else [], "may not change once set")


def configmap_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ConfigMap."""
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    total = 0
    for name, values in (("data", data), ("binaryData", binary)):
        for key, value in values.items():
            yield from (invalid(f"{name}[{key}]", key, text) for text in config_key(key))
            if name == "binaryData" and key in data:
                yield invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
            total += len(value.encode()) if name == "data" else len(value) * 3 // 4
    if total > CONTENT_LIMIT_BYTES:
        yield too_long("", CONTENT_LIMIT_BYTES)


def configmap_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """An immutable ConfigMap stays as it is."""
    yield from _frozen(obj, old, ("data", "binaryData"))


def secret_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a Secret."""
    data = obj.get("data") or {}
    for key in data:
        yield from (invalid(f"data[{key}]", key, text) for text in config_key(key))
    if sum(len(value) * 3 // 4 for value in data.values()) > CONTENT_LIMIT_BYTES:
        yield too_long("data", CONTENT_LIMIT_BYTES)
    kind = obj.get("type", "")
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            yield required(f"data[{key}]")
    if kind == "kubernetes.io/service-account-token":
        name = ((obj.get("metadata") or {}).get("annotations") or {}).get("kubernetes.io/service-account.name")
        if not name:
            yield required("metadata.annotations[kubernetes.io/service-account.name]")


def secret_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """The type never changes; an immutable Secret stays as it is."""
    if obj.get("type") != old.get("type"):
        yield invalid("type", obj.get("type"), _IMMUTABLE)
    yield from _frozen(obj, old, ("data",))


def node_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a Node."""
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(rows(obj.get("spec") or {}, "taints")):
        where, key, effect = f"spec.taints[{index}]", taint.get("key") or "", taint.get("effect") or ""
        yield from (invalid(f"{where}.key", key, text) for text in qualified_name(key))
        yield from (invalid(f"{where}.value", taint["value"], text) for text in label_value(taint.get("value") or ""))
        if not effect:
            yield required(f"{where}.effect")
        elif effect not in TAINT_EFFECTS:
            yield not_supported(f"{where}.effect", effect, TAINT_EFFECTS)
        if (key, effect) in seen:
            yield duplicate(where, taint)
        seen.add((key, effect))


def node_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """A pod range and a provider id stay once they are set."""
    new, before = obj.get("spec") or {}, old.get("spec") or {}
    if before.get("podCIDR") and new.get("podCIDR") != before["podCIDR"]:
        yield forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
    if before.get("providerID") and new.get("providerID") != before["providerID"]:
        yield forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')


def event_errors(obj: Object) -> Iterator[FieldError]:
    """An event lives in the namespace of what it concerns, or in ``default``."""
    namespace = (obj.get("metadata") or {}).get("namespace", "")
    involved = obj.get("involvedObject") or obj.get("regarding") or {}
    name = "regarding" if obj.get("regarding") else "involvedObject"
    if (involved.get("namespace") or "default") != namespace:
        yield invalid(f"{name}.namespace", involved.get("namespace") or "", "does not match event.namespace")


def volume_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a PersistentVolume."""
    spec = obj.get("spec") or {}
    if not spec.get("capacity"):
        yield required("spec.capacity")
    if not spec.get("accessModes"):
        yield required("spec.accessModes")


def claim_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a PersistentVolumeClaim."""
    spec = obj.get("spec") or {}
    if not spec.get("accessModes"):
        yield required("spec.accessModes", "at least 1 access mode is required")
    if "storage" not in ((spec.get("resources") or {}).get("requests") or {}):
        yield required("spec.resources[storage]")


def _external_name(spec: dict[str, Any]) -> Iterator[FieldError]:
    name = (spec.get("externalName") or "").removesuffix(".")
    if spec.get("clusterIP"):
        yield forbidden("spec.clusterIPs[0]", "may not be set when `type` is 'ExternalName'")
    if not name:
        yield required("spec.externalName")
    else:
        yield from (invalid("spec.externalName", name, text) for text in dns_subdomain(name))


def _service_ports(ports: list[dict[str, Any]], kind: str) -> Iterator[FieldError]:
    names: set[str] = set()
    numbers: set[tuple[int, str]] = set()
    for index, port in enumerate(ports):
        where, name, number = f"spec.ports[{index}]", port.get("name") or "", port.get("port") or 0
        if not name and len(ports) > 1:
            yield required(f"{where}.name")
        elif name:
            yield from (invalid(f"{where}.name", name, text) for text in dns_label(name))
            if name in names:
                yield duplicate(f"{where}.name", name)
        names.add(name)
        if not 1 <= number <= 65535:
            yield invalid(f"{where}.port", number, _PORT_RANGE)
        protocol, target = port.get("protocol") or "TCP", port.get("targetPort")
        if protocol not in PROTOCOLS:
            yield not_supported(f"{where}.protocol", protocol, PROTOCOLS)
        if isinstance(target, int) and not 1 <= target <= 65535:
            yield invalid(f"{where}.targetPort", target, _PORT_RANGE)
        if port.get("nodePort") and kind in ("ClusterIP", "ExternalName"):
            yield forbidden(f"{where}.nodePort", f"may not be used when `type` is '{kind}'")
        if (number, protocol) in numbers:
            yield duplicate(where, {"port": number, "protocol": protocol})
        numbers.add((number, protocol))


def _frozen(obj: Object, old: Object, names: tuple[str, ...]) -> Iterator[FieldError]:
    if not old.get("immutable"):
        return
    if not obj.get("immutable"):
        yield forbidden("immutable", _FROZEN)
    for name in names:
        if not json_equal(obj.get(name) or {}, old.get(name) or {}):
            yield forbidden(name, _FROZEN)
