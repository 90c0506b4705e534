"""Listening sockets, and which port is a free one.

A port that the kernel hands out for outgoing connections may be held by one when its server wants to come back to it.
A free port is therefore taken outside of that range, so that it is free after a restart too.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from skerry.base.errors import ConfigError

_HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PLACES = (range(20_000, 30_000), range(10_100, 20_000), range(61_000, 65_536))
"""Where a free port is looked for: not among well-known ports, nor among NodePorts (30000 to 32767)."""
_TRIES = 64


def bind(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket that does not block.

    Args:
        host: address or name of this machine; empty for every IPv4 address.
        port: 0 is a free one, which no outgoing connection will take when it is free again.

    Raises:
        ConfigError: the address cannot be bound; with the remedy.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        for candidate in _candidates() if port == 0 else ():
            try:
                return _listener(family, kind, (address[0], candidate, *address[2:]), backlog)
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:  # not the port's fault: no other one helps
                    raise
        return _listener(family, kind, address, backlog)
    except OSError as exc:
        raise _not_bound(host, port, exc) from exc


def check_bindable(host: str, ports: Iterable[int]) -> None:
    """Whether servers can listen there, before anything is made for them. Port 0 is any free one.

    Raises:
        ConfigError: as ``bind``.
    """
    for port in ports:
        bind(host, port, 1).close()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free now, for programs that cannot be told to take one themselves.

    Raises:
        ConfigError: there is no such address.
    """
    with bind(host, 0, 1) as probe:
        return int(probe.getsockname()[1])


def _listener(family: int, kind: int, address: tuple[object, ...], backlog: int) -> socket.socket:
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _candidates() -> Iterator[int]:
    """Some ports outside of what the kernel hands out, in a random order; none where it hands out nearly all."""
    try:
        low, high = map(int, _HANDED_OUT.read_text().split())
    except (OSError, ValueError):
        return
    for place in _PLACES:
        if place.stop <= low or place.start > high:
            yield from random.sample(place, _TRIES)


def _not_bound(host: str, port: int, exc: OSError) -> ConfigError:
    hint = f"another program uses port {port} (see `ss -ltnp`), or choose another port"
    if isinstance(exc, socket.gaierror) or exc.errno == errno.EADDRNOTAVAIL:
        hint = "this machine has no such address (see `ip address`); take one that it has, or 0.0.0.0 for all of them"
    elif exc.errno in (errno.EACCES, errno.EPERM):
        hint = "ports below 1024 need root; choose a higher one"
    return ConfigError(f"cannot listen on {host}:{port}: {exc.strerror or exc}", hint=hint)
