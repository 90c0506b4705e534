"""What each duty of the agent costs in memory: VmRSS of an agent at rest, with the duty and without it.

``plain`` has no engine, devices, bus nor tunnel; each further number is the agent with exactly one of them. ``plugins``
stands beside ``cri``, which it needs; without root and the Debian packages these two are missing, with the reason.
Each agent is a process of its own, measured ``_REST_S`` after its node was ready; no pods, no devices.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.parts import Containerd, PartMissing

from skerry.testing.site import rss_mib, site

_REST_S = 10.0
_OFF = {"SKERRY_EDGE_DEVICES": "false", "SKERRY_EDGE_TUNNEL": "false"}
_ON: Mapping[str, Mapping[str, str]] = {
    "plain": {},
    "devices": {"SKERRY_EDGE_DEVICES": "true"},
    "devices_and_bus": {"SKERRY_EDGE_DEVICES": "true", "SKERRY_EDGE_MQTT": "127.0.0.1:9"},
    "tunnel": {"SKERRY_EDGE_TUNNEL": "true"},
}


def run() -> dict[str, Any]:
    """MiB by duty."""
    found: dict[str, Any] = {"load_1m": round(os.getloadavg()[0], 1)}
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in _ON.items():
            found[name] = asyncio.run(_rss(Path(folder) / name, "process", None, _OFF | settings))
        try:
            engine = Containerd()
        except PartMissing as exc:
            return found | {"cri": f"not measured: {exc}"}
        try:
            engine.start()
            found["cri"] = asyncio.run(_rss(Path(folder) / "cri", "cri", engine.socket, _OFF))
            plugins = _OFF | {"SKERRY_EDGE_DEVICE_PLUGINS": f"{folder}/sockets"}
            found["cri_and_plugins"] = asyncio.run(_rss(Path(folder) / "plugins", "cri", engine.socket, plugins))
        finally:
            engine.close()
    return found


async def _rss(data: Path, runtime: str, socket: Path | None, environment: Mapping[str, str]) -> float:
    async with site(data, runtime=runtime, cri_socket=socket, environment=environment) as at:
        await asyncio.sleep(_REST_S)
        found = rss_mib(at.agent.pid)
        await at.reset()
        return found
