"""The pod network that the agent writes where an engine has none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.parts import Containerd, PartMissing

from skerry.api.gvk import Object
from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.edge.node.podnet import PodNetwork
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.network import Places, network_places

pytestmark = pytest.mark.timeout(90)


class Cloud:
    """Tells one Node."""

    def __init__(self, pod_cidr: str) -> None:
        self.node: Object = {"spec": {"podCIDR": pod_cidr} if pod_cidr else {}}

    async def ask(self, operation: str, resource: str, content: Any = None) -> Object:
        return self.node


def network(cloud: Cloud, places: Places | None, made: list[tuple[str, str]]) -> PodNetwork:
    async def told() -> Places | None:
        return places

    return PodNetwork(
        "edge-1", remote=cloud, places=told, made=lambda kind, name: made.append((kind, name)),  # type: ignore[arg-type]
        has_masquerade=False, clock=SystemClock(),
    )  # fmt: skip


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("bridge", "host-local", "portmap", "loopback"):
        (directory / name).touch()
    return directory


async def test_it_is_written_with_the_nodes_addresses_and_listed_before(tmp_path: Path, plugins: Path) -> None:
    made: list[tuple[str, str]] = []
    assert not await network(Cloud("10.244.7.0/24"), Places(True, tmp_path / "net.d", plugins), made).ensure()
    found = json.loads((tmp_path / "net.d/10-skerry.conflist").read_bytes())
    assert found["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.7.0/24"}]]
    assert made == [("file", str(tmp_path / "net.d/10-skerry.conflist")), ("bridge", "skerry0")]


async def test_nothing_is_written_without_need_addresses_or_plugins(tmp_path: Path, plugins: Path) -> None:
    made: list[tuple[str, str]] = []
    conf = tmp_path / "net.d"
    assert await network(Cloud("10.244.7.0/24"), Places(False, conf, plugins), made).ensure()
    assert not await network(Cloud(""), Places(True, conf, plugins), made).ensure()
    assert not await network(Cloud("10.244.7.0/24"), Places(True, conf, tmp_path), made).ensure()
    assert not await network(Cloud("10.244.7.0/24"), None, made).ensure()
    assert not conf.exists() and made == []


async def test_a_network_of_somebody_else_stays(tmp_path: Path, plugins: Path) -> None:
    conf = tmp_path / "net.d"
    conf.mkdir()
    (conf / "05-other.conflist").write_text("{}")
    await network(Cloud("10.244.7.0/24"), Places(True, conf, plugins), []).ensure()
    assert [path.name for path in conf.iterdir()] == ["05-other.conflist"]


@pytest.fixture
def bare() -> Iterator[Containerd]:
    try:
        engine = Containerd(has_network=False, has_images=False)
    except PartMissing as exc:
        pytest.skip(str(exc))
    engine.start()
    yield engine
    engine.close()


async def test_containerd_tells_its_places_and_takes_the_network(bare: Containerd) -> None:
    client = CriClient(bare.socket)
    try:
        places = await network_places(client)
        assert places == Places(True, bare.cni_directory, bare.plugin_directory)
        await network(Cloud("10.231.254.0/24"), places, []).ensure()
        while (places := await network_places(client)) is None or places.is_missing:
            await asyncio.sleep(0.2)
    finally:
        await client.aclose()
