"""The agent's memory, and the time from ``apply`` to Running, on the process runtime and on containerd.

Memory is VmRSS of the whole agent process, idle and with 10 pods, each some seconds after the last change. Time counts
from just before the request that creates the pod to the moment at which the API server says Running and ready; the
image is on the node already.

``python bench/run.py edge_agent``. containerd needs root and the Debian packages; without, its numbers are missing and
the reason stands in their place.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.parts import BUSYBOX_IMAGE, Containerd, PartMissing

from skerry.api.gvk import PODS, Object
from skerry.testing.site import Site, rss_mib, site, until

_TRIES = 5
_PODS = 10
_REST_S = 15.0


def run() -> dict[str, Any]:
    """The numbers by runtime."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"process": asyncio.run(_measure(Path(folder) / "process", None))}
        try:
            engine = Containerd()
        except PartMissing as exc:
            return _by_number(found) | {"containerd": f"not measured: {exc}"}
        try:
            engine.start()
            found["containerd"] = asyncio.run(_measure(Path(folder) / "containerd", engine.socket))
        finally:
            engine.close()
        return _by_number(found)


def _by_number(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    names = ("rss_idle_mib", "rss_10_pods_mib", "apply_to_running_s")
    interpreter = f"{sys.implementation.name} {sys.version.split()[0]}"
    return {"interpreter": interpreter, **{n: {kind: numbers[n] for kind, numbers in found.items()} for n in names}}


async def _measure(data: Path, socket: Path | None) -> dict[str, Any]:
    async with site(data, runtime="cri" if socket else "process", cri_socket=socket) as at:
        try:
            await asyncio.sleep(_REST_S)
            idle_mib = rss_mib(at.agent.pid)
            times_s = [await _one(at, f"pod-{number}") for number in range(_TRIES)]
            for number in range(_TRIES, _PODS):
                await _one(at, f"pod-{number}")
            await asyncio.sleep(_REST_S)
            full_mib = rss_mib(at.agent.pid)
            return {
                "rss_idle_mib": idle_mib,
                "rss_10_pods_mib": full_mib,
                "apply_to_running_s": {
                    "median": round(statistics.median(times_s), 3),
                    "min": round(min(times_s), 3),
                    "max": round(max(times_s), 3),
                    "tries": _TRIES,
                },
            }
        finally:
            await at.reset()


async def _one(at: Site, name: str) -> float:
    started_s = time.monotonic()
    await at.api.create(PODS, _pod(name), namespace="default")

    async def runs() -> str:
        pod = await at.api.get(PODS, name, namespace="default")
        status = pod.get("status", {})
        ready = [item["ready"] for item in status.get("containerStatuses", [])]
        return "" if status.get("phase") == "Running" and ready == [True] else f"{name} is {status.get('phase')}"

    await until(runs, within_s=30)
    return time.monotonic() - started_s


def _pod(name: str) -> Object:
    container = {
        "name": "app",
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while true; do sleep 1; done"],
    }
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }
