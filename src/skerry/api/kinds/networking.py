"""Ingress, IngressClass, NetworkPolicy, IPAddress, ServiceCIDR, PodDisruptionBudget: defaults and validation.

Source: kubernetes pkg/apis/{networking,policy}/{v1/defaults,validation/validation}.go (v1.36).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from skerry.api.field import FieldError, forbidden, invalid, not_supported, required
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, part, rows
from skerry.api.patch import json_equal
from skerry.api.selectors import label_selector
from skerry.api.status import BadRequest

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_POLICY_TYPES = ("Egress", "Ingress")
_IMMUTABLE = "field is immutable"


def default_ingressclass(obj: Object) -> None:
    """Fill what an omitted field of an IngressClass becomes."""
    parameters = (obj.get("spec") or {}).get("parameters")
    if isinstance(parameters, dict):
        fill(parameters, "scope", "Cluster")


def default_networkpolicy(obj: Object) -> None:
    """Fill what an omitted field of a NetworkPolicy becomes."""
    spec = part(obj, "spec")
    part(spec, "podSelector")
    for name in ("ingress", "egress"):
        for rule in rows(spec, name):
            for port in rows(rule, "ports"):
                fill(port, "protocol", "TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def ingress_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with an Ingress."""
    spec = obj.get("spec") or {}
    if not spec.get("rules") and not spec.get("defaultBackend"):
        yield invalid("spec", [], "either `defaultBackend` or `rules` must be specified")
    for index, rule in enumerate(rows(spec, "rules")):
        http = rule.get("http")
        if not isinstance(http, dict):
            continue
        where = f"spec.rules[{index}].http.paths"
        if not http.get("paths"):
            yield required(where)
        for at, path in enumerate(rows(http, "paths")):
            yield from _path_errors(path, f"{where}[{at}]")
    if spec.get("defaultBackend"):
        yield from _backend_errors(spec["defaultBackend"], "spec.defaultBackend")


def ingressclass_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with an IngressClass."""
    if not (obj.get("spec") or {}).get("controller"):
        yield required("spec.controller")


def ingressclass_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """The controller never changes."""
    new, before = (obj.get("spec") or {}).get("controller"), (old.get("spec") or {}).get("controller")
    if new != before:
        yield invalid("spec.controller", new, _IMMUTABLE)


def networkpolicy_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a NetworkPolicy."""
    spec = obj.get("spec") or {}
    yield from _selector(spec.get("podSelector"), "spec.podSelector")
    for index, name in enumerate(spec.get("policyTypes") or ()):
        if name not in _POLICY_TYPES:
            yield not_supported(f"spec.policyTypes[{index}]", name, _POLICY_TYPES)
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(rows(spec, direction)):
            for at, peer in enumerate(rows(rule, peers)):
                yield from _peer_errors(peer, f"spec.{direction}[{index}].{peers}[{at}]")


def ipaddress_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with an IPAddress."""
    parent, name = (obj.get("spec") or {}).get("parentRef"), str((obj.get("metadata") or {}).get("name") or "")
    try:
        is_canonical = str(ipaddress.ip_address(name)) == name
    except ValueError:
        is_canonical = False
    if not is_canonical:
        yield invalid("metadata.name", name, "must be a valid IP address in canonical form")
    if not parent:
        yield required("spec.parentRef")
        return
    for field in ("resource", "name"):
        if not parent.get(field):
            yield required(f"spec.parentRef.{field}")


def ipaddress_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """Its owner never changes."""
    new, before = (obj.get("spec") or {}).get("parentRef"), (old.get("spec") or {}).get("parentRef")
    if not json_equal(new, before):
        yield invalid("spec.parentRef", new, _IMMUTABLE)


def servicecidr_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ServiceCIDR."""
    networks = (obj.get("spec") or {}).get("cidrs") or []
    if not networks:
        yield required("spec.cidrs", "at least one CIDR required")
    if len(networks) > 2:
        yield invalid("spec.cidrs", networks, "may only hold up to 2 values")
    for index, text in enumerate(networks):
        try:
            ipaddress.ip_network(text)
        except ValueError:
            yield invalid(
                f"spec.cidrs[{index}]", text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            )


def servicecidr_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """A second family may be added, nothing else."""
    new, before = (obj.get("spec") or {}).get("cidrs") or [], (old.get("spec") or {}).get("cidrs") or []
    if new[: len(before)] != before:
        yield invalid("spec.cidrs", new, _IMMUTABLE)


def budget_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a PodDisruptionBudget."""
    spec = obj.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")
    for name in ("minAvailable", "maxUnavailable"):
        value = spec.get(name)
        if isinstance(value, int) and value < 0:
            yield invalid(f"spec.{name}", value, "must be greater than or equal to 0")
        if isinstance(value, str) and not (value.endswith("%") and value[:-1].isdigit() and int(value[:-1]) <= 100):
            yield invalid(f"spec.{name}", value, "a valid percent string must be a number up to 100 and a '%'")
    yield from _selector(spec.get("selector"), "spec.selector")
    policies = ("AlwaysAllow", "IfHealthyBudget")
    if spec.get("unhealthyPodEvictionPolicy") not in (None, *policies):
        yield not_supported("spec.unhealthyPodEvictionPolicy", spec["unhealthyPodEvictionPolicy"], policies)


def _path_errors(path: dict[str, Any], where: str) -> Iterator[FieldError]:
    kind, text = path.get("pathType"), str(path.get("path") or "")
    if not kind:
        yield required(f"{where}.pathType", "pathType must be specified")
    elif kind not in _PATH_TYPES:
        yield not_supported(f"{where}.pathType", kind, _PATH_TYPES)
    elif (kind != "ImplementationSpecific" or text) and not text.startswith("/"):
        yield invalid(f"{where}.path", text, "must be an absolute path")
    yield from _backend_errors(path.get("backend") or {}, f"{where}.backend")


def _backend_errors(backend: dict[str, Any], where: str) -> Iterator[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service and resource:
        yield invalid(where, backend, "cannot set both resource and service backends")
    elif not service and not resource:
        yield required(where, "either service or resource is required")
    elif service:
        if not service.get("name"):
            yield required(f"{where}.service.name")
        port = service.get("port") or {}
        if not port.get("name") and not port.get("number"):
            yield required(f"{where}.service", "port name or number is required for service backend")


def _peer_errors(peer: dict[str, Any], where: str) -> Iterator[FieldError]:
    kinds = [name for name in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(name) is not None]
    if not kinds:
        yield required(where, "must specify a peer")
    if "ipBlock" in kinds and len(kinds) > 1:
        yield forbidden(where, "may not specify both ipBlock and another peer")
    for name in ("podSelector", "namespaceSelector"):
        yield from _selector(peer.get(name), f"{where}.{name}")


def _selector(selector: dict[str, Any] | None, where: str) -> Iterator[FieldError]:
    try:
        label_selector(selector or {})
    except BadRequest as exc:
        yield invalid(where, selector, exc.message)
