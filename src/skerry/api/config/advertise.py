"""Entries of ``advertise``: under which host and ports nodes reach the cloud's servers. Pure.

``HOST``                        the servers' own ports
``HOST:PORT``                   the join server is at PORT (as in ``skerry join HOST:PORT``); the others are as far from
                                it as they are here: what a forwarded range of ports gives
``HOST:hub=P:join=P:tunnel=P``  each by name, as NodePorts need it; those not named have their own port
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skerry.base.errors import ConfigError
from skerry.base.values import Struct, field

SERVERS = ("api", "hub", "join", "tunnel")
_FORM = "write HOST, HOST:PORT (of the join server), or HOST:hub=PORT:join=PORT:tunnel=PORT"

Place = tuple[str, int]


class Advertised(Struct, frozen=True):
    """One entry.

    Args:
        port: of the join server; 0 when it is not given.
        ports: by server, where each is given.
    """

    host: str
    port: int = 0
    ports: Mapping[str, int] = field(default_factory=dict)

    def place(self, server: str, own: Mapping[str, int]) -> Place:
        """Where nodes find a server.

        Args:
            own: the ports that the servers listen on, by name.

        Raises:
            ConfigError: the port would be none.
        """
        port = self.ports.get(server) or own.get(server, 0)
        if self.port and server in own:
            port = self.port + own[server] - own["join"]
        if not 0 < port < 65_536:
            raise ConfigError(
                f"advertise: {server} would be at port {port} of {self.host}",
                hint=f"name each port: {self.host}:hub=PORT:join=PORT:tunnel=PORT",
            )
        return self.host, port


def parse(text: str) -> Advertised:
    """One entry.

    Raises:
        ConfigError: it is none; with the form that is wanted.
    """
    if "://" in text or "/" in text or not text.strip() or any(c.isspace() for c in text):
        raise ConfigError(f"advertise: {text!r} is no address", hint=f"{_FORM}; without a scheme or a path")
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            raise ConfigError(f"advertise: {text!r} is no address", hint=_FORM)
        parts = rest[1:].split(":") if rest else []
    elif text.count(":") > 1 and "=" not in text:
        host, parts = text, []
    else:
        host, *parts = text.split(":")
    if not host:
        raise ConfigError(f"advertise: {text!r} has no host", hint=_FORM)
    if len(parts) == 1 and "=" not in parts[0]:
        return Advertised(host, port=_port(parts[0], text))
    ports: dict[str, int] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if name not in SERVERS:
            raise ConfigError(f"advertise: {text!r} names {name!r}, which is no server", hint=_FORM)
        ports[name] = _port(value, text)
    return Advertised(host, ports=ports)


def places(entries: Sequence[str], server: str, own: Mapping[str, int]) -> list[Place]:
    """Where nodes find a server, by every entry, without repeats.

    Raises:
        ConfigError: an entry is none.
    """
    return list(dict.fromkeys(parse(entry).place(server, own) for entry in entries))


def _port(text: str, entry: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise ConfigError(f"advertise: {entry!r}: {text!r} is no port", hint="a port is a number from 1 to 65535")
    return int(text)
