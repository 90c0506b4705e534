"""Many edge nodes on one hub: memory, time to connect, delivery of pods, idle CPU. Any KubeEdge-compatible hub.

The hub is a process of its own; its nodes are hollow ones in other processes. Targets:

``allinone``   the Skerry cloud with its embedded API server, one process
``hub``        the Skerry cloud alone, over HTTPS beside an API server in another process
``cloudcore``  a Go cloudcore (binary in ``SKERRY_CLOUDCORE``) beside the same API server

Links: ``skerry`` (features agreed on, leases folded) or ``plain`` (KubeEdge wire; each node renews its Lease every 10 s
and sends a keepalive every 15 s).

Delivered = from just before the POST of a pod until its node holds the frame, 16 creators at once, all pods counted.
Memory is taken after a full collection; idle CPU is that of the hub process over 20 s, in percent of one core.

``python bench/run.py hub_load`` runs 500 → 1,000 nodes with both kinds of link on ``allinone`` and ``hub``; by hand:
``python bench/scenarios/hub_load.py --target hub --link skerry --steps 500 1000 5000 --pods 2000``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry.api.gvk import NODES, PODS, SECRETS
from skerry.api.status import ApiError
from skerry.app.children import Child, process_environment
from skerry.base import x509
from skerry.base.aio.supervise import Supervisor
from skerry.kube import kubeconfig
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.testing.hollow import HollowNode, connect
from skerry.testing.site import until
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import join, peers

CREATORS = 16
PER_CHILD = 1500
DIALS_AT_ONCE = 24
IDLE_S = 20.0


def run() -> dict[str, Any]:
    """The small form."""
    found = {}
    for target in ("allinone", "hub"):
        for link in ("skerry", "plain"):
            found[f"{target}_{link}"] = asyncio.run(measure(target, link, (500, 1000), pods=2000))
    return found


async def measure(target: str, link: str, steps: Sequence[int], *, pods: int) -> dict[str, Any]:
    """One hub, more and more nodes."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = _Bench(folder, target, link, stack)
        await bench.start()
        numbers: dict[str, Any] = {"target": target, "link": link, "rss_mb": {"0": await bench.rss_mb()}}
        numbers |= {"connected_s": {}, "idle_cpu_percent": {}}
        for step in steps:
            numbers["connected_s"][str(step)] = await bench.grow(step)
            await asyncio.sleep(5)
            cpu_s, started_s = bench.cpu_s(), time.monotonic()
            await asyncio.sleep(IDLE_S)
            used = (bench.cpu_s() - cpu_s) / (time.monotonic() - started_s)
            numbers["idle_cpu_percent"][str(step)] = round(100 * used, 1)
            numbers["rss_mb"][str(step)] = await bench.rss_mb()
            if pods and step == max((s for s in steps if s <= 1000), default=0):
                numbers["pods"] = await bench.deliver(pods, step)
        first, last = steps[0], steps[-1]
        if last > first:
            rss = numbers["rss_mb"]
            numbers["rss_kb_per_node"] = round(1000 * (rss[str(last)] - rss[str(first)]) / (last - first), 1)
        numbers["ready_nodes"] = await bench.ready()
        numbers["lost_links"] = await bench.lost()
        numbers["load_1m"] = round(os.getloadavg()[0], 1)
        return numbers


class _Bench:
    def __init__(self, folder: Path, target: str, link: str, stack: contextlib.AsyncExitStack) -> None:
        self.folder, self.target, self.link = folder, target, link
        self._stack = stack
        self._count = 0
        self._fleets: list[_Fleet] = []

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
        self._ca = x509.Credential(x509.from_pem(data[c.SECRET_CA_CERT]), key)
        (self.folder / "ca.crt").write_bytes(self._ca.cert_pem)

    async def grow(self, count: int) -> float:
        """Connect and register nodes until there are ``count``; the seconds that it took."""
        for number in range(self._count, count):
            made = x509.issue_client(self._ca, join.common_name(f"edge-{number}"), organizations=(c.CERT_ORGANIZATION,))
            x509.save(made, self.folder / f"{number}.crt", self.folder / f"{number}.key")
        parts = [(at, min(at + PER_CHILD, count)) for at in range(self._count, count, PER_CHILD)]
        fleets = [_Fleet(len(self._fleets) + number) for number in range(len(parts))]
        started_s = time.monotonic()
        for fleet, (first, last) in zip(fleets, parts, strict=True):
            await fleet.start(self.hub_url, self.folder, first, last, self.link)
            self._stack.push_async_callback(fleet.stop)
        for fleet in fleets:
            await fleet.told("connected")
        took_s = time.monotonic() - started_s
        self._fleets += fleets
        self._count = count
        return round(took_s, 1)

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
        return sum(await asyncio.gather(*(fleet.ask("lost") for fleet in self._fleets)))  # type: ignore[arg-type]

    async def rss_mb(self) -> float:
        if self.target != "cloudcore":
            os.kill(self._pid, signal.SIGUSR2)
            await asyncio.sleep(1.5)
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return round(pages * 4096 / 1e6, 1)

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Fleet:
    """A process of hollow nodes; one line of JSON to it, one back."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def start(self, url: str, folder: Path, first: int, last: int, link: str) -> None:
        order = ["--fleet", url, str(folder), str(first), str(last), link, f"127.0.{self._number + 1}.1"]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, *order,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=64 * 1024 * 1024,
        )  # fmt: skip

    async def told(self, what: str) -> Any:
        assert self._process.stdout is not None
        while True:
            line = await self._process.stdout.readline()
            if not line:
                raise RuntimeError("a fleet of hollow nodes ended")
            found = json.loads(line)
            if what in found:
                return found[what]

    async def ask(self, what: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(what.encode() + b"\n")
        await self._process.stdin.drain()
        return await self.told(what)

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class _Nodes:
    """The hollow nodes of one process."""

    def __init__(self, url: str, folder: Path, link: str, source: str) -> None:
        self._url, self._folder, self._link, self._source = url, folder, link, source
        self._features = peers.FEATURES if link == "skerry" else frozenset()
        self._gate = asyncio.Semaphore(DIALS_AT_ONCE)
        self._up = 0
        self._changed = asyncio.Event()
        self.arrived: dict[str, float] = {}
        self.lost = 0

    async def run(self, first: int, last: int) -> None:
        async with Supervisor("fleet") as supervisor:
            for number in range(first, last):
                supervisor.detach("node", self._node(number))
            while self._up < last - first:
                self._changed.clear()
                await self._changed.wait()
            _tell({"connected": self._up})
            await self._serve()

    async def _serve(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            what = line.decode().strip()
            _tell({what: self.lost if what == "lost" else self.arrived})

    async def _node(self, number: int) -> None:
        name = f"edge-{number}"
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.load_verify_locations(self._folder / "ca.crt")
        tls.load_cert_chain(self._folder / f"{number}.crt", self._folder / f"{number}.key")
        is_first = True
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    async with self._gate:
                        link = connect(
                            self._url, name, tls, is_skerry=self._link == "skerry", features=self._features,
                            source=self._source,
                        )  # fmt: skip
                        node = await stack.enter_async_context(link)
                        node.on_applied = self._applied
                        await node.request("insert", f"null/node/{name}", _node_object(name), timeout_s=60)
                    if is_first:
                        self._up += 1
                        self._changed.set()
                    is_first = False
                    await self._live(node, name)
            except (OSError, TimeoutError, Exception) as exc:  # noqa: BLE001 - whatever it is, a node dials again
                sys.stderr.write(f"{name}: {type(exc).__name__}: {exc}\n"[:300])
            self.lost += not is_first
            await asyncio.sleep(random.uniform(0.2, 5.0))

    async def _live(self, node: HollowNode, name: str) -> None:
        if self._link == "skerry":
            await node.ended.wait()
            return
        path, lease = f"kube-node-lease/lease/{name}", _lease(name)
        await asyncio.sleep(random.uniform(0, 10))
        found = await node.request("insert", path, lease, timeout_s=60)
        while not node.ended.is_set():
            lease = (found.object if found.is_ok and found.object else lease) | {"spec": _lease(name)["spec"]}
            found = await node.request("update", path, lease, timeout_s=60)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await node.ended.wait()

    def _applied(self, obj: dict[str, Any]) -> None:
        if obj.get("kind") == "Pod":
            self.arrived.setdefault(obj["metadata"]["name"], time.time())


def _lease(name: str) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
    return {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec}


def _node_object(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "node-role.kubernetes.io/edge": ""}
    condition = {"type": "Ready", "status": "True", "reason": "EdgeReady", "message": ""}
    status = {"conditions": [condition], "capacity": {"cpu": "2", "memory": "1Gi", "pods": "110"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


def _pod(name: str, node: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": node, "automountServiceAccountToken": False,
            "containers": [{"name": "app", "image": "app:1", "command": ["sleep", "1000"]}],
        },
    }  # fmt: skip


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _serve(arguments: list[str]) -> int:
    """``skerry ARGUMENTS`` that collects its garbage on SIGUSR2."""
    import gc

    from skerry.cli import main

    signal.signal(signal.SIGUSR2, lambda number, frame: (gc.unfreeze(), gc.collect(), None)[-1])
    return main.main(arguments)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        sys.exit(_serve(sys.argv[2:]))
    if sys.argv[1:2] == ["--fleet"]:
        url, folder, first, last, link, source = sys.argv[2:]
        import uvloop

        uvloop.run(_Nodes(url, Path(folder), link, source).run(int(first), int(last)))
        sys.exit(0)
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", choices=("allinone", "hub", "cloudcore"), default="allinone")
    parser.add_argument("--link", choices=("skerry", "plain"), default="skerry")
    parser.add_argument("--steps", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--pods", type=int, default=2000)
    given = parser.parse_args()
    with contextlib.suppress(ApiError):
        print(json.dumps(asyncio.run(measure(given.target, given.link, given.steps, pods=given.pods))))
