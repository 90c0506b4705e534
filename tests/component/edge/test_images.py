"""Images as pods need them, on a real containerd and a real registry."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.edge.desk import Desk, deleted, pod
from tests.parts import BUSYBOX_IMAGE, Containerd, PartMissing, busybox_program
from tests.registry import PASSWORD, DockerRegistry, docker_config

from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import race
from skerry.edge.images.collector import ImageCollector
from skerry.edge.images.ledger import ImageLedger, add_loaded
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.runtime.cri.leases import PullLeases

pytestmark = [pytest.mark.timeout(90), pytest.mark.xdist_group("containerd")]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    yield from _registry(tmp_path / "registry", is_private=False)


@pytest.fixture
def private(tmp_path: Path) -> Iterator[DockerRegistry]:
    yield from _registry(tmp_path / "private", is_private=True)


def _registry(directory: Path, *, is_private: bool) -> Iterator[DockerRegistry]:
    try:
        found = DockerRegistry(directory, is_private=is_private)
    except PartMissing as exc:
        pytest.skip(str(exc))
    found.start()
    found.push("demo/web:1", busybox=busybox_program())
    yield found
    found.close()


class Site(Desk):
    """The pod duty on containerd."""

    def __init__(self, directory: Path, containerd: Containerd, **settings: Any) -> None:
        self.client = CriClient(containerd.socket)
        leases = PullLeases(containerd.socket, clock=SystemClock())
        self.images = CriImages(self.client, leases=leases, **settings)
        super().__init__(directory, CriRuntime(self.client, node_uid=f"node-{directory.parent.name}"), self.images)

    async def run(self, image: str, *, policy: str = "IfNotPresent", name: str = "web", **spec: Any) -> None:
        container = {"image": image, "imagePullPolicy": policy}
        await self.objects.put(
            f"default/pod/{name}",
            pod(
                "exec sleep 300",
                name=name,
                uid=f"u-{name}",
                container=container,
                terminationGracePeriodSeconds=0,
                **spec,
            ),
        )

    async def end(self, name: str = "web") -> None:
        key = f"default/pod/{name}"
        found = self.objects.get(key)
        assert found is not None
        await self.objects.put(key, deleted(found, grace_s=0))
        await self.until(lambda: self.asked_to_delete(name))
        await self.objects.delete(key)

    def messages(self, reason: str) -> list[str]:
        return [
            e.envelope.content["message"]
            for e in self.outbox.entries()
            if "/event/" in e.key and e.envelope.content["reason"] == reason
        ]

    def waits_for(self) -> str:
        return str(self.state().get("waiting", {}).get("reason", ""))

    async def forget(self, image: str) -> None:
        """Take an image off the engine."""
        if await self.images.is_present(image):
            await self.images.remove(await self.images.resolve(image))


@pytest.fixture
async def desk(tmp_path: Path, containerd: Containerd) -> AsyncIterator[Site]:
    async for found in _site(Site(tmp_path / "edge", containerd)):
        yield found


async def _site(found: Site) -> AsyncIterator[Site]:
    before = {image.id for image in await found.images.list()}
    await found.roster.start()
    yield found
    await found.roster.stop_all()
    for seen in (await found.runtime.observe()).values():
        for sandbox in seen.sandboxes:
            await found.runtime.remove_sandbox(sandbox.id)
    for image in await found.images.list():
        if image.id not in before:
            await found.images.remove(image.id)
    await found.close()


async def test_a_pull_tells_its_time_and_size(desk: Site, registry: DockerRegistry) -> None:
    image = f"{registry.host}/demo/web:1"
    await desk.run(image)
    await desk.until(lambda: "running" in desk.state())
    assert desk.events() == ["Pulling", "Pulled", "Created", "Started"]
    [text] = desk.messages("Pulled")
    took = r"[\d.]+m?s"
    form = rf"Successfully pulled image \S+ in {took} \({took} including waiting\)\. Image size: (\d+) bytes\."
    found = re.fullmatch(form, text)
    assert found is not None and int(found[1]) > 500_000
    assert desk.status()["containerStatuses"][0]["image"] == image


async def test_a_private_registry_needs_the_pull_secret(desk: Site, private: DockerRegistry) -> None:
    image = f"{private.host}/demo/web:1"
    await desk.run(image, imagePullSecrets=[{"name": "door"}])
    await desk.until(lambda: desk.waits_for() in ("ErrImagePull", "ImagePullBackOff"))
    wrong = {".dockerconfigjson": base64.b64encode(docker_config(private.host, password="wrong")).decode()}
    right = {".dockerconfigjson": base64.b64encode(docker_config(private.host)).decode()}

    async def give(version: str, data: dict[str, str]) -> None:
        metadata = {"name": "door", "namespace": "default", "uid": "s", "resourceVersion": version}
        secret = {"kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "metadata": metadata, "data": data}
        await desk.objects.put("default/secret/door", secret)

    await give("1", wrong)
    await desk.until(lambda: desk.waits_for() == "ImagePullBackOff")
    assert "imagePullSecrets" in desk.state()["waiting"]["message"] and PASSWORD not in str(desk.outbox.entries())
    await give("2", right)
    await desk.until(lambda: "running" in desk.state())


async def test_credentials_of_the_node_serve_every_pod(desk: Site, private: DockerRegistry) -> None:
    (desk.directory / "registry.json").write_bytes(docker_config(private.host))
    await desk.run(f"{private.host}/demo/web:1")
    await desk.until(lambda: "running" in desk.state())


async def test_a_mirror_is_asked_first_and_its_image_is_known_by_the_first_name(
    tmp_path: Path, containerd: Containerd, registry: DockerRegistry
) -> None:
    async for desk in _site(Site(tmp_path / "edge", containerd, mirrors={"far.invalid": registry.host})):
        await desk.run("far.invalid/demo/web:1")
        await desk.until(lambda desk=desk: "running" in desk.state())  # type: ignore[misc]
        registry.stop()
        await desk.run("far.invalid/demo/web:1", name="two")
        await desk.until(lambda desk=desk: "running" in desk.state("two"))  # type: ignore[misc]


async def test_offline_a_present_image_is_not_asked_for(desk: Site, registry: DockerRegistry) -> None:
    image = f"{registry.host}/demo/web:1"
    await desk.run(image, policy="Always")
    await desk.until(lambda: "running" in desk.state())
    assert len(desk.messages("Pulling")) == 1
    desk.is_offline = True
    await desk.run(image, policy="Always", name="two")
    await desk.until(lambda: "running" in desk.state("two"))
    assert len(desk.messages("Pulling")) == 1 and "offline" in desk.messages("PullSkipped")[0]
    desk.is_offline = False
    registry.stop()
    await desk.run(image, policy="Always", name="three")
    await desk.until(lambda: "running" in desk.state("three"))
    assert len(desk.messages("PullSkipped")) == 2


async def test_never_is_never(desk: Site, registry: DockerRegistry) -> None:
    await desk.run(f"{registry.host}/demo/web:1", policy="Never")
    await desk.until(lambda: desk.waits_for() == "ErrImageNeverPull")
    assert desk.messages("Pulling") == []


async def test_only_unused_images_of_our_own_are_collected(desk: Site, registry: DockerRegistry) -> None:
    names = [f"{registry.host}/demo/{name}:1" for name in ("web", "unused", "known", "loaded")]
    for name in names[1:]:
        registry.push(name.partition("/")[2], busybox=busybox_program(), random_bytes=1000)
    ledger = ImageLedger(desk.objects, directory=desk.directory, clock=SystemClock())
    for name in names:
        await ledger.pulled(await desk.images.pull(name), name)
    add_loaded(desk.directory, [names[3]])
    await desk.run(names[0])
    await desk.until(lambda: "running" in desk.state())
    state = {"is_offline": True, "age_s": 3600.0}

    class Later(SystemClock):
        def now_s(self) -> float:
            return super().now_s() + state["age_s"]

    told: list[tuple[str, str]] = []

    async def tell(reason: str, message: str, *, warning: bool = False) -> bool:
        told.append((reason, message))
        return True

    collector = ImageCollector(
        desk.images, ledger=ledger, known=lambda: {names[2]}, is_offline=lambda: bool(state["is_offline"]),
        tell=tell, clock=Later(), high_percent=0, low_percent=0,
    )  # fmt: skip

    async def here() -> list[bool]:
        return [await desk.images.is_present(name) for name in [*names, BUSYBOX_IMAGE]]

    state["age_s"] = 0.0
    assert await collector.collect(1 << 50) == 0, "images that were pulled just now stay"
    state["age_s"] = 3600.0
    assert await collector.look() > 0
    assert [reason for reason, _ in told] == ["FreeDiskSpaceFailed"] and "unused images (freed " in told[0][1]
    await collector.look()
    assert len(told) == 1, "what stays wrong is not told at each look"
    state["age_s"] += 3600.0
    await collector.look()
    assert [reason for reason, _ in told] == ["FreeDiskSpaceFailed"] * 2
    assert await here() == [True, False, True, True, True]
    state["is_offline"] = False
    await collector.collect(1 << 50)
    assert await here() == [True, False, True, False, True]
    await desk.end()
    await collector.collect(1 << 50)
    assert await here() == [False, False, True, False, True]
    assert list(ImageLedger(desk.objects, directory=desk.directory, clock=SystemClock()).entries.values()) == [
        next(entry for entry in ledger.entries.values() if entry.name == names[2])
    ]


async def test_a_pull_that_was_cut_off_is_taken_up_again(desk: Site, registry: DockerRegistry) -> None:
    size = registry.push("demo/large:1", busybox=busybox_program(), random_bytes=24 << 20)
    carried = [0]
    limits = [size // 2]  # of the first connection that carries much

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", registry.port)
        await asyncio.gather(_pump(reader, there[1], None, carried), _pump(there[0], writer, limits, carried))

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await desk.run(f"127.0.0.1:{port}/demo/large:1")
        await desk.until(lambda: "running" in desk.state())
    assert limits == [], "the connection was never cut"
    assert carried[0] < size * 1.3, f"{carried[0]} bytes for an image of {size}"


async def test_a_pull_that_ended_with_the_agent_is_taken_up_by_the_next(
    tmp_path: Path, containerd: Containerd, registry: DockerRegistry
) -> None:
    size = registry.push("demo/slow:1", busybox=busybox_program(), random_bytes=24 << 20)
    carried, gate = [0], asyncio.Event()
    before = set(containerd.ctr("leases", "list", "--quiet").split())  # other images could not be had

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", registry.port)
        try:
            await race(_pump(reader, there[1], None, [0]), _held(there[0], writer, size // 2, gate, carried))
        finally:
            for each in (writer, there[1]):
                each.close()

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as server:
        image = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/demo/slow:1"
        first = Site(tmp_path / "edge", containerd)
        await first.roster.start()
        await first.run(image)
        await first.until(lambda: carried[0] >= size // 2)
        await first.close()
        gate.set()
        second = Site(tmp_path / "edge", containerd)
        await second.roster.start()
        await second.until(lambda: "running" in second.state())
        await second.end()
        await second.close()
    assert carried[0] < size * 1.3, f"{carried[0]} bytes for an image of {size}"
    assert set(containerd.ctr("leases", "list", "--quiet").split()) <= before


async def _held(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int, gate: asyncio.Event, carried: list[int]
) -> None:
    """Carry ``limit`` bytes in all, the others when the gate is open."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            if carried[0] >= limit:
                await gate.wait()
            writer.write(data)
            await writer.drain()
            carried[0] += len(data)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: list[int] | None, carried: list[int]
) -> None:
    own = 0
    while data := await reader.read(65536):
        own += len(data)
        if limits is not None:
            carried[0] += len(data)
        if limits and own > limits[0]:
            limits.clear()
            writer.transport.abort()
            return
        try:
            writer.write(data)
            await writer.drain()
        except ConnectionError:
            return
    writer.close()
