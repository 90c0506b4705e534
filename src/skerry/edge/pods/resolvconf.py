"""The node's resolver as its pods can use it, read anew each time: a network that comes late brings another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skerry.edge.pods.dns import Resolver, read_resolver

PLACES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
"""The node's own; and where systemd-resolved writes whom it asks itself, when the first names only its own address."""
_FILE_BYTES = 64 * 1024


def node_resolver(places: Sequence[Path] = PLACES) -> Resolver:
    """The first of ``places`` with a server that can be reached from another network name space, else the first.

    A pod has a loopback of its own, so a server on the node's (systemd-resolved's 127.0.0.53) is none for it.
    """
    found = [_read(place) for place in places]
    return next((each for each in found if not _is_local(each)), found[0])


def _read(place: Path) -> Resolver:
    try:
        with place.open("rb") as file:
            return read_resolver(file.read(_FILE_BYTES).decode(errors="replace"))
    except OSError:
        return Resolver()


def _is_local(resolver: Resolver) -> bool:
    return all(server.startswith("127.") or server == "::1" for server in resolver.servers)
