"""A power cut at any moment leaves everything that the agent's store has acknowledged."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from tests.crashfs import Recording, record

from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec

_SEED = 20_260
_ROUNDS = 30
_WORK = """
import asyncio, json, os, random, sys
from pathlib import Path
from skerry.base.aio.clock import SystemClock
from skerry.base.files import write_atomic
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec
from skerry.wire.kubeedge.envelope import Envelope

def tell(*what):
    os.write(1, (json.dumps(what) + "\\n").encode())

async def objects_of(objects, name, dice, rounds):
    key, is_there = f"default/pod/{name}", False
    for number in range(rounds):
        if is_there and dice.random() < 0.3:
            tell("try", key, None)
            await objects.delete(key)
            tell("done", key, None)
            is_there = False
            continue
        metadata = {"name": name, "uid": name, "resourceVersion": str(number + 1)}
        tell("try", key, str(number + 1))
        await objects.put(key, {"metadata": metadata, "data": "x" * dice.randint(10, 9000)})
        tell("done", key, str(number + 1))
        is_there = True

async def statuses_of(outbox, name, dice, rounds):
    key = f"default/podpatch/{name}"
    for number in range(rounds):
        tell("try", key, str(number))
        await outbox.leave(key, Envelope("", "edged", "meta", "patch", key, str(number)))
        tell("done", key, str(number))
        if dice.random() < 0.4:
            [entry] = [entry for entry in outbox.entries() if entry.key == key]
            tell("try", key, None)
            await outbox.settle(entry)
            tell("done", key, None)

async def main(directory, rounds, seed):
    dice = random.Random(seed)
    database = open_database(directory)
    await database.write(lambda connection: connection.execute("PRAGMA wal_autocheckpoint=60"))
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    outbox = EdgeOutbox(database, clock=SystemClock())
    work = [objects_of(objects, f"p{n}", random.Random(dice.random()), rounds) for n in range(3)]
    work += [statuses_of(outbox, f"p{n}", random.Random(dice.random()), rounds) for n in range(3)]
    for number in range(4):
        tell("try", "file", str(number))
        write_atomic(directory / "node.json", str(number).encode())
        tell("done", "file", str(number))
        await asyncio.gather(*work[:3]) if number == 1 else await asyncio.sleep(0)
    await asyncio.gather(*work[3:])
    database.close()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


def _recorded(directory: Path, *, rounds: int) -> Recording:
    return record([sys.executable, "-c", _WORK, str(directory), str(rounds), str(_SEED)], directory)


def _allowed(told: list[str]) -> dict[str, set[str | None]]:
    """By key: the values that may be found: the last that was acknowledged, and those that were begun after it."""
    allowed: dict[str, set[str | None]] = {}
    for line in told:
        what, key, value = json.loads(line)
        if what == "done":
            allowed[key] = {value}
        else:
            allowed.setdefault(key, {None}).add(value)
    return allowed


def _found(directory: Path) -> dict[str, str]:
    database = open_database(directory)
    try:
        objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
        outbox = EdgeOutbox(database, clock=SystemClock())
        found = {key: str(pod["metadata"]["resourceVersion"]) for key, pod in objects.list("pod").items()}
        found |= {entry.key: str(entry.envelope.content) for entry in outbox.entries(limit=1000)}
    finally:
        database.close()
    file = directory / "node.json"
    return found | ({"file": file.read_text()} if file.exists() else {})


def _check(recording: Recording, cuts: list[int], directory: Path) -> None:
    for number, cut in enumerate(cuts):
        place = directory / f"cut-{number}"
        recording.rebuild(cut, place, seed=_SEED + number)
        allowed, found = _allowed(recording.told(cut)), _found(place)
        wrong = {key: (found.get(key), values) for key, values in allowed.items() if found.get(key) not in values}
        assert not wrong, f"cut {cut} of {len(recording)}, seed {_SEED + number}: {wrong}"
        assert set(found) <= set(allowed)


def test_every_acknowledged_write_survives_a_cut(tmp_path: Path) -> None:
    recording = _recorded(tmp_path / "edge", rounds=_ROUNDS)
    assert recording.count("sync") > 30 and recording.count("rename") == 4
    assert recording.count("write", "edge.db") > 20, "the log was never written back into the database"
    _check(recording, random.Random(_SEED).sample(range(len(recording)), 40), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_acknowledged_write_survives_200_cuts_under_load(tmp_path: Path) -> None:
    recording = _recorded(tmp_path / "edge", rounds=150)
    _check(recording, random.Random(_SEED).sample(range(len(recording)), 200), tmp_path)
