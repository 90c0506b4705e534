"""The pod network that the agent writes where an engine has none."""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.parts import BUSYBOX_IMAGE, Containerd, PartMissing

from skerry.api.gvk import NODES, PODS, Object
from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.edge.node.podnet import PodNetwork
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.network import Places, network_places
from skerry.runtime.network import BRIDGE, FILE_NAME
from skerry.testing.site import Site, site, until

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


_LEASES = Path("/var/lib/cni/networks/skerry")
_RANGE = "10.231.240.0/22"


@pytest.fixture
def apart() -> Iterator[Containerd]:
    """An engine in a network name space of its own, which has no pod network."""
    try:
        engine = Containerd(has_network=False, has_own_net=True)
    except PartMissing as exc:
        pytest.skip(str(exc))
    if _LEASES.exists() or Path(f"/sys/class/net/{BRIDGE}").exists():
        pytest.skip("this machine is a node with a pod network")
    engine.start()
    yield engine
    engine.close()
    shutil.rmtree(_LEASES, ignore_errors=True)


def pod(name: str, script: str) -> Object:
    container = {"name": "app", "image": BUSYBOX_IMAGE, "command": ["/bin/sh", "-c", script]}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": Site.node, "automountServiceAccountToken": False, "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1, "containers": [container],
        },
    }  # fmt: skip


async def in_phase(at: Site, name: str, phase: str) -> str:
    found = (await at.api.get(PODS, name, namespace="default")).get("status") or {}
    return "" if found.get("phase") == phase else f"{name} is {found}"


async def test_pods_speak_from_addresses_that_the_cloud_gave_the_node(tmp_path: Path, apart: Containerd) -> None:
    environment = {"SKERRY_CLOUD_POD_RANGE": _RANGE}
    async with site(tmp_path, runtime="cri", cri_socket=apart.socket, environment=environment) as at:
        given = ipaddress.ip_network((await at.api.get(NODES, Site.node))["spec"]["podCIDR"])
        assert given.subnet_of(ipaddress.ip_network(_RANGE))  # type: ignore[arg-type]
        conflist = apart.cni_directory / FILE_NAME
        ranges = json.loads(conflist.read_bytes())["plugins"][0]["ipam"]["ranges"]
        assert ranges == [[{"subnet": str(given)}]]

        await at.api.create(PODS, pod("server", "exec httpd -f -p 8080 -h /etc"), namespace="default")
        await until(lambda: in_phase(at, "server", "Running"), within_s=60)
        address = (await at.api.get(PODS, "server", namespace="default"))["status"]["podIP"]
        ask = f"until wget -q -O /dev/null http://{address}:8080/passwd; do sleep 0.2; done"
        await at.api.create(PODS, pod("client", ask), namespace="default")
        await until(lambda: in_phase(at, "client", "Succeeded"), within_s=60)
        client = (await at.api.get(PODS, "client", namespace="default"))["status"]["podIP"]
        assert {ipaddress.ip_address(text) in given for text in (address, client)} == {True} and address != client
        await at.reset()
        assert not conflist.exists()
