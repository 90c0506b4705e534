"""One cloud and one edge node as real processes, with proxies on the way from the node to the cloud.

For tests and measurements that kill, cut and restart. Not here: what the pods do, and the engine that runs them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from skerry.api.gvk import NODES, PODS, Object
from skerry.api.status import ApiError
from skerry.app.children import Child, process_environment
from skerry.base import json
from skerry.base.files import write_secret
from skerry.kube import kubeconfig as credentials
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.testing.netproxy import NetProxy, Traffic, net_proxy

_LOOK_S = 0.05
_LOG_LINES = 40


class NotInTime(AssertionError):
    """What was waited for did not come."""


async def until(look: Callable[[], Awaitable[str]], *, within_s: float) -> float:
    """Look again until ``look`` has nothing to complain about; returns the seconds that it took.

    Args:
        look: gives what is still wrong, in words; empty when all is right. An error of the API is a complaint.

    Raises:
        NotInTime: with the last complaint.
    """
    started_s = time.monotonic()
    while True:
        try:
            complaint = await look()
        except ApiError as exc:
            complaint = f"{type(exc).__name__}: {exc}"
        took_s = time.monotonic() - started_s
        if not complaint:
            return took_s
        if took_s > within_s:
            raise NotInTime(f"not within {within_s:g} s: {complaint}")
        await asyncio.sleep(_LOOK_S)


class Site:
    """A cloud, an agent, and the way between them.

    Args:
        data: directory for everything.
        runtime: process or cri.
        cri_socket: of the container engine.
        environment: added to ours, for every process.
        agent_python: interpreter of the agent; empty for our own.
        listen: address of the cloud.
    """

    node = "edge-1"

    def __init__(
        self,
        data: Path,
        *,
        runtime: str,
        cri_socket: Path | None = None,
        environment: Mapping[str, str] | None = None,
        agent_python: str = "",
        listen: str = "127.0.0.1",
    ) -> None:
        self.data = data
        self._environment = process_environment() | dict(environment or {})
        self._runtime = ["--runtime", runtime, *(["--cri-socket", str(cri_socket)] if cri_socket else [])]
        edge = ["edge", "run", "--data", str(self.edge_data), "-o", "json", "--log-format", "text"]
        cloud = ["cloud", "run", "--data", str(data / "cloud"), "--listen", listen, "--ports", "any", "-o", "json"]
        self.cloud = self._child("cloud", [*cloud, "--log-format", "text"])
        self.agent = self._child("edge", edge, python=agent_python)
        self._proxies: list[NetProxy] = []
        self._transport: HttpTransport | None = None

    @property
    def edge_data(self) -> Path:
        """The agent's directory."""
        return self.data / "edge"

    @property
    def transport(self) -> HttpTransport:
        """To the cloud's API server, as its administrator."""
        if self._transport is None:
            self._transport = HttpTransport(credentials.find(Path(self.cloud.ready["kubeconfig"])))
        return self._transport

    @property
    def api(self) -> HttpKubeApi:
        """The cloud's objects."""
        return HttpKubeApi(self.transport)

    async def no_pods(self, namespace: str = "default") -> str:
        """For ``until``: pods outlive the agent, so a test that made some waits until they are gone."""
        left = (await self.api.list(PODS, namespace=namespace)).items
        return ", ".join(pod["metadata"]["name"] for pod in left)

    def joined(self) -> dict[str, Any]:
        """What the join wrote."""
        found: dict[str, Any] = json.loads((self.edge_data / "node.json").read_bytes())
        return found

    async def start(self, stack: AsyncExitStack) -> None:
        """Start the cloud, join, put proxies on the way, start the agent, wait until its node is ready."""
        stack.push_async_callback(self.close)
        await self.cloud.start()
        token = await self.told("token", "create", "--node", self.node, "--data", str(self.data / "cloud"))
        await self.told(
            "join", token["join"]["address"], "--token", token["token"], "--node", self.node, *self._runtime,
            "--data", str(self.edge_data), "--no-service",
        )  # fmt: skip
        await self._put_proxies(stack)
        await self.agent.start()
        await until(self._node_is_ready, within_s=30)

    def cut(self, *, silently: bool = False) -> None:
        """The node reaches nothing of the cloud from now on: connections are reset, or carry nothing in silence."""
        for proxy in self._proxies:
            if silently:
                proxy.black_hole()
            else:
                proxy.refuse()

    def mend(self) -> None:
        """The way to the cloud is open again."""
        for proxy in self._proxies:
            proxy.black_hole(swallows=False)
            proxy.refuse(refuses=False)

    def traffic(self) -> Traffic:
        """Between the node and the cloud, on the connections that are open now: join, hub and tunnel."""
        return sum((proxy.traffic() for proxy in self._proxies), Traffic())

    async def reset(self) -> None:
        """Stop the agent, end its pods, forget the join."""
        await self.agent.stop()
        await self.told("reset", "--data", str(self.edge_data), "--yes")

    async def close(self) -> None:
        """Stop agent and cloud."""
        if self._transport is not None:
            await self._transport.aclose()
        await self.agent.stop()
        await self.cloud.stop()

    async def _put_proxies(self, stack: AsyncExitStack) -> None:
        joined = self.joined()
        ways = [
            ("join", joined["join"]),
            *(("hubs", a) for a in joined["hubs"]),
            *(("tunnels", a) for a in joined["tunnels"]),
        ]
        moved: dict[str, Any] = {"hubs": [], "tunnels": []}
        for name, (host, port) in ways:
            proxy = await stack.enter_async_context(net_proxy(host, port))
            self._proxies.append(proxy)
            place = ["127.0.0.1", proxy.port]
            if name == "join":
                moved["join"] = place
            else:
                moved[name].append(place)
        write_secret(self.edge_data / "node.json", json.dumps({**joined, **moved}))

    async def _node_is_ready(self) -> str:
        node = await self.api.get(NODES, self.node)
        conditions = {item["type"]: item for item in node.get("status", {}).get("conditions", [])}
        ready = conditions.get("Ready", {})
        return "" if ready.get("status") == "True" else f"the node is not ready: {ready.get('message')}"

    async def told(self, *arguments: str) -> Any:
        """Run a ``skerry`` command to its end; what it said as JSON."""
        child = self._child(arguments[0], [*arguments, "-o", "json"])
        answer = await child.start()
        await child.wait()
        return answer

    def _child(self, name: str, arguments: list[str], *, python: str = "") -> Child:
        log_file = self.data / f"logs/{name}.log"
        program = (python, "-m", "skerry.cli.main") if python else ()
        return Child(name, arguments, program=program, log_file=log_file, environment=self._environment)


@asynccontextmanager
async def site(
    data: Path,
    *,
    runtime: str,
    cri_socket: Path | None = None,
    environment: Mapping[str, str] | None = None,
    agent_python: str = "",
) -> AsyncIterator[Site]:
    """A running site; its processes are gone when left, its pods are not."""
    async with AsyncExitStack() as stack:
        found = Site(data, runtime=runtime, cri_socket=cri_socket, environment=environment, agent_python=agent_python)
        try:
            await found.start(stack)
            yield found
        except Exception as exc:
            for child in (found.cloud, found.agent):
                exc.add_note(f"{child.name}: {child.last_words(lines=_LOG_LINES)}")
            raise


def pod_state(pod: Object) -> str:
    """How far a pod is, for complaints: phase, what is not yet true of it, and what its containers wait for."""
    status = pod.get("status") or {}
    words = [str(pod["metadata"]["name"]), str(status.get("phase"))]
    words += [str(status[key]) for key in ("reason", "message") if status.get(key)]
    words += [
        f"{condition['type']}={condition['status']} {condition.get('message', '')}".rstrip()
        for condition in status.get("conditions") or []
        if condition["status"] != "True"
    ]
    words += [f"{c['name']}: {c['state']}" for c in status.get("containerStatuses") or [] if not c["ready"]]
    words += ["is being deleted"] if pod["metadata"].get("deletionTimestamp") else []
    return ", ".join(words)


def rss_mib(pid: int) -> float:
    """VmRSS of a process, in MiB."""
    with Path(f"/proc/{pid}/status").open() as file:
        kib = next((int(line.split()[1]) for line in file if line.startswith("VmRSS:")), 0)
    return round(kib / 1024, 1)
