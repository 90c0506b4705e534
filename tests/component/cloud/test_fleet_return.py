"""The whole fleet comes back at once after the hub was away, with a backlog for every node.

Hub and API server are processes of their own, as beside a real cluster; the hub is killed, the cluster goes on and
changes, and when the hub is back every node dials it in the same second.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import CONFIGMAPS, PODS, SECRETS
from skerry.app.children import Child, process_environment
from skerry.base import certificates, x509
from skerry.kube import kubeconfig
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.testing.fleet import Fleet, issue, node_name
from skerry.testing.site import until
from skerry.wire.kubeedge import constants as c

log = logging.getLogger(__name__)

PER_PROCESS = 1000
CONFIGS = 20
CREATORS = 16
WITHIN_S = 60.0


class World:
    """A cluster, a hub beside it, and a fleet."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self.wanted: dict[str, dict[str, str]] = {node_name(number): {} for number in range(count)}
        self.fleets: list[Fleet] = []
        self.server = self._child("server")

    def _child(self, name: str, *more: str) -> Child:
        order = ["cloud", "run", "--listen", "127.0.0.1", "--ports", "any", "-o", "json", "--data"]
        return Child(
            name, [*order, str(self.folder / name), *more], log_file=self.folder / f"{name}.log",
            environment=process_environment(),
        )  # fmt: skip

    async def start(self, stack: AsyncExitStack) -> None:
        await self.server.start()
        stack.push_async_callback(self.server.stop)
        config = Path(self.server.ready["kubeconfig"])
        transport = HttpTransport(kubeconfig.load(config))
        stack.push_async_callback(transport.aclose)
        self.api = HttpKubeApi(transport)
        self.hub = self._child("hub", "--kubeconfig", str(config))
        await self.hub.start()
        stack.push_async_callback(self.hub.stop)
        secret = await self.api.get(SECRETS, c.SECRET_CA, namespace=c.NAMESPACE)
        cert, key = (base64.b64decode(secret["data"][name]) for name in (c.SECRET_CA_CERT, c.SECRET_CA_KEY))
        ca = certificates.Credential(certificates.from_pem(cert), x509.normalized_key(key))
        (self.folder / "ca.crt").write_bytes(ca.cert_pem)
        issue(ca, self.folder, 0, self.count)
        for number, first in enumerate(range(0, self.count, PER_PROCESS)):
            fleet = Fleet(
                self.hub.ready["endpoints"]["hub"], self.folder, first, min(first + PER_PROCESS, self.count),
                link="skerry", source=f"127.0.{number + 1}.1",
            )  # fmt: skip
            stack.push_async_callback(fleet.stop)
            await fleet.start()
            self.fleets.append(fleet)
        for fleet in self.fleets:
            await fleet.connected()

    async def desire(self, *, mark: str, is_first: bool) -> None:
        """A pod more on every node, another label on those that were there or their removal, other configs."""
        works: list[Callable[[], Coroutine[Any, Any, object]]] = []
        for number in range(CONFIGS):
            works.append(self._config(f"config-{number}", mark, is_first=is_first))
        for number in range(self.count):
            node, config = node_name(number), f"config-{number % CONFIGS}"
            if not is_first and number % 10 == 0:
                works.append(self._removal(f"{node}-first"))
                del self.wanted[node][f"default/pod/{node}-first"]
            elif not is_first:
                works.append(self._label(f"{node}-first", mark))
                self.wanted[node][f"default/pod/{node}-first"] = mark
            name = f"{node}-{'first' if is_first else 'second'}"
            works.append(self._pod(name, node, config, mark))
            self.wanted[node] |= {f"default/pod/{name}": mark, f"default/configmap/{config}": mark}
        queue = iter(works)

        async def work() -> None:
            for make in queue:
                await make()

        async with asyncio.TaskGroup() as group:
            for _ in range(CREATORS):
                group.create_task(work())

    def _config(self, name: str, mark: str, *, is_first: bool) -> Callable[[], Coroutine[Any, Any, object]]:
        body = {"metadata": {"name": name}, "data": {"n": mark}}
        if is_first:
            return lambda: self.api.create(CONFIGMAPS, body, namespace="default")
        return lambda: self.api.patch(CONFIGMAPS, name, body, namespace="default")

    def _label(self, name: str, mark: str) -> Callable[[], Coroutine[Any, Any, object]]:
        return lambda: self.api.patch(PODS, name, {"metadata": {"labels": {"n": mark}}}, namespace="default")

    def _removal(self, name: str) -> Callable[[], Coroutine[Any, Any, object]]:
        return lambda: self.api.delete(PODS, name, namespace="default", grace_period_s=0)

    def _pod(self, name: str, node: str, config: str, mark: str) -> Callable[[], Coroutine[Any, Any, object]]:
        pod = {
            "metadata": {"name": name, "labels": {"n": mark}},
            "spec": {
                "nodeName": node, "automountServiceAccountToken": False,
                "containers": [{"name": "app", "image": "app:1"}],
                "volumes": [{"name": "c", "configMap": {"name": config}}],
            },
        }  # fmt: skip
        return lambda: self.api.create(PODS, pod, namespace="default")

    async def differs(self) -> str:
        """What the nodes should hold and do not, in words; counted first, as to look at each costs them time."""
        counts: Counter[str] = Counter()
        for fleet in self.fleets:
            counts.update(await fleet.ask("notes"))
        wanted = Counter(f"{path.split('/')[1]}={mark}" for held in self.wanted.values() for path, mark in held.items())
        if found := {note: counts[note] for note in {*wanted, *counts} - {"node="} if counts[note] != wanted[note]}:
            return f"all nodes together hold {found}, not {dict(wanted)}"
        for fleet in self.fleets:
            for node, held in (await fleet.ask("held")).items():
                apart = {path: note for path, note in held.items() if not path.startswith("null/node/")}
                if apart != self.wanted[node]:
                    return f"{node} holds {apart}, not {self.wanted[node]}"
        return ""

    async def total(self, what: str) -> int:
        return sum([await fleet.ask(what) for fleet in self.fleets])

    async def pods_that_go(self) -> Sequence[str]:
        """Of those that are wanted: what is missing, or is to go."""
        pods = {p["metadata"]["name"]: p for p in (await self.api.list(PODS, namespace="default")).items}
        made = [path.rpartition("/")[2] for held in self.wanted.values() for path in held if "/pod/" in path]
        return [name for name in made if name not in pods or "deletionTimestamp" in pods[name]["metadata"]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as held:
        yield held


async def play(folder: Path, stack: AsyncExitStack, *, count: int) -> None:
    world = World(folder, count)
    await world.start(stack)
    await world.desire(mark="1", is_first=True)
    await until(world.differs, within_s=WITHIN_S)
    assert await world.total("lost") == 0

    await world.hub.kill()

    async def all_are_away() -> str:
        up = await world.total("up")
        return f"{up} nodes still have a link" if up else ""

    await until(all_are_away, within_s=WITHIN_S)
    assert await world.total("lost") == count
    await world.desire(mark="2", is_first=False)
    assert await world.differs()
    await world.hub.start()
    took_s = await until(world.differs, within_s=WITHIN_S)

    async def all_are_up() -> str:
        up = await world.total("up")
        return "" if up == count else f"{up} of {count} nodes have a link"

    await until(all_are_up, within_s=WITHIN_S)
    assert await world.total("lost") == 0, "links were lost again after they stood"
    assert await world.pods_that_go() == []
    log.info("%d nodes converged %.1f s after the hub served again", count, took_s)


@pytest.mark.timeout(180)
async def test_a_fleet_returns_at_once(tmp_path: Path, stack: AsyncExitStack) -> None:
    await play(tmp_path, stack, count=100)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_fleet_of_thousands_returns_at_once(tmp_path: Path, stack: AsyncExitStack) -> None:
    await play(tmp_path, stack, count=2000)
