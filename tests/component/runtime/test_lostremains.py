"""What killed engines and plugins leave and note nowhere: it ends where it can be nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.component.runtime.sandboxes import bare_sandbox
from tests.parts import CONTAINERD_PACKAGES, ROOT, Containerd, PartMissing, unpack

from skerry.base.aio.clock import SystemClock
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.lostleases import LostLeases
from skerry.runtime.cri.lostnets import LostNetworks
from skerry.runtime.cri.lostrules import LostRules
from skerry.runtime.cri.lostshims import Owner
from skerry.runtime.cri.lostspaces import LostSpaces
from skerry.runtime.cri.netspaces import addresses_inside, mounted_in
from skerry.runtime.network import conflist
from skerry.runtime.ports import EngineError, SandboxSpec

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]


@dataclass
class Node:
    """A node on an engine that may be killed."""

    engine: Containerd
    client: CriClient
    runtime: CriRuntime
    uid: str
    directory: Path
    spaces: Path

    @property
    def leases(self) -> Path:
        return self.engine.directory / "ipam" / self.engine.bridge

    def mounted(self) -> set[Path]:
        return {space.place for space in mounted_in(self.spaces)}

    def links(self) -> set[str]:
        """The interfaces of pods that the bridge has."""
        return {path.name for path in Path(f"/sys/class/net/{self.engine.bridge}/brif").iterdir()}

    def addresses(self) -> set[str]:
        return {path.name for path in self.leases.glob("*.*.*.*")}

    def lost(self) -> LostSpaces:
        return LostSpaces(self.client, Owner(self.uid, logs=Path("/nowhere")), clock=SystemClock())

    def sandbox(self) -> SandboxSpec:
        return bare_sandbox(self.directory)

    def make_space(self, name: str = "") -> Path:
        """As the engine does."""
        place = self.spaces / (name or f"cni-{uuid.uuid4()}")
        place.touch()
        subprocess.run(["unshare", "--net", "mount", "--bind", "/proc/self/ns/net", str(place)], check=True)
        return place

    def join(self, space: Path, *, command: str = "ADD", sandbox: str = "") -> None:
        """What the engine has the bridge plugin do for a sandbox, without the note that comes afterwards."""
        whole = json.loads((self.engine.cni_directory / "10-test.conflist").read_text())
        request = {**whole["plugins"][0], "name": whole["name"], "cniVersion": whole["cniVersion"]}
        environment = {
            "PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_CONTAINERID": sandbox or uuid.uuid4().hex * 2,
            "CNI_NETNS": str(space), "CNI_IFNAME": "eth0", "CNI_PATH": str(self.engine.plugin_directory),
        }  # fmt: skip
        plugin = self.engine.plugin_directory / request["type"]
        subprocess.run([plugin], input=json.dumps(request), text=True, env=environment, check=True, capture_output=True)

    def leave_address(self) -> None:
        """As after a power cut, which no mount survives."""
        space = self.make_space()
        self.join(space)
        subprocess.run(["umount", str(space)], check=True)
        space.unlink()

    async def start(self) -> None:
        await asyncio.to_thread(self.engine.start)
        await _until(self._is_answering)

    async def _is_answering(self) -> bool:
        with contextlib.suppress(EngineError):
            await self.runtime.observe()
            return True
        return False


@contextlib.asynccontextmanager
async def node_on(engine: Containerd, directory: Path, *, spaces: Path | None = None) -> AsyncIterator[Node]:
    try:
        await asyncio.to_thread(engine.start)
        client, node_uid = CriClient(engine.socket), str(uuid.uuid4())
        runtime = CriRuntime(client, node_uid=node_uid)
        own = engine.directory / "state/io.containerd.grpc.v1.cri/netns"
        yield Node(engine, client, runtime, node_uid, directory, spaces or own)
        await runtime.aclose()
    finally:
        await asyncio.to_thread(engine.close)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    try:
        engine = Containerd()
    except PartMissing as exc:
        pytest.skip(str(exc))
    async with node_on(engine, tmp_path) as found:
        yield found


async def _until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while True:
            found = look()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


async def test_a_lost_sandbox_gives_back_all_that_the_plugins_made(node: Node) -> None:
    kept = node.sandbox()
    await node.runtime.create_sandbox(kept)
    before = mounted, links, addresses = node.mounted(), node.links(), node.addresses()
    assert len(mounted) == len(links) == len(addresses) == 1
    left = node.make_space()
    node.join(left)
    [address] = node.addresses() - addresses
    assert address in addresses_inside(left) and len(node.links()) == 2
    await asyncio.to_thread(node.engine.kill)
    await node.start()

    lost = node.lost()
    assert await lost.end() == 0  # seen for the first time
    assert await lost.end() == 1
    assert (node.mounted(), node.links(), node.addresses()) == before and not left.exists()
    [sandbox] = (await node.runtime.observe())[kept.uid].sandboxes
    assert sandbox.is_ready and len(LostNetworks(node.client).of(kept.uid)) == 2
    assert await lost.end() == 0


async def test_only_what_can_be_nobody_elses_ends(node: Node) -> None:
    await node.runtime.create_sandbox(node.sandbox())
    mounted = node.mounted()
    node.make_space()
    named, inhabited = node.make_space("blue"), node.make_space()
    inhabitant = await asyncio.create_subprocess_exec("nsenter", f"--net={inhabited}", "sleep", "600")
    try:
        await _until(lambda: Path(f"/proc/{inhabitant.pid}/comm").read_text().strip() == "sleep")
        await asyncio.to_thread(node.engine.kill)
        await node.start()
        young = node.make_space()
        tenant = CriRuntime(CriClient(node.engine.socket), node_uid=str(uuid.uuid4()))
        theirs = await tenant.create_sandbox(node.sandbox())
        shared = node.lost()
        assert await shared.end() == await shared.end() == 0  # another tenant has something on the engine
        await tenant.stop_sandbox(theirs)
        await tenant.remove_sandbox(theirs)
        await tenant.aclose()

        lost = node.lost()
        assert await lost.end() == 0  # seen for the first time
        assert await lost.end() == 1
        assert node.mounted() == mounted | {inhabited, young} and os.path.ismount(named)
        assert await lost.end() == 0
    finally:
        inhabitant.kill()
        await inhabitant.wait()
    assert await lost.end() == await lost.end() - 1 == 0
    assert node.mounted() == mounted | {young}


async def test_a_lost_lease_of_the_engines_is_deleted(node: Node) -> None:
    await node.runtime.create_sandbox(node.sandbox())
    old, young, own = uuid.uuid4().hex * 2, uuid.uuid4().hex * 2, "of-somebody"
    for name in (old, own):
        node.engine.ctr("leases", "create", "--id", name, "--expires", "0s")
    await asyncio.to_thread(node.engine.kill)
    await node.start()
    node.engine.ctr("leases", "create", "--id", young, "--expires", "0s")
    lost = LostLeases(node.client, Owner(node.uid, logs=Path("/nowhere")), clock=SystemClock())
    assert await lost.end() == 0  # seen for the first time
    assert await lost.end() == 1
    left = {line.split()[0] for line in node.engine.ctr("leases", "ls").splitlines()[1:]}
    assert {young, own} <= left and old not in left
    assert await lost.end() == 0


_ISLAND = """
grep ' - nsfs ' /proc/self/mountinfo | cut -d' ' -f5 | xargs -r umount -l || exit 1
mount -t tmpfs tmpfs /run/netns && mount -t tmpfs tmpfs /var/lib/cni && ip link set lo up || exit 1
"$@"; exit $?
"""


async def beside_others(directory: Path) -> dict[str, Any]:
    """What becomes of an engine's remains in the machine's place for name spaces, beside another engine and alone."""
    async with node_on(Containerd(has_own_spaces=False), directory, spaces=Path("/run/netns")) as node:
        await node.runtime.create_sandbox(node.sandbox())
        kept = {"mounted": len(node.mounted()), "addresses": len(node.addresses())}
        node.make_space()
        node.join(node.make_space())
        node.leave_address()
        await asyncio.to_thread(shutil.copy, "/bin/sleep", directory / "podman")
        foreign = [node.make_space(name) for name in ("blue", f"netns-{uuid.uuid4()}", str(uuid.uuid4()))]
        left = {"mounted": len(node.mounted()), "addresses": len(node.addresses())}
        await asyncio.to_thread(node.engine.kill)
        await node.start()
        other = await asyncio.create_subprocess_exec(str(directory / "podman"), "600")
        lost = node.lost()
        beside = [await lost.end(), await lost.end()]
        other.kill()
        await other.wait()
        alone = [await lost.end(), await lost.end()]
        end = {"mounted": len(node.mounted()), "addresses": len(node.addresses())}
        stay = [os.path.ismount(place) for place in foreign]
        return {"kept": kept, "left": left, "beside": beside, "alone": alone, "end": end, "foreign": stay}


def _on_an_island(name: str, directory: Path) -> dict[str, Any]:
    """What one of these functions gives in name spaces of its own: processes, mounts, network."""
    try:
        unpack(*CONTAINERD_PACKAGES, "iptables")  # inside there is no way to them
    except PartMissing as exc:
        pytest.skip(str(exc))
    for place in ("/run/netns", "/var/lib/cni"):
        Path(place).mkdir(parents=True, exist_ok=True)
    script = (
        f"import asyncio, json, pathlib, sys; from tests.component.runtime.test_lostremains import {name}; "
        f"print(json.dumps(asyncio.run({name}(pathlib.Path(sys.argv[1])))))"
    )
    inside = ["unshare", "-m", "-n", "-p", "-f", "--mount-proc", "sh", "-c", _ISLAND, "sh"]
    command = [*inside, sys.executable, "-c", script, str(directory)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=90)
    assert result.returncode == 0, result.stderr[-3000:]
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


async def half_deleted(directory: Path) -> dict[str, Any]:
    """What becomes of the rules of a sandbox whose plugin was killed between interface and rules."""
    engine = Containerd(has_iptables=True)
    network: Any = conflist(pod_cidr="10.244.7.0/24", bridge=engine.bridge)
    network["plugins"][0]["ipam"]["dataDir"] = str(engine.directory / "ipam")
    engine.cni_directory.mkdir()
    (engine.cni_directory / "10-test.conflist").write_text(json.dumps(network))
    os.environ["PATH"] = f"{engine.iptables_directory}:{os.environ['PATH']}"
    async with node_on(engine, directory) as node:
        sandboxes = [await node.runtime.create_sandbox(node.sandbox())]
        for _ in range(2):
            sandboxes.append(uuid.uuid4().hex * 2)
            space = node.make_space()
            node.join(space, sandbox=sandboxes[-1])
        inside = ["nsenter", f"--net={space}", "ip", "link", "delete", "eth0"]
        await asyncio.to_thread(subprocess.run, inside, check=True)
        node.join(space, command="DEL", sandbox=sandboxes[-1])

        def left() -> list[bool]:
            saved = subprocess.run(["iptables-save", "-t", "nat"], check=True, capture_output=True, text=True).stdout
            return [sandbox in saved for sandbox in sandboxes]

        before, lost = left(), LostRules(node.client, clock=SystemClock())
        ended = [await lost.end(), await lost.end(), await lost.end()]
        return {"before": before, "ended": ended, "after": left()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes name spaces of networks")
def test_the_machines_own_place_is_touched_only_where_no_other_engine_runs(tmp_path: Path) -> None:
    found = _on_an_island("beside_others", tmp_path)
    assert found["kept"] == found["end"] == {"mounted": 1, "addresses": 1}, found
    assert found["left"] == {"mounted": 3, "addresses": 3}
    assert found["beside"] == [0, 1]  # an address that no interface of the machine has is nobody's
    assert sum(found["alone"]) == 2
    assert found["foreign"] == [True, True, True]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes name spaces of networks")
def test_rules_that_a_killed_plugin_left_are_removed(tmp_path: Path) -> None:
    found = _on_an_island("half_deleted", tmp_path)
    assert found["before"] == [True, True, True]
    assert found["ended"] == [0, 1, 0]
    assert found["after"] == [True, True, False]  # one lives, one has an address and may be in the making
