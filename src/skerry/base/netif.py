"""Addresses of this machine, without netlink: what the kernel would use towards a host."""

from __future__ import annotations

import socket


def address_towards(host: str, port: int) -> str:
    """The local IP address from which packets to ``host`` would leave; ``127.0.0.1`` when there is no route.

    Sends nothing: connecting a datagram socket only asks the routing table.
    """
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address of loopback, or a name for it: no other machine reaches it."""
    return host.startswith("127.") or host in ("::1", "localhost") or host.endswith(".localhost")
