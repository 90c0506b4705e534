"""What each duty of the agent costs in memory: VmRSS of an agent at rest, with the duty and without it.

``plain`` has no engine, devices, bus nor tunnel; each further number is the agent with exactly one of them. ``plugins``
stands beside ``cri``, which it needs; without root and the Debian packages these two are missing, with the reason.
Each agent is a process of its own as the unit starts it, with the system's interpreter where it has a fit one, measured
``_REST_S`` after its node was ready; no pods, no devices.
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

from skerry.testing.interpreters import as_installed, system_python, told
from skerry.testing.site import rss_mib, site

_REST_S = 10.0
_OFF = {"SKERRY_EDGE_DEVICES": "false", "SKERRY_EDGE_TUNNEL": "false"}
_ON: Mapping[str, Mapping[str, str]] = {
    "plain": {},
    "devices": {"SKERRY_EDGE_DEVICES": "true"},
    "devices_and_bus": {"SKERRY_EDGE_DEVICES": "true", "SKERRY_EDGE_MQTT": "127.0.0.1:9"},
    "tunnel": {"SKERRY_EDGE_TUNNEL": "true"},
}
_ALL = {**_ON["devices_and_bus"], **_ON["tunnel"]}


def run() -> dict[str, Any]:
    """MiB by duty."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        python = system_python(place / "system").get("system", sys.executable)
        found: dict[str, Any] = {"interpreter": told(python), "load_1m": round(os.getloadavg()[0], 1)}
        installed = as_installed(python, place / "compiled")

        def rss(name: str, settings: Mapping[str, str], socket: Path | None = None) -> float:
            return asyncio.run(_rss(place / name, socket, python, installed | _OFF | settings))

        for name, settings in _ON.items():
            found[name] = rss(name, settings)
        try:
            engine = Containerd()
        except PartMissing as exc:
            return found | {"cri": f"not measured: {exc}"}
        try:
            engine.start()
            found["cri"] = rss("cri", {}, engine.socket)
            found["cri_and_plugins"] = rss(
                "plugins", {"SKERRY_EDGE_DEVICE_PLUGINS": f"{folder}/sockets"}, engine.socket
            )
            found["all"] = rss("all", _ALL, engine.socket)
        finally:
            engine.close()
    return found


async def _rss(data: Path, socket: Path | None, python: str, environment: Mapping[str, str]) -> float:
    runtime = "process" if socket is None else "cri"
    async with site(data, runtime=runtime, cri_socket=socket, environment=environment, agent_python=python) as at:
        await asyncio.sleep(_REST_S)
        found = rss_mib(at.agent.pid)
        await at.reset()
        return found
