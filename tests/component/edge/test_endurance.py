"""Pods and a node under random blows: nothing leaks, the store is sound, what the cloud sees is true.

Everything is in a network of its own, so that what is left of interfaces, rules and addresses is left by it alone.
Seeded; ``SKERRY_ENDURANCE=seed,pods,actions`` runs another one. A pod may end as Evicted only while the disk is full;
the storm puts another in its place as a controller would, and in the end every pod runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import re
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.parts import BUSYBOX_IMAGE, CONTAINERD_PACKAGES, Containerd, PartMissing, cgroups_named, unpack

from skerry.api.gvk import CONFIGMAPS, PODS, Object
from skerry.base import json
from skerry.runtime.cgroups import group_name
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.network import conflist
from skerry.runtime.ports import ContainerState, EngineError
from skerry.testing.site import Site, pod_state, site, until

pytestmark = pytest.mark.xdist_group("containerd")

_SEED = 7
_DISK_MIB = 600
_SETTLE_S = 5.0
_CLONE_NEWNET = 0x40000000
_NETWORK = """
ip link set lo up && ip link add uplink type bridge && ip addr add 192.0.2.10/24 dev uplink
ip link set uplink up && ip route add default via 192.0.2.1
"""
_RULE_OF_ONE = re.compile(r"CNI-(?:DN-)?[0-9a-f]{10,}")
"""Chains that are a single sandbox's, by a digest of its name."""
_LATE_S = 30.0
"""For so long after the disk is free again the node may still evict: it looks now and then, and a pressure settles."""


class Storm:
    """A site, its desired pods, and what can befall them."""

    def __init__(self, at: Site, engine: Containerd, dice: random.Random, *, pods: int) -> None:
        self.at = at
        self.engine = engine
        self.dice = dice
        self.names = [f"pod-{number}" for number in range(pods)]
        self.done: list[str] = []
        self.evicted = 0
        self._full: list[tuple[float, float]] = []
        self._serial = 0
        self._snapshots = self._engine_has("snapshots", "ls")

    async def begin(self) -> None:
        await self.at.api.create(CONFIGMAPS, {"metadata": {"name": "conf"}, "data": {"n": "0"}}, namespace="default")
        for name in self.names:
            await self.at.api.create(PODS, pod(name), namespace="default")
        await until(self.complaint, within_s=60 + 3 * len(self.names))
        kinds = [self._shims(), self._network(), self._rules(), self._cgroups(), self._kept()]
        assert all(kinds), kinds  # what the end must have none of is seen now

    async def act(self) -> None:
        actions: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "edit": (4, self._edit), "replace": (5, self._replace), "kill container": (5, self._kill_container),
            "kill agent": (2, self._kill_agent), "restart engine": (2, self._restart_engine),
            "cut link": (2, self._cut),
            "fill disk": (1, self._fill),
        }  # fmt: skip
        [name] = self.dice.choices(list(actions), [weight for weight, _ in actions.values()])
        self.done.append(name)
        await actions[name][1]()
        await self._replace_evicted()
        await asyncio.sleep(self.dice.random() * 0.5)

    async def _edit(self) -> None:
        self._serial += 1
        if self.dice.random() < 0.5:
            await self.at.api.patch(CONFIGMAPS, "conf", {"data": {"n": str(self._serial)}}, namespace="default")
        else:
            patch = {"metadata": {"labels": {"n": str(self._serial)}}}
            await self.at.api.patch(PODS, self.dice.choice(self.names), patch, namespace="default")

    async def _replace(self) -> None:
        await self._put_another(self.dice.choice(self.names))

    async def _replace_evicted(self) -> None:
        """Put others in the place of pods that fell to a full disk.

        Raises:
            AssertionError: the disk was not full when one of them was evicted.
        """
        for found in (await self.at.api.list(PODS, namespace="default")).items:
            if not _is_evicted(found) or found["metadata"]["name"] not in self.names:
                continue
            at_s = _evicted_at_s(found)
            why = f"{found['metadata']['name']} was evicted at {at_s:.0f}, the disk was full in {self._full}"
            assert any(begin_s - 1 <= at_s <= end_s + _LATE_S for begin_s, end_s in self._full), (why, found["status"])
            self.evicted += 1
            await self._put_another(found["metadata"]["name"])

    async def _put_another(self, old: str) -> None:
        self._serial += 1
        await self.at.api.delete(PODS, old, namespace="default")
        new = f"pod-{self._serial + 1000}"
        await self.at.api.create(PODS, pod(new), namespace="default")
        self.names = [name for name in self.names if name != old] + [new]

    async def _kill_container(self) -> None:
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            tasks = [line.split() for line in self.engine.ctr("tasks", "ls").splitlines()[1:]]
            running = [words[0] for words in tasks if words[-1] == "RUNNING"]
            if running:  # perhaps a sandbox: also a blow
                await asyncio.to_thread(self.engine.ctr, "tasks", "kill", "-s", "KILL", self.dice.choice(running))

    async def _kill_agent(self) -> None:
        await self.at.agent.kill()
        await asyncio.sleep(self.dice.random())
        await self.at.agent.start()

    async def _restart_engine(self) -> None:
        await asyncio.to_thread(self.engine.kill)
        await asyncio.sleep(self.dice.random() * 2)
        await asyncio.to_thread(self.engine.start)

    async def _cut(self) -> None:
        self.at.cut(silently=self.dice.random() < 0.3)
        await asyncio.sleep(self.dice.random() * 3)
        self.at.mend()

    async def _fill(self) -> None:
        filler = self.at.edge_data / "filler"
        began_s = time.time()
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        await asyncio.sleep(self.dice.choice((1, 12)))  # not seen by the node, or seen
        filler.unlink()
        self._full.append((began_s, time.time()))

    async def complaint(self) -> str:
        """What is not as it is desired, in cluster or engine."""
        await self._replace_evicted()
        pods = {p["metadata"]["name"]: p for p in (await self.at.api.list(PODS, namespace="default")).items}
        wrong = sorted(set(pods) ^ set(self.names)) or [pod_state(p) for p in pods.values() if not _is_ready(p)]
        if wrong:
            return f"{wrong} are not as desired"
        try:
            running = await self.running()
        except EngineError as exc:
            return str(exc)
        told = {name: _container_id(p) for name, p in pods.items()}
        return "" if running == told else f"the cluster believes {told}, the engine runs {running}"

    async def running(self) -> dict[str, str]:
        """Id of the running container by pod; two of one pod are an error."""
        runtime = CriRuntime(CriClient(self.engine.socket), node_uid=str(self.at.joined()["nodeUid"]))
        try:
            found: dict[str, str] = {}
            for seen in (await runtime.observe()).values():
                for container in seen.containers:
                    if container.state is ContainerState.RUNNING:
                        assert seen.name not in found, f"{seen.name} runs twice"
                        found[seen.name] = container.id
            return found
        finally:
            await runtime.aclose()

    async def end(self) -> None:
        for name in self.names:
            await self.at.api.delete(PODS, name, namespace="default")
        await until(self.left, within_s=180 + 3 * len(self.names))  # the node looks for what is lost once a minute

    def _cgroups(self) -> list[Path]:
        """Of pods, in every tree: this node's own groups hold nothing else."""
        own = cgroups_named(group_name(self.at.joined()["nodeUid"]))
        return [path for place in own for path in place.glob("*/") if path.is_dir()]

    def _network(self) -> list[str]:
        """Addresses, interfaces and rules of sandboxes that were not given back, and what was noted of them."""
        found = [str(path) for path in (self.engine.directory / "ipam").glob("*/[0-9]*.*")]
        links = [line.split(":")[0].strip() for line in Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]]
        found += [name for name in links if name.startswith("veth")]
        notes = Path("/var/lib/cni/results")
        found += [str(path) for path in notes.glob("*") if self.engine.directory.name in _text(path)]
        return found or self._rules()  # as long as there are others there are these, too

    def _rules(self) -> list[str]:
        """Those that are a single sandbox's."""
        command = [str(self.engine.iptables_directory / "iptables-save"), "-t", "nat"]
        told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        return [line for line in told.splitlines() if _RULE_OF_ONE.search(line)]

    def _engine_has(self, *what: str) -> set[str]:
        """The first words of a list of the engine's."""
        return {line.split()[0] for line in self.engine.ctr(*what).splitlines()[1:]}

    def _kept(self) -> list[str]:
        """What the engine still has for pods and pulls.

        A creation that is broken off may keep a snapshot by a lease of the engine's, for a day.
        """
        leases = [line.split() for line in self.engine.ctr("leases", "ls").splitlines()[1:]]
        brief = [words for words in leases if words[-1].startswith("containerd.io/gc.expire=")]
        snapshots = self._engine_has("snapshots", "ls") - self._snapshots
        found = [f"task {name}" for name in self._engine_has("tasks", "ls")]
        found += [f"lease {words[0]}" for words in leases if words not in brief or words[0].startswith("skerry-")]
        return found + [f"snapshot {name}" for name in sorted(snapshots)[len(brief) :]]

    def _shims(self) -> list[str]:
        """The engine's supervisors that still run, each named by its command line."""
        lines = [_command_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        return [line for line in lines if "containerd-shim" in line and str(self.engine.socket) in line]

    def cured(self) -> dict[str, int]:
        """What the agent ended because a killed engine had lost it: how often, by the event of its log."""
        log = (self.at.edge_data.parent / "logs/edge.log").read_text(errors="replace")
        return dict(Counter(re.findall(r"engine\.lost_\w+", log)))

    async def left(self) -> str:
        """What is left of pods after their end."""
        found: list[str] = [p["metadata"]["name"] for p in (await self.at.api.list(PODS, namespace="default")).items]
        found += self.engine.ctr("containers", "ls", "-q").split()
        found += [str(path) for place in ("pods", "pod-logs") for path in (self.at.edge_data / place).glob("*")]
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if _is_pod_mount(line, self)]
        found += [str(path) for path in self._cgroups()]
        found += self._shims() or self._network()
        found += stored_pods(self.at.edge_data)
        status = json.loads((self.at.edge_data / "status.json").read_bytes())
        found += [f"{status['waiting']} reports wait"] if status["waiting"] else []
        found = found or self._kept()
        return f"left: {found[:5]}" if found else ""


def stored_pods(edge_data: Path) -> list[str]:
    """Pods that the node still has in its store, also while its agent runs."""
    with contextlib.closing(sqlite3.connect(f"file:{edge_data}/edge.db?mode=ro", uri=True)) as connection:
        return [f"{key} in the store" for (key,) in connection.execute("SELECT key FROM object WHERE type = 'pod'")]


def _command_line(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


def _is_pod_mount(line: str, storm: Storm) -> bool:
    return line.split()[1].startswith((f"{storm.engine.directory}/state/", f"{storm.at.edge_data}/"))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it is gone meanwhile
        return ""


def _is_ready(found: Object) -> bool:
    status = found.get("status") or {}
    containers = status.get("containerStatuses") or [{}]
    is_going = bool(found["metadata"].get("deletionTimestamp"))
    return status.get("phase") == "Running" and bool(containers[0].get("ready")) and not is_going


def _is_evicted(found: Object) -> bool:
    status = found.get("status") or {}
    return (status.get("phase"), status.get("reason")) == ("Failed", "Evicted")


def _evicted_at_s(found: Object) -> float:
    [told] = [c for c in found["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    return datetime.fromisoformat(told["lastTransitionTime"]).timestamp()


def _container_id(found: Object) -> str:
    return str(found["status"]["containerStatuses"][0]["containerID"]).partition("://")[2]


def pod(name: str) -> Object:
    """Every third one has a port of the node."""
    number = int(name.removeprefix("pod-"))
    ports = [{"containerPort": 80, "hostPort": 20000 + number}] if number % 3 == 0 else []
    script = "trap 'exit 0' TERM; while true; do echo tick; sleep 0.5; done"
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "app",
                    "image": BUSYBOX_IMAGE,
                    "command": ["/bin/sh", "-c", script],
                    "ports": ports,
                    "volumeMounts": [{"name": "conf", "mountPath": "/conf"}, {"name": "fast", "mountPath": "/fast"}],
                }
            ],
            "volumes": [
                {"name": "conf", "configMap": {"name": "conf"}},
                {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
        },
    }


@pytest.fixture
def packages() -> None:
    """What the engine needs is fetched while there is a network."""
    try:
        unpack(*CONTAINERD_PACKAGES, "iptables")
    except PartMissing as exc:
        pytest.skip(str(exc))


@pytest.fixture
def own_network(packages: None) -> Iterator[None]:
    """A network name space for this thread and what it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as before:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"no network name space of its own here: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["sh", "-c", _NETWORK], check=True)
            yield
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0


@pytest.fixture
async def engine(own_network: None) -> AsyncIterator[Containerd]:
    """A container engine of the test's own, with the network that a node without one gets, but for its notes."""
    try:
        engine = Containerd(has_iptables=True)
    except PartMissing as exc:
        pytest.skip(str(exc))
    network: Any = conflist(pod_cidr="10.244.7.0/24", bridge=engine.bridge)
    network["plugins"][0]["ipam"]["dataDir"] = str(engine.directory / "ipam")
    engine.cni_directory.mkdir()
    (engine.cni_directory / "10-test.conflist").write_bytes(json.dumps(network))
    try:
        await asyncio.to_thread(engine.start)
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


@contextlib.contextmanager
def small_disk(place: Path) -> Any:
    """A file system of its own that can be filled."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def _storm(directory: Path, engine: Containerd, *, seed: int, pods: int, actions: int) -> None:
    with small_disk(directory / "site/edge"):
        environment = {
            "SKERRY_EDGE_EVICTION_SETTLE_S": str(_SETTLE_S),
            "PATH": f"{engine.iptables_directory}:{os.environ['PATH']}",  # for the network's plugins
        }
        async with site(directory / "site", runtime="cri", cri_socket=engine.socket, environment=environment) as at:
            storm = Storm(at, engine, random.Random(seed), pods=pods)
            await storm.begin()
            try:
                for _ in range(actions):
                    await storm.act()
                await until(storm.complaint, within_s=180 + 5 * pods)
                await storm.end()
            except AssertionError as exc:
                shutil.copy(engine.directory / "log", directory / "engine.log")
                (directory / "storm.txt").write_text(f"seed {seed}: {exc}\n")
                raise AssertionError(f"seed {seed}, after {storm.done}: {exc}") from exc
            told = f"seed {seed}: {pods} pods, {dict(Counter(storm.done))}, {storm.evicted} evicted and replaced, "
            told += f"lost by the engine and cleaned up: {storm.cured()}\n"
            (directory / "storm.txt").write_text(told)
            _check_process(at.agent.pid)
            await at.agent.stop()
            assert stored_pods(at.edge_data) == []
            with contextlib.closing(sqlite3.connect(at.edge_data / "edge.db")) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            groups = group_name(at.joined()["nodeUid"])
            await at.reset()
            assert cgroups_named(groups) == []


def _check_process(pid: int) -> None:
    """The agent holds no more files and threads than one that has just begun: some sockets, a store, a log."""
    files = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    assert len(files) < 40, files
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) < 12


@pytest.mark.timeout(400)
async def test_a_node_under_random_blows(tmp_path: Path, engine: Containerd) -> None:
    await _storm(tmp_path, engine, seed=_SEED, pods=5, actions=20)


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_a_node_under_many_random_blows(tmp_path: Path, engine: Containerd) -> None:
    seed, pods, actions = map(int, os.environ.get("SKERRY_ENDURANCE", f"{_SEED},30,200").split(","))
    await _storm(tmp_path, engine, seed=seed, pods=pods, actions=actions)
