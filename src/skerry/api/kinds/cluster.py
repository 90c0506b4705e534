"""EndpointSlice, Lease, PriorityClass: defaults and validation.

Source: kubernetes pkg/apis/{discovery,coordination,scheduling}/validation/validation.go (v1.36).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from skerry.api.field import FieldError, duplicate, forbidden, invalid, not_supported, required, too_many
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, rows
from skerry.api.kinds.podspec import PROTOCOLS

_IMMUTABLE = "field is immutable"
_FAMILIES = {"IPv4": (4,), "IPv6": (6,)}


def default_endpointslice(obj: Object) -> None:
    """Fill what an omitted field of an EndpointSlice becomes."""
    for port in rows(obj, "ports"):
        if port.get("name") is None:
            port["name"] = ""
        fill(port, "protocol", "TCP")


def endpointslice_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with an EndpointSlice."""
    kind = obj.get("addressType") or ""
    if not kind:
        yield required("addressType")
    elif kind not in ("FQDN", "IPv4", "IPv6"):
        yield not_supported("addressType", kind, ("FQDN", "IPv4", "IPv6"))
    if len(obj.get("endpoints") or []) > 1000:
        yield too_many("endpoints", len(obj["endpoints"]), 1000)
    for index, endpoint in enumerate(rows(obj, "endpoints")):
        if not endpoint.get("addresses"):
            yield required(f"endpoints[{index}].addresses", "must contain at least 1 address")
        for at, address in enumerate(endpoint.get("addresses") or () if kind in _FAMILIES else ()):
            yield from address_errors(f"endpoints[{index}].addresses[{at}]", address, _FAMILIES[kind])
    names: set[str] = set()
    for index, port in enumerate(rows(obj, "ports")):
        name = port.get("name") or ""
        if name in names:
            yield duplicate(f"ports[{index}].name", name)
        names.add(name)
        if port.get("protocol") not in (None, *PROTOCOLS):
            yield not_supported(f"ports[{index}].protocol", port["protocol"], PROTOCOLS)


def address_errors(path: str, address: str, families: Sequence[int]) -> Iterator[FieldError]:
    """Why traffic may not be sent to an address. Loopback is a node's where a cluster is one machine, so it may stand
    here, other than upstream; who dials from the cloud looks at it again.

    Source: kubernetes pkg/apis/core/validation/validation.go:ValidateEndpointIP (v1.36).
    """
    try:
        seen = ipaddress.ip_address(address)
    except ValueError:
        yield invalid(path, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        return
    if seen.version not in families:
        yield invalid(path, address, f"must be an IPv{families[0]} address")
    elif seen.is_unspecified:
        yield invalid(path, address, f"may not be unspecified ({address})")
    elif seen.is_link_local:
        yield invalid(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    elif seen in _MULTICAST[seen.version]:
        yield invalid(path, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")


_MULTICAST = {4: ipaddress.ip_network("224.0.0.0/24"), 6: ipaddress.ip_network("ff02::/16")}


def endpoints_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with the addresses of Endpoints."""
    for index, subset in enumerate(rows(obj, "subsets")):
        for name in ("addresses", "notReadyAddresses"):
            for at, item in enumerate(rows(subset, name)):
                yield from address_errors(f"subsets[{index}].{name}[{at}].ip", str(item.get("ip") or ""), (4, 6))


def endpointslice_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """The address type never changes."""
    if obj.get("addressType") != old.get("addressType"):
        yield invalid("addressType", obj.get("addressType"), _IMMUTABLE)


def lease_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a Lease."""
    spec = obj.get("spec") or {}
    if spec.get("leaseDurationSeconds") is not None and spec["leaseDurationSeconds"] <= 0:
        yield invalid("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0")
    if (spec.get("leaseTransitions") or 0) < 0:
        yield invalid("spec.leaseTransitions", spec["leaseTransitions"], "must be greater than or equal to 0")
    if spec.get("holderIdentity") == "":
        yield invalid("spec.holderIdentity", "", "must not be empty")


def default_priorityclass(obj: Object) -> None:
    """Fill what an omitted field of a PriorityClass becomes."""
    fill(obj, "preemptionPolicy", "PreemptLowerPriority")


def priorityclass_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """The value never changes."""
    if obj.get("value") != old.get("value"):
        yield forbidden("value", "may not be changed in an update.")
