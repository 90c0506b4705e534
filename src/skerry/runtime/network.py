"""The default pod network of a node whose container engine has none: one CNI conflist.

Written once, at join, and recorded in the reset manifest by the caller. Not here: the plugins themselves (packages of
the distribution), service routing.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from skerry.base import json
from skerry.base.errors import ConfigError
from skerry.base.files import write_atomic

CONF_DIRECTORY = Path("/etc/cni/net.d")
PLUGIN_DIRECTORIES = (Path("/opt/cni/bin"), Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
FILE_NAME = "10-skerry.conflist"
BRIDGE = "skerry0"
_NEEDED = ("bridge", "host-local", "portmap", "loopback")
_SUFFIXES = (".conf", ".conflist", ".json")


def has_conflist(directory: Path = CONF_DIRECTORY) -> bool:
    """Whether the engine finds a network configuration there."""
    return directory.is_dir() and any(path.suffix in _SUFFIXES for path in directory.iterdir())


def missing_plugins(directories: tuple[Path, ...] = PLUGIN_DIRECTORIES) -> list[str]:
    """CNI plugins that the default conflist needs and no directory holds."""
    return [name for name in _NEEDED if not any((directory / name).exists() for directory in directories)]


def conflist(*, pod_cidr: str, bridge: str = BRIDGE, has_masquerade: bool = True) -> dict[str, object]:
    """bridge + host-local + portmap.

    Args:
        pod_cidr: addresses of this node's pods, such as ``10.244.3.0/24``.
        bridge: at most 15 characters.
        has_masquerade: pods reach other networks by the node's address; needs iptables.

    Raises:
        ConfigError: not a network.
    """
    try:
        network = ipaddress.ip_network(pod_cidr)
    except ValueError as exc:
        raise ConfigError(f"podCIDR {pod_cidr!r} is not a network: {exc}", hint="write it as 10.244.3.0/24") from exc
    everywhere = "0.0.0.0/0" if network.version == 4 else "::/0"
    bridge_plugin = {
        "type": "bridge",
        "bridge": bridge,
        "isGateway": True,
        "ipMasq": has_masquerade,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(network)}]],
            "routes": [{"dst": everywhere}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return {"cniVersion": "0.4.0", "name": "skerry", "plugins": [bridge_plugin, portmap]}


def write_default_conflist(
    *, pod_cidr: str, directory: Path = CONF_DIRECTORY, bridge: str = BRIDGE, has_masquerade: bool = True
) -> Path | None:
    """Write the default conflist where there is none; the file's path, or None when a network is there already.

    Raises:
        ConfigError: ``pod_cidr`` is not a network.
        OSError: the directory cannot be written.
    """
    if has_conflist(directory):
        return None
    content = conflist(pod_cidr=pod_cidr, bridge=bridge, has_masquerade=has_masquerade)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE_NAME
    write_atomic(path, json.dumps(content))
    return path
