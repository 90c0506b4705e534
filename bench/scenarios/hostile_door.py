"""Hostile clients at the hub's and the join port, while healthy nodes ask: memory before and after, latency meanwhile.

A whole cloud on the embedded API server runs in this process; the attackers run in processes of their own. Numbers:
``rss_mib`` (at rest, highest, and after the attacks), and per attack the latency of a healthy node's query and of its
lease renewal, in milliseconds. ``busy_neighbour`` is the baseline for attackers on the same machine: a process that
works as they do and sends nothing.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base import certificates
from skerry.base.net.http_server import HttpLimits, tune_tls_buffers
from skerry.testing.hollow import HollowNode, connect
from skerry.testing.hubkit import CloudKit, cloud

PLAIN_COUNT, STALLED_COUNT, FRAME_COUNT, FRAME_MB = 10_000, 1_000, 10, 100
PAUSE_S = 0.005
SAMPLES = 1_000
"""Of each latency; an attack that is over before then is made again, so that p99 is not one outlier."""


def run() -> dict[str, Any]:
    tune_tls_buffers()
    with tempfile.TemporaryDirectory() as folder:
        return uvloop.run(_run(Path(folder)))


async def _run(folder: Path) -> dict[str, Any]:
    core = ApiCore(database=folder / "cluster.db", token_key=folder / "sa.key")
    await core.start()
    try:
        api = LocalKubeApi(core, user=User("cloud", (MASTERS,)))
        async with cloud(api, folder, http_limits=HttpLimits(per_address=2_000)) as kit:
            return await _attacks(kit, folder)
    finally:
        await core.aclose()


async def _attacks(kit: CloudKit, folder: Path) -> dict[str, Any]:
    certificates.save(kit.node_credential("villain"), folder / "v.crt", folder / "v.key")
    hub, join = (url.rpartition(":")[2] for url in (kit.hub_url, kit.join_url))
    files = [str(folder / name) for name in ("v.crt", "v.key", "tls/ca.crt")]
    attacks: dict[str, Callable[[], Awaitable[int]]] = {
        "nothing": lambda: _rest(3.0),
        "busy_neighbour": lambda: _attacker("burn", "3"),
        "plain_http_hub": lambda: _attacker("plain", "127.0.0.1", hub, str(PLAIN_COUNT)),
        "plain_http_join": lambda: _attacker("plain", "127.0.0.1", join, str(PLAIN_COUNT)),
        "stalled_handshakes": lambda: _attacker("stalled", "127.0.0.1", hub, str(STALLED_COUNT)),
        "large_frames": lambda: _attacker("frames", kit.hub_url, "villain", *files, str(FRAME_COUNT), str(FRAME_MB)),
    }
    async with connect(kit.hub_url, "healthy", kit.tls(kit.node_credential("healthy"))) as node:
        await node.request("insert", "kube-node-lease/lease/healthy", _lease())
        await _attacker("plain", "127.0.0.1", hub, "500")
        gc.collect()
        before_mib, found = _rss_mib(), {}
        for name, attack in attacks.items():
            found[name] = await _during(node, attack)
        gc.collect()
        after_mib = _rss_mib()
    rss = {"before": before_mib, "after": after_mib, "grown": round(after_mib - before_mib, 1)}
    highest = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return {"rss_mib": rss | {"highest": highest}, "attacks": found}


async def _during(node: HollowNode, attack: Callable[[], Awaitable[int]]) -> dict[str, Any]:
    started_s, handled = time.monotonic(), 0
    queries: list[float] = []
    leases: list[float] = []
    while len(queries) < SAMPLES:
        busy = asyncio.ensure_future(attack())
        while not busy.done():
            queries.append(await _timed(node, "query", "default/configmap/x", None))
            leases.append(await _timed(node, "update", "kube-node-lease/lease/healthy", _lease()))
            await asyncio.sleep(PAUSE_S)
        handled += await busy
    took_s = round(time.monotonic() - started_s, 2)
    latency = {"samples": len(queries), "query_ms": _quantiles(queries), "lease_ms": _quantiles(leases)}
    return {"answered_or_closed": handled, "took_s": took_s, "rss_mib": _rss_mib()} | latency


async def _timed(node: HollowNode, operation: str, resource_path: str, content: Any) -> float:
    started_s = time.monotonic()
    await node.request(operation, resource_path, content, timeout_s=30)
    return (time.monotonic() - started_s) * 1000


def _lease() -> dict[str, Any]:
    return {"metadata": {"name": "healthy"}, "spec": {"holderIdentity": "healthy", "leaseDurationSeconds": 40}}


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 1) for name, part in at.items()}


async def _rest(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 0


async def _attacker(*arguments: str) -> int:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "skerry.testing.attacker", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    if child.returncode:
        raise RuntimeError(f"the attacker failed with code {child.returncode}")
    return int(out)


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)
