"""Delivery of 300 pods to 100 hollow nodes over TLS: API server and hub in this process, the nodes in another.

Latency counts from just before the pod's creation in the API server (SQLite, as the cloud runs it) to the moment at
which the node has it; the pods are created one after another as fast as the server takes them.

``python bench/run.py hub_load``; smaller: ``python bench/scenarios/hub_load.py --nodes 10 --pods 30``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from skerry.api.gvk import PODS, SERVICEACCOUNTS
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base import x509
from skerry.testing.hollow import HollowNode, connect
from skerry.testing.hubkit import CloudKit, cloud


def run(*, nodes: int = 100, pods: int = 300) -> dict[str, Any]:
    """The numbers; ``pods`` are spread evenly."""
    return uvloop.run(_cloud_side(nodes, pods))


async def _cloud_side(nodes: int, pods: int) -> dict[str, Any]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        core = ApiCore(database=folder / "api.db", token_key=folder / "sa.key")
        await core.start()
        stack.push_async_callback(core.aclose)
        api = LocalKubeApi(core, user=User("cloud", (MASTERS,)))
        await api.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
        async with cloud(api, folder) as kit:
            base_mb = _rss_mb()
            child = await _start_nodes(kit, folder, nodes, pods)
            assert child.stdout is not None
            connected = json.loads(await child.stdout.readline())
            idle_mb, cpu_s, started_s = _rss_mb(), time.process_time(), time.monotonic()
            for number in range(pods):
                await api.create(PODS, _pod(number, f"edge-{number % nodes}"))
            created_s = time.monotonic()
            delivered = json.loads(await child.stdout.readline())
            done_s = time.monotonic()
            cpu_s = time.process_time() - cpu_s
            await child.wait()
            return {
                "nodes": nodes,
                "pods": pods,
                "connect_all_s": connected["took_s"],
                "create_s": round(created_s - started_s, 3),
                "delivered_after_first_create_s": round(done_s - started_s, 3),
                "latency_ms": delivered["latency_ms"],
                "hub_cpu_s": round(cpu_s, 3),
                "hub_rss_mb": {"before": base_mb, "connected": idle_mb, "after": _rss_mb()},
            }


async def _start_nodes(kit: CloudKit, folder: Path, nodes: int, pods: int) -> asyncio.subprocess.Process:
    for number in range(nodes):
        x509.save(kit.node_credential(f"edge-{number}"), folder / f"{number}.crt", folder / f"{number}.key")
    order = [kit.hub_url, str(folder), str(nodes), str(pods)]
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--child", *order, stdout=asyncio.subprocess.PIPE
    )


async def _edge_side(url: str, folder: Path, nodes: int, pods: int) -> None:
    latencies: list[float] = []
    started_s = time.monotonic()
    async with contextlib.AsyncExitStack() as stack:
        hollows: list[HollowNode] = []
        for number in range(nodes):
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            tls.load_verify_locations(folder / "tls" / "ca.crt")
            tls.load_cert_chain(folder / f"{number}.crt", folder / f"{number}.key")
            hollow = await stack.enter_async_context(connect(url, f"edge-{number}", tls))
            hollow.on_applied = lambda obj: latencies.append(time.time() - float(obj["metadata"]["annotations"]["t"]))
            hollows.append(hollow)
        _tell({"took_s": round(time.monotonic() - started_s, 3)})
        for number, hollow in enumerate(hollows):
            share = len(range(number, pods, nodes))
            await hollow.until(lambda n, share=share: len(n.objects) >= share, timeout_s=120)  # type: ignore[misc]
        latencies.sort()
        at = {"p50": 0.5, "p95": 0.95, "max": 1.0}
        _tell({"latency_ms": {k: round(1000 * latencies[int(q * (len(latencies) - 1))], 1) for k, q in at.items()}})


def _pod(number: int, node: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"pod-{number}", "namespace": "default", "annotations": {"t": str(time.time())}},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "app:1", "command": ["sleep", "1000"]}]},
    }


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / 1e6, 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        asyncio.run(_edge_side(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("--nodes", type=int, default=100)
        parser.add_argument("--pods", type=int, default=300)
        given = parser.parse_args()
        print(json.dumps(run(nodes=given.nodes, pods=given.pods)))
