"""One run: a seed decides every change and every fault; afterwards the judge compares cluster and stores."""

from __future__ import annotations

import asyncio
import json as text_json
import os
import random
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.component.chaos.agentproc import CODEC, TOLD, tell_tasks

from skerry.api.gvk import CONFIGMAPS, PODS, SECRETS, Object, Resource
from skerry.api.status import AlreadyExists, ApiError, NotFound
from skerry.base import json
from skerry.base.aio.supervise import Supervisor
from skerry.cloud.hub.outbox import digest_of
from skerry.cloud.sync.placement import configs_of, stripped
from skerry.edge.store import rowcodec
from skerry.kube import kubeconfig as credentials
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.testing.frameproxy import Faults, FrameProxy, frame_proxy
from skerry.testing.hollow import client_tls
from skerry.testing.netproxy import NetProxy, net_proxy
from skerry.testing.site import NotInTime, until

SETTLE_S = 120.0
KINDS = ("dropped", "delayed", "swapped", "doubled", "copied late", "cut")
"""What each run must have met; a storm that is over too soon for one of them goes on."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much happens."""

    nodes: int
    changes: int
    groups: int
    """Processes that the nodes' agents live in."""
    most_cloud_kills: int = 1000


@dataclass(slots=True)
class Outcome:
    """What happened, and how it ended."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    applied: int = 0
    reported: int = 0
    settled_s: float = 0.0
    took_s: float = 0.0


class Process:
    """A Python process of ours that can be killed and started again."""

    def __init__(self, module: str, arguments: Sequence[str], *, log_file: Path) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> dict[str, Any]:
        """Start it; what it says of itself."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=asyncio.subprocess.PIPE, stderr=log, env=environment
            )
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise AssertionError(f"{self._command[2]} ended: {self._log_file.read_text()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def tell_tasks(self) -> None:
        """Let it write into its log what its tasks wait for."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGUSR1)

    @property
    def has_told(self) -> bool:
        """Whether it has written that, or does not run."""
        is_running = self._process is not None and self._process.returncode is None
        return not is_running or self._log_file.read_text().endswith(TOLD)

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


class Chaos:
    """A cloud, agents, and everything that is done to them."""

    def __init__(self, directory: Path, seed: int, size: Size) -> None:
        self.directory = directory
        self.size = size
        self.outcome = Outcome(seed)
        self.nodes = [f"edge-{number}" for number in range(size.nodes)]
        self._rng = random.Random(seed)
        self._cloud = Process(
            "tests.component.chaos.cloudproc", [str(directory), *self.nodes], log_file=directory / "cloud.log"
        )
        self._agents: list[Process] = []
        self._ways: list[NetProxy] = []
        self._hub = ""
        self._transport: HttpTransport | None = None
        self._tls: dict[str, Any] = {}
        self._proxy = FrameProxy(
            upstream=lambda: self._hub, client_tls=self._client_tls, faults=Faults(),
            rng=random.Random(seed + 1),
        )  # fmt: skip
        self._pods: dict[str, int] = {}

    async def run(self) -> Outcome:
        """Everything, in order; raises AssertionError with what is wrong."""
        started_s = time.monotonic()
        async with AsyncExitStack() as stack:
            await self._start(stack)
            await self._storm(stack)
            await self._quiet(stack)
            settled_s = time.monotonic()
            try:
                await until(self._is_settled, within_s=SETTLE_S)
            except NotInTime:
                await self._tell_tasks()
                raise
            self.outcome.settled_s = round(time.monotonic() - settled_s, 1)
            self._judge_order()
        self.outcome.faults += self._proxy.done
        self.outcome.took_s = round(time.monotonic() - started_s, 1)
        return self.outcome

    async def _start(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._close_transport)
        stack.push_async_callback(self._cloud.kill)
        await self._start_cloud()
        folder = self.directory / "nodes"
        await stack.enter_async_context(
            frame_proxy(self._proxy, cert=folder / "proxy.crt", key=folder / "proxy.key", ca=folder / "ca.crt")
        )
        for number in range(self.size.groups):
            way = await stack.enter_async_context(net_proxy("127.0.0.1", self._proxy.port))
            self._ways.append(way)
            nodes = self.nodes[number :: self.size.groups]
            agents = Process(
                "tests.component.chaos.agentproc", [str(self.directory), str(way.port), *nodes],
                log_file=self.directory / f"agents-{number}.log",
            )  # fmt: skip
            stack.push_async_callback(agents.kill)
            self._agents.append(agents)
            await agents.start()

    async def _storm(self, stack: AsyncExitStack) -> None:
        """Changes one after the other, faults beside them; a fast machine needs more of them to meet each fault."""
        async with Supervisor("storm") as supervisor:
            every = max(4, self.size.changes // (6 * self.size.groups))
            for number in range(5 * self.size.changes):
                if number >= self.size.changes and not self.unmet():
                    break
                await self._change(number)
                if number % every == every - 1:
                    await self._fault(supervisor)
                await asyncio.sleep(0)

    def unmet(self) -> list[str]:
        """The kinds of fault that have not happened yet."""
        done = self.outcome.faults + self._proxy.done
        return [kind for kind in KINDS if not done[kind]]

    async def _quiet(self, stack: AsyncExitStack) -> None:
        self._proxy.is_mischievous = False
        for way in self._ways:
            way.black_hole(swallows=False)
            way.slow()

    async def _fault(self, supervisor: Supervisor) -> None:
        group = self._rng.randrange(self.size.groups)
        way, agents = self._ways[group], self._agents[group]
        kind = self._rng.choices(
            ["cut", "black hole", "slow", "agents killed", "cloud killed"], weights=[5, 3, 3, 3, 1]
        )[0]
        if kind == "cloud killed" and self.outcome.faults[kind] >= self.size.most_cloud_kills:
            kind = "cut"
        self.outcome.faults[kind] += 1
        if kind == "cut":
            way.cut()
        elif kind == "black hole":
            way.black_hole()
            supervisor.detach("mend", _later(self._rng.uniform(0.5, 3.0), lambda: way.black_hole(swallows=False)))
        elif kind == "slow":
            way.slow(delay_s=0.05, bytes_per_s=20_000)
            supervisor.detach("mend", _later(self._rng.uniform(0.5, 2.0), way.slow))
        elif kind == "agents killed":
            await agents.kill()
            await agents.start()
        else:
            await self._cloud.kill()
            await asyncio.sleep(self._rng.uniform(0.0, 0.5))
            await self._start_cloud()

    async def _tell_tasks(self) -> None:
        """For whoever reads the logs of a run that failed."""
        for process in (self._cloud, *self._agents):
            process.tell_tasks()
        tell_tasks()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                while not all(process.has_told for process in (self._cloud, *self._agents)):
                    await asyncio.sleep(0.05)

    async def _start_cloud(self) -> None:
        said = await self._cloud.start()
        self._hub = said["hub"]
        await self._close_transport()
        self._transport = HttpTransport(credentials.find(Path(said["kubeconfig"])))

    async def _close_transport(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()

    @property
    def _api(self) -> HttpKubeApi:
        assert self._transport is not None
        return HttpKubeApi(self._transport)

    def _client_tls(self, node: str) -> Any:
        if node not in self._tls:
            folder = self.directory / "nodes" / node
            tls = client_tls(folder, None, (folder / "ca.crt").read_bytes())
            tls.load_cert_chain(folder / "node.crt", folder / "node.key")
            self._tls[node] = tls
        return self._tls[node]

    async def _change(self, number: int) -> None:
        """A new pod, a changed or ended one, a changed config; the mix keeps some pods per node."""
        rng, api = self._rng, self._api
        kind = rng.choices(["create", "label", "delete", "force", "config", "secret"], weights=[5, 3, 2, 1, 4, 2])[0]
        if kind == "create" or not self._pods:
            await self._create_pod(number)
            return
        if kind == "config":
            await _apply(api, CONFIGMAPS, f"config-{rng.randrange(self.size.nodes)}", {"data": {"n": str(number)}})
            return
        if kind == "secret":
            body = {"stringData": {"n": str(number)}}
            await _apply(api, SECRETS, f"secret-{rng.randrange(self.size.nodes)}", body)
            return
        name = rng.choice(sorted(self._pods))
        try:
            if kind == "label":
                await api.patch(PODS, name, {"metadata": {"labels": {"n": str(number)}}}, namespace="default")
                return
            await api.delete(PODS, name, namespace="default", grace_period_s=0 if kind == "force" else 1)
        except NotFound:
            pass
        except ApiError:
            return  # the cloud was killed just now; whether it took the change is for the judge to read
        self._pods.pop(name, None)

    async def _create_pod(self, number: int) -> None:
        rng = self._rng
        name = f"pod-{rng.randrange(4 * self.size.nodes)}"  # names come again after a deletion, with another uid
        volumes = [
            {"name": "c", "configMap": {"name": f"config-{rng.randrange(self.size.nodes)}", "optional": True}},
            {"name": "s", "secret": {"secretName": f"secret-{rng.randrange(self.size.nodes)}", "optional": True}},
        ]
        pod = {
            "metadata": {"name": name, "labels": {"n": str(number)}},
            "spec": {
                "nodeName": rng.choice(self.nodes), "containers": [{"name": "app", "image": "i"}], "volumes": volumes,
                "automountServiceAccountToken": False,
            },
        }  # fmt: skip
        with suppress(AlreadyExists, ApiError):
            await self._api.create(PODS, pod, namespace="default")
        self._pods[name] = number

    async def _is_settled(self) -> str:
        """What still differs, in words."""
        pods = (await self._api.list(PODS, namespace="default")).items
        if ending := [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]:
            return f"pods still end: {ending}"
        configs = {
            (kind, obj["metadata"]["name"]): obj
            for kind, resource in (("configmap", CONFIGMAPS), ("secret", SECRETS))
            for obj in (await self._api.list(resource, namespace="default")).items
        }
        for node in self.nodes:
            if complaint := self._compare(node, [p for p in pods if p["spec"].get("nodeName") == node], configs):
                return complaint
        return await self._all_reported(pods)

    def _compare(self, node: str, pods: list[Object], configs: dict[tuple[str, str], Object]) -> str:
        wanted = {f"default/pod/{pod['metadata']['name']}": digest_of(stripped(pod)) for pod in pods}
        for pod in pods:
            for key in configs_of(pod):
                if (config := configs.get((key.type, key.name))) is not None:
                    wanted[key.path] = digest_of(stripped(config))
        held, waiting = self._store(node)
        if waiting:
            return f"{node}: {waiting} entries wait for the cloud"
        held_digests = {key: digest_of(obj) for key, obj in held.items() if not key.startswith("null/node/")}
        missing, extra = wanted.keys() - held_digests.keys(), held_digests.keys() - wanted.keys()
        other = [key for key in wanted.keys() & held_digests.keys() if wanted[key] != held_digests[key]]
        if missing or extra or other:
            return f"{node}: missing {sorted(missing)}, too many {sorted(extra)}, different {sorted(other)}"
        return ""

    def _store(self, node: str) -> tuple[dict[str, Object], int]:
        file = self.directory / "agents" / node / "edge.db"
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT key, type, body FROM object").fetchall()
            waiting = connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
        finally:
            connection.close()
        return {key: rowcodec.decode(CODEC, kind, key, body) for key, kind, body in rows}, waiting  # type: ignore[misc]

    async def _all_reported(self, pods: list[Object]) -> str:
        last = {}
        for node in self.nodes:
            for uid, number in _lines(self.directory / "agents" / node / "left.log"):
                last[uid] = int(number)
        self.outcome.reported = len(last)
        for pod in pods:
            told = int((pod.get("status") or {}).get("message") or 0)
            if told < last.get(pod["metadata"]["uid"], 1):
                return f"the last status of {pod['metadata']['name']} is {told}, left was {last}"
        return ""

    def _judge_order(self) -> None:
        """Of each object, versions only grow, and a pod that was removed does not come back (a config may: for the
        next pod that names it)."""
        for node in self.nodes:
            newest: dict[tuple[str, str], int] = {}
            removed: set[tuple[str, str]] = set()
            for key, uid, version, kind in _lines(self.directory / "agents" / node / "applied.log"):
                self.outcome.applied += 1
                known = newest.get((key, uid), 0)
                if kind == "delete":
                    removed.add((key, uid))
                elif (key, uid) in removed:
                    assert "/pod/" not in key, f"{node}: {key} {uid} came back after its removal"
                    assert int(version) >= known, f"{node}: {key} {uid} came back as {version} after {known}"
                    removed.discard((key, uid))
                else:
                    assert int(version) > known, f"{node}: {key} {uid} as {version} after {known}"
                newest[(key, uid)] = max(known, int(version))


async def _apply(api: HttpKubeApi, resource: Resource, name: str, body: Object) -> None:
    with suppress(ApiError):
        try:
            await api.patch(resource, name, body, namespace="default")
        except NotFound:
            await api.create(resource, {"metadata": {"name": name}} | body, namespace="default")


async def _later(delay_s: float, action: Callable[[], object]) -> None:
    await asyncio.sleep(delay_s)
    action()


def _lines(file: Path) -> list[list[Any]]:
    """A line that a kill cut short is left out."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else ():
        with suppress(ValueError):
            found.append(text_json.loads(line))
    return found
