"""The cluster's store under kills, power cuts and a full disk: what was acknowledged stays, in the order it had."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.crashfs import Recording, record

from skerry.apiserver.store.log import Key
from skerry.apiserver.store.objects import ObjectStore
from skerry.apiserver.store.watch import TooOld
from skerry.base.aio.clock import SystemClock
from skerry.base.errors import StoreError

_SEED = 20_261
_WORK = """
import asyncio, json, os, random, sys
from pathlib import Path
from skerry.apiserver.store.log import Key
from skerry.apiserver.store.objects import ObjectStore
from skerry.base.aio.clock import SystemClock

def tell(*what):
    os.write(1, (json.dumps(what) + "\\n").encode())

async def lane(store, name, dice, rounds):
    key = Key("events" if name[0] == "e" else "configmaps", "a", name)
    for number in range(rounds):
        entry = store.get(key)
        if entry is not None and dice.random() < 0.25:
            tell("try", name, None, 0)
            gone = await store.delete(key, entry.content(), expect_rv=entry.rv)
            tell("done", name, None, gone.rv)
            continue
        value = f"{os.getpid()}-{number}-" + "x" * dice.randint(10, 6000)
        content = {"metadata": {"name": name, "uid": name}, "data": {"v": value}}
        tell("try", name, value, 0)
        if entry is None:
            entry = await store.create(key, content)
        else:
            entry = await store.update(key, content, expect_rv=entry.rv)
        tell("done", name, value, entry.rv)
        if dice.random() < 0.02:
            await store.compact(older_than_s=-10, keep=40)

async def main(path, rounds, seed, lanes):
    dice = random.Random(seed)
    store = ObjectStore(path, clock=SystemClock())
    await store._log.database.write(lambda connection: connection.execute("PRAGMA wal_autocheckpoint=60"))
    names = [f"{kind}{number}" for number, kind in enumerate(lanes)]
    await asyncio.gather(*(lane(store, name, random.Random(dice.random()), rounds) for name in names))
    await store.aclose()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
"""


@dataclass
class Told:
    """What a writer said: values that may be found by name, and every acknowledged change by its revision."""

    allowed: dict[str, set[str | None]] = field(default_factory=dict)
    changes: dict[int, tuple[str, str | None]] = field(default_factory=dict)

    def add(self, lines: Sequence[str]) -> None:
        for line in lines:
            what, name, value, rv = json.loads(line)
            if what == "done":
                assert rv not in self.changes, f"revision {rv} was given out twice"
                if not is_late(name):
                    self.allowed[name] = {value}
                self.changes[rv] = (name, value)
            else:
                self.allowed.setdefault(name, {None}).add(value)

    def settle(self, store: ObjectStore) -> None:
        """After a check: what was found is what may be found from now on."""
        self.allowed = {name: {value_of(store, name)} for name in self.allowed}

    def state(self, rv: int, *, late: bool) -> dict[str, str]:
        """What a watcher of the late objects, or of the others, held that had seen everything up to ``rv``."""
        held: dict[str, str] = {}
        for at in sorted(at for at in self.changes if at <= rv):
            name, value = self.changes[at]
            if is_late(name) is not late:
                continue
            held.pop(name, None)
            if value is not None:
                held[name] = value
        return held


def is_late(name: str) -> bool:
    """Whether a power cut may take the last changes of this object back."""
    return name.startswith("e")


def value_of(store: ObjectStore, name: str) -> str | None:
    entry = store.get(Key("events" if is_late(name) else "configmaps", "a", name))
    return None if entry is None else str(entry.content()["data"]["v"])


async def check(path: Path, told: Told, dice: random.Random, *, has_all: bool) -> None:
    """The store in ``path`` keeps its promises.

    Args:
        has_all: every revision in the store was told, so that watchers can be replayed from any of them.
    """
    store = ObjectStore(path, clock=SystemClock())
    try:
        for name, values in told.allowed.items():
            assert value_of(store, name) in values, name
        newest = max(told.changes, default=0)
        assert store.rv >= newest
        if has_all and told.changes:
            resume(store, told, dice, late=False)
            resume(store, told, dice, late=True)
        entry = await store.create(Key("secrets", "a", "probe"), {"metadata": {"name": "probe", "uid": "probe"}})
        assert entry.rv > newest
        await store.delete(entry.key, entry.content(), expect_rv=entry.rv)
        told.settle(store)
    finally:
        await store.aclose()


def resume(store: ObjectStore, told: Told, dice: random.Random, *, late: bool) -> None:
    """A watcher that comes back at a revision it has seen sees each later change once, or is told to list again."""
    collection = store.collection("events" if late else "configmaps")
    seen = sorted(rv for rv, (name, _) in told.changes.items() if is_late(name) is late)
    if not seen:
        return
    start = dice.choice(seen)
    try:
        events = collection.since(start)
    except TooOld as exc:
        assert start < exc.floor_rv
        return
    revisions = [event.entry.rv for event in events]
    assert revisions == sorted(set(revisions))
    assert all(rv > start for rv in revisions)
    assert {rv for rv in seen if rv > start} <= set(revisions)
    held = told.state(start, late=late)
    for event in events:
        name = event.entry.key.name
        held.pop(name, None)
        if event.op != "DELETED":
            held[name] = str(event.entry.content()["data"]["v"])
    assert held == {entry.key.name: str(entry.content()["data"]["v"]) for entry in collection.entries()}


async def check_cuts(recording: Recording, cuts: Sequence[int], directory: Path) -> None:
    for number, cut in enumerate(cuts):
        place = directory / f"cut-{number}"
        recording.rebuild(cut, place, seed=_SEED + number)
        told = Told()
        told.add(recording.told(cut))
        await check(place / "db", told, random.Random(_SEED + number), has_all=True)


def recorded(directory: Path, *, rounds: int, lanes: str = "nnnnnn") -> Recording:
    directory.mkdir()
    return record([sys.executable, "-c", _WORK, str(directory / "db"), str(rounds), str(_SEED), lanes], directory)


@pytest.mark.timeout(60)
async def test_every_acknowledged_write_survives_a_power_cut(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "cloud", rounds=25)
    assert recording.count("sync") > 30
    assert recording.count("write", "db") > 20, "the log was never written back into the database"
    await check_cuts(recording, random.Random(_SEED).sample(range(len(recording)), 30), tmp_path)


@pytest.mark.timeout(60)
async def test_late_writes_need_few_syncs_and_take_nothing_else_with_them(tmp_path: Path) -> None:
    late = recorded(tmp_path / "late", rounds=25, lanes="eeeeee")
    assert len(late.told(len(late))) > 200
    assert late.count("sync", "db-wal") <= 30, "150 late writes waited for the disk"
    mixed = recorded(tmp_path / "mixed", rounds=25, lanes="neenee")
    for recording, place in ((late, "a"), (mixed, "b")):
        (tmp_path / place).mkdir()
        await check_cuts(recording, random.Random(_SEED).sample(range(len(recording)), 15), tmp_path / place)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_late_writes_in_200_power_cuts(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "cloud", rounds=150, lanes="neenee")
    await check_cuts(recording, random.Random(_SEED).sample(range(len(recording)), 200), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_every_acknowledged_write_survives_200_power_cuts(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "cloud", rounds=150)
    await check_cuts(recording, random.Random(_SEED).sample(range(len(recording)), 200), tmp_path)


async def kill_rounds(path: Path, rounds: int) -> None:
    """SIGKILL at a random moment of the same store's life, again and again."""
    dice, told = random.Random(_SEED), Told()
    for number in range(rounds):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WORK, str(path), "1000000", str(number), "nnnnne", stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(dice.randint(20, 200))]
        os.kill(process.pid, signal.SIGKILL)
        lines += (await process.stdout.read()).splitlines(keepends=True)
        await process.wait()
        told.add([line.decode() for line in lines if line.endswith(b"\n")])
        await check(path, told, dice, has_all=number == 0)


@pytest.mark.timeout(60)
async def test_every_acknowledged_write_survives_kills(tmp_path: Path) -> None:
    await kill_rounds(tmp_path / "db", 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_every_acknowledged_write_survives_200_kills(tmp_path: Path) -> None:
    await kill_rounds(tmp_path / "db", 200)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a disk of its own needs root")
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"this machine mounts nothing: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)


async def test_a_full_disk_loses_nothing_and_is_named(small_disk: Path) -> None:
    store = ObjectStore(small_disk / "db", clock=SystemClock())
    kept: dict[str, int] = {}
    with pytest.raises(StoreError) as failure:
        for number in range(10_000):
            content = {"metadata": {"name": f"n{number}", "uid": "u"}, "data": {"v": "x" * 4000}}
            entry = await store.create(Key("configmaps", "a", f"n{number}"), content)
            kept[entry.key.name] = entry.rv
    assert len(kept) > 100
    assert "disk space" in failure.value.hint
    assert all(store.get(Key("configmaps", "a", name)) for name in kept)
    grow(small_disk)
    later = await store.create(Key("configmaps", "a", "later"), {"metadata": {"name": "later", "uid": "u"}})
    assert later.rv > max(kept.values())
    await store.aclose()
    again = ObjectStore(small_disk / "db", clock=SystemClock())
    found = {entry.key.name: entry.rv for entry in again.collection("configmaps").entries()}
    await again.aclose()
    assert found == {**kept, "later": later.rv}
