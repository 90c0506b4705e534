"""What a CRI engine tells of its pod network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.values import Struct
from skerry.runtime.cri.client import CriClient

_DEFAULT_CONF, _DEFAULT_PLUGINS = "/etc/cni/net.d", "/opt/cni/bin"


class Places(Struct, frozen=True):
    """Where the network's files are, and whether there is none."""

    is_missing: bool
    configuration: Path
    plugins: Path


async def network_places(client: CriClient) -> Places | None:
    """Ask the engine; None when it does not say where it looks.

    Raises:
        EngineError: it does not answer.
    """
    status = await client.call("Status", {"verbose": True})
    conditions = status.get("status", {}).get("conditions", [])
    is_missing = any(c.get("type") == "NetworkReady" and not c.get("status") for c in conditions)
    cni = _cni(status.get("info", {}))
    if cni is None:
        return None
    configuration = Path(str(cni.get("confDir") or _DEFAULT_CONF))
    plugins = Path(str(cni.get("binDir") or (cni.get("binDirs") or [_DEFAULT_PLUGINS])[0]))
    return Places(is_missing, configuration, plugins)


def _cni(info: dict[str, str]) -> dict[str, Any] | None:
    """containerd puts its whole configuration into the verbose answer, as JSON."""
    try:
        found = json.loads(info.get("config", "").encode()).get("cni")
    except (json.JsonError, AttributeError):
        return None
    return found if isinstance(found, dict) else None
