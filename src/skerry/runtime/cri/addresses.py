"""Which sandboxes have which addresses, as host-local writes it down: a file for each address, named by it.

Source: containernetworking/plugins plugins/ipam/host-local/backend/disk.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path

from skerry.base.values import Struct
from skerry.runtime.cri.lostnets import Network

_USUAL = Path("/var/lib/cni/networks")
_LEASE_BYTES = 1024


class Lease(Struct, frozen=True):
    """An address that a sandbox was given."""

    path: Path
    sandbox: str

    @property
    def address(self) -> str:
        """Which."""
        return self.path.name


def lease_directory(network: Network) -> Path | None:
    """Where a network's addresses are written down; None where something else than host-local gives them. Pure."""
    whole = network.configuration
    for plugin in whole.get("plugins") or [whole]:
        ipam = plugin.get("ipam") or {}
        if ipam.get("type") == "host-local":
            return Path(str(ipam.get("dataDir") or _USUAL)) / str(whole["name"])
    return None


def leases_of(networks: Iterable[Network]) -> list[Lease]:
    """All addresses that are given in these networks now."""
    directories = [directory for network in networks if (directory := lease_directory(network)) is not None]
    return [lease for directory in directories for lease in leases_in(directory)]


def leases_in(directory: Path) -> list[Lease]:
    """Those that a directory tells of."""
    found = []
    for name in os.listdir(directory) if directory.is_dir() else ():  # noqa: PTH208 - names only
        try:
            address = str(ipaddress.ip_address(name))
            with (directory / name).open("rb") as file:
                sandbox = file.read(_LEASE_BYTES).split(b"\n")[0].strip().decode()
        except (OSError, ValueError):  # the plugin's own files; given back meanwhile
            continue
        if sandbox and address == name:
            found.append(Lease(directory / name, sandbox))
    return found
