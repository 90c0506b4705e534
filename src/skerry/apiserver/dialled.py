"""Which addresses the server dials on behalf of others: none that lead back to its own machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from skerry.api.status import BadRequest

_ENDS_IN_IPV4 = (ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("64:ff9b::/96"))


def check_address(host: str) -> None:
    """Nodes report the addresses of pods, and users write EndpointSlices: none may lead back to this machine.

    Raises:
        BadRequest: it would, or it is no address.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise BadRequest(f"address not allowed: {host}") from None
    for seen in (address, *_carried(address)):
        if seen.is_loopback or seen.is_link_local or seen.is_multicast or seen.is_unspecified:
            raise BadRequest(f"address not allowed: {host}")


def _carried(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for: mapped, compatible, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    for found in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())):
        if found is not None:
            yield found
    if any(address in network for network in _ENDS_IN_IPV4):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
