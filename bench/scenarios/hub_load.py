"""Many edge nodes on one hub: memory, time to connect, delivery of pods, idle CPU. Any KubeEdge-compatible hub.

The hub is a process of its own; its nodes are hollow ones in other processes (``skerry.testing.fleet``). Targets:

``allinone``   the Skerry cloud with its embedded API server, one process
``hub``        the Skerry cloud alone, over HTTPS beside an API server in another process
``cloudcore``  a Go cloudcore (binary in ``SKERRY_CLOUDCORE``) beside the same API server

Links: ``skerry`` (features agreed on, leases folded) or ``plain`` (KubeEdge wire; each node renews its Lease every 10 s
and sends a keepalive every 15 s).

``connected_s`` counts from the start of the processes of the first nodes until so many are connected and registered,
without the pauses for the other numbers; ``lost_links`` are links that ended. Delivered = from just before the POST of
a pod until its node holds the frame, 16 creators at once, all pods counted. Memory is taken after a full collection
(of a Go hub as it is); ``rss_kb_per_node`` is the slope from the first step to the last, and by step, without what the
pods that were created in between have added (``pods.rss_mb``). Idle CPU is that of the hub process over 20 s, in
percent of one core, a minute after the last node has come: until then a hub writes behind what the nodes' coming has
changed. It is not taken below 1,000 nodes.

``python bench/run.py hub_load`` runs, in under 15 minutes on two cores, what ``RUNS`` lists; by hand:
``python bench/scenarios/hub_load.py --target allinone --link skerry --steps 500 1000 5000 --pods 2000``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry.api.gvk import NODES, PODS, SECRETS
from skerry.api.status import ApiError
from skerry.app.children import Child, process_environment
from skerry.base import certificates, x509
from skerry.kube import kubeconfig
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.testing.fleet import Fleet, issue
from skerry.testing.site import until
from skerry.wire.kubeedge import constants as c

CREATORS = 16
PER_CHILD = 1250
IDLE_S = 20.0
CALM_WITHIN_S, CALM_WINDOW_S = 60.0, 3.0
WRITES_BEHIND_S = 65.0
IDLE_FROM_NODES = 1000
RUNS = (
    ("hub", "skerry", (500, 1000, 5000)),
    ("allinone", "skerry", (500, 1000)),
    ("hub", "plain", (500, 1000)),
    ("cloudcore", "plain", (500, 1000)),
)


def run() -> dict[str, Any]:
    """The default runs; those of cloudcore only where its binary is named."""
    found = {}
    for target, link, steps in RUNS:
        if target == "cloudcore" and not os.environ.get("SKERRY_CLOUDCORE"):
            continue
        print(f"  {target} {link} {steps} …", file=sys.stderr, flush=True)
        found[f"{target}_{link}"] = asyncio.run(measure(target, link, steps, pods=2000))
    return found


async def measure(target: str, link: str, steps: Sequence[int], *, pods: int) -> dict[str, Any]:
    """One hub, more and more nodes."""
    _raise_file_limit()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = _Bench(folder, target, link, stack)
        await bench.start()
        numbers: dict[str, Any] = {"target": target, "link": link, "rss_mb": {"0": await bench.rss_mb()}}
        numbers |= {"connected_s": {}, "idle_cpu_percent": {}, "hub_cpu_s_to_connect": {}}
        for step in steps:
            cpu_s = bench.cpu_s()
            numbers["connected_s"][str(step)] = await bench.grow(step)
            numbers["hub_cpu_s_to_connect"][str(step)] = round(bench.cpu_s() - cpu_s, 1)
            await bench.calm()
            if step >= IDLE_FROM_NODES:
                numbers["idle_cpu_percent"][str(step)] = await bench.idle_cpu_percent()
            numbers["rss_mb"][str(step)] = await bench.rss_mb()
            if pods and step == max((s for s in steps if s <= 1000), default=0):
                numbers["pods"] = await bench.deliver(pods, step)
                await bench.calm()
                numbers["pods"]["rss_mb"] = round(await bench.rss_mb() - numbers["rss_mb"][str(step)], 1)
        numbers["rss_kb_per_node"] = _slopes(numbers["rss_mb"], steps, numbers.get("pods", {}).get("rss_mb", 0.0))
        numbers["ready_nodes"] = await bench.ready()
        numbers["lost_links"] = await bench.lost()
        numbers["load_1m"] = round(os.getloadavg()[0], 1)
        return numbers


def _slopes(rss_mb: dict[str, float], steps: Sequence[int], pods_mb: float) -> dict[str, float]:
    """kB per node between steps; the pods came after the last step of at most 1,000 nodes."""
    alone = {step: rss_mb[str(step)] - (pods_mb if step > 1000 else 0.0) for step in steps}
    return {
        f"{first}-{last}": round(1000 * (alone[last] - alone[first]) / (last - first), 1)
        for first, last in sorted({*itertools.pairwise(steps), (steps[0], steps[-1])})
        if last > first
    }


def _raise_file_limit() -> None:
    """A hub has a descriptor for each node; the processes that we start inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Bench:
    def __init__(self, folder: Path, target: str, link: str, stack: contextlib.AsyncExitStack) -> None:
        self.folder, self.target, self.link = folder, target, link
        self._stack = stack
        self._count = 0
        self._connected_s = self._came_s = 0.0
        self._fleets: list[Fleet] = []

    async def start(self) -> None:
        self.server = await self._cloud("server", [])
        file = Path(self.server.ready["kubeconfig"])
        transport = HttpTransport(kubeconfig.load(file))
        self._stack.push_async_callback(transport.aclose)
        self.api = HttpKubeApi(transport)
        self._pid, self.hub_url = self.server.pid, self.server.ready["endpoints"]["hub"]
        if self.target == "hub":
            hub = await self._cloud("hub", ["--kubeconfig", str(file)])
            self._pid, self.hub_url = hub.pid, hub.ready["endpoints"]["hub"]
        if self.target == "cloudcore":
            await self._cloudcore(file)
        await self._authority()

    async def _cloud(self, name: str, more: list[str]) -> Child:
        order = ["--listen", "127.0.0.1", "--ports", "any", "-o", "json", "--data", str(self.folder / name), *more]
        child = Child(
            name, ["--serve", "cloud", "run", *order], log_file=self.folder / f"{name}.log",
            environment=process_environment(), program=(sys.executable, __file__),
        )  # fmt: skip
        await child.start()
        self._stack.push_async_callback(child.stop)
        return child

    async def _cloudcore(self, file: Path) -> None:
        sys.path.insert(0, str(Path(__file__).parents[2]))
        from tests.interop.gocloud import GoCloud, has_token  # the same way to start it as in the interop tests

        cloud = GoCloud(self.folder / "go", kubeconfig=file)
        config = self.folder / "go/cloudcore.yaml"
        config.write_text(config.read_text().replace('"nodeLimit": 100', '"nodeLimit": 10000'))
        await cloud.process.start()
        self._stack.push_async_callback(cloud.process.stop)
        await until(lambda: has_token(cloud, self.api), within_s=60)
        self._pid, self.hub_url = cloud.process.pid, f"wss://127.0.0.1:{cloud.hub}"

    async def _authority(self) -> None:
        secret = await self.api.get(SECRETS, c.SECRET_CA, namespace=c.NAMESPACE)
        data = {key: base64.b64decode(value) for key, value in secret["data"].items()}
        key = x509.normalized_key(data[c.SECRET_CA_KEY])
        self._ca = certificates.Credential(certificates.from_pem(data[c.SECRET_CA_CERT]), key)
        (self.folder / "ca.crt").write_bytes(self._ca.cert_pem)

    async def grow(self, count: int) -> float:
        """Connect and register nodes until there are ``count``; the seconds that it has taken so far."""
        issue(self._ca, self.folder, self._count, count)
        fleets = [
            Fleet(
                self.hub_url, self.folder, first, min(first + PER_CHILD, count), link=self.link,
                source=f"127.0.{len(self._fleets) + number + 1}.1",
            )
            for number, first in enumerate(range(self._count, count, PER_CHILD))
        ]  # fmt: skip
        started_s = time.monotonic()
        for fleet in fleets:
            self._stack.push_async_callback(fleet.stop)
            await fleet.start()
        for fleet in fleets:
            await fleet.connected()
        self._came_s = time.monotonic()
        self._connected_s += self._came_s - started_s
        self._fleets += fleets
        self._count = count
        return round(self._connected_s, 1)

    async def calm(self) -> None:
        """Wait until the hub does the same work in one window as in the next."""
        ends_s, last_s = time.monotonic() + CALM_WITHIN_S, 0.0
        while time.monotonic() < ends_s:
            before_s = self.cpu_s()
            await asyncio.sleep(CALM_WINDOW_S)
            used_s = self.cpu_s() - before_s
            if abs(used_s - last_s) <= max(0.05, 0.15 * used_s):
                return
            last_s = used_s

    async def idle_cpu_percent(self) -> float:
        """What the hub needs of one core when nothing happens."""
        await asyncio.sleep(max(0.0, self._came_s + WRITES_BEHIND_S - time.monotonic()))
        cpu_s, started_s = self.cpu_s(), time.monotonic()
        await asyncio.sleep(IDLE_S)
        return round(100 * (self.cpu_s() - cpu_s) / (time.monotonic() - started_s), 1)

    async def deliver(self, pods: int, nodes: int) -> dict[str, Any]:
        """Create pods, spread over the nodes; when had each one arrived?"""
        sent: dict[str, float] = {}
        numbers = iter(range(pods))
        transports = [HttpTransport(self.api._transport.credentials) for _ in range(CREATORS)]  # type: ignore[attr-defined]

        async def create(transport: HttpTransport) -> None:
            api = HttpKubeApi(transport)
            for number in numbers:
                name = f"pod-{number}"
                sent[name] = time.time()
                await api.create(PODS, _pod(name, f"edge-{number % nodes}"), namespace="default")
            await transport.aclose()

        cpu_s, started_s = self.cpu_s(), time.time()
        async with asyncio.TaskGroup() as group:
            for transport in transports:
                group.create_task(create(transport))
        created_s = time.time()
        came: dict[str, float] = {}
        while len(came) < pods and time.time() - started_s < 180:
            await asyncio.sleep(0.5)
            for fleet in self._fleets:
                came |= await fleet.ask("arrived")
        waits = sorted(came[name] - sent[name] for name in came)
        return {
            "count": pods, "delivered": len(came), "create_all_s": round(created_s - started_s, 2),
            "delivered_all_s": round(max(came.values()) - started_s, 2) if came else None,
            "p50_s": round(waits[len(waits) // 2], 3), "p99_s": round(waits[int(len(waits) * 0.99)], 3),
            "max_s": round(waits[-1], 3), "hub_cpu_s": round(self.cpu_s() - cpu_s, 2),
        }  # fmt: skip

    async def ready(self) -> int:
        """Nodes that the cluster knows."""
        return len((await self.api.list(NODES)).items)

    async def lost(self) -> int:
        """Links that ended and were made again."""
        return sum([await fleet.ask("lost") for fleet in self._fleets])

    async def rss_mb(self) -> float:
        if self.target != "cloudcore":
            os.kill(self._pid, signal.SIGUSR2)
            await asyncio.sleep(1.5)
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return round(pages * 4096 / 1e6, 1)

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pod(name: str, node: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node, "automountServiceAccountToken": False,
            "containers": [{"name": "app", "image": "app:1", "command": ["sleep", "1000"]}],
        },
    }  # fmt: skip


def _serve(arguments: list[str]) -> int:
    """``skerry ARGUMENTS`` that collects its garbage on SIGUSR2."""
    import gc

    from skerry.cli import main

    signal.signal(signal.SIGUSR2, lambda number, frame: (gc.unfreeze(), gc.collect(), None)[-1])
    return main.main(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        sys.exit(_serve(sys.argv[2:]))
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", choices=("allinone", "hub", "cloudcore"), default="allinone")
    parser.add_argument("--link", choices=("skerry", "plain"), default="skerry")
    parser.add_argument("--steps", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--pods", type=int, default=2000)
    given = parser.parse_args()
    with contextlib.suppress(ApiError):
        print(json.dumps(asyncio.run(measure(given.target, given.link, given.steps, pods=given.pods))))
