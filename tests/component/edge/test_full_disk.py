"""A disk that is full: what goes on, what is given up, and that nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.base.aio.clock import SystemClock
from skerry.base.errors import StoreError
from skerry.edge.resources.budget import DiskBudget, remove_old_logs
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.store.space import StoreSpace
from skerry.wire.kubeedge.envelope import Envelope

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def pod(number: int) -> dict[str, Any]:
    return {"metadata": {"name": f"p{number}", "uid": f"u{number}", "resourceVersion": "1"}, "data": "x" * 20_000}


def envelope() -> Envelope:
    return Envelope("", "edged", "meta", "patch", "default/podpatch/a", "{}")


async def test_the_store_writes_from_its_reserve_while_events_wait(disk: Path) -> None:
    space = StoreSpace(disk, clock=SystemClock(), size_bytes=4 << 20)
    assert space.hold() and not space.is_tight()
    database = open_database(disk, relieve=space.give_up)
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    outbox = EdgeOutbox(database, clock=SystemClock(), is_tight=space.is_tight)
    await outbox.leave("event-1", envelope(), is_sequence=True)
    filler = fill(disk)
    assert space.is_tight()
    await outbox.leave("event-2", envelope(), is_sequence=True)
    assert [entry.key for entry in outbox.entries()] == ["event-1"] and outbox.dropped == 1
    number = 0
    with pytest.raises(StoreError, match="disk"):
        for number in range(1000):
            await objects.put(f"default/pod/p{number}", pod(number))
    assert number > 50 and not space.is_held, "the reserve was not used"
    assert objects.get(f"default/pod/p{number}") is None and objects.get(f"default/pod/p{number - 1}") is not None
    filler.unlink()
    await objects.put(f"default/pod/p{number}", pod(number))
    assert space.hold() and not space.is_tight()
    database.close()
    again = open_database(disk)
    stored = EdgeObjects(again, codec=SealingCodec(bytes(32)), clock=SystemClock()).list("pod")
    assert set(stored) == {f"default/pod/p{n}" for n in range(number + 1)}
    again.close()


def test_no_reserve_is_taken_from_a_disk_that_is_nearly_full(disk: Path) -> None:
    fill(disk)
    space = StoreSpace(disk, clock=SystemClock(), size_bytes=4 << 20)
    assert not space.hold() and not space.is_held and space.is_tight()
    assert not space.give_up()


def test_logs_over_the_budget_go_oldest_first_and_the_newest_of_a_container_never(tmp_path: Path) -> None:
    def write(name: str, size: int, changed_s: int) -> None:
        path = tmp_path / "pod-logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        os.utime(path, (changed_s, changed_s))

    write("default_a_u1/app/0.log", 100, 10)
    write("default_a_u1/app/1.log.1", 100, 20)
    write("default_a_u1/app/1.log", 100, 1)
    write("default_b_u2/app/0.log", 100, 1)
    budget = DiskBudget(tmp_path, limit_bytes=320, clock=SystemClock())
    assert budget.keep() == 1
    left = sorted(str(path.relative_to(tmp_path / "pod-logs")) for path in tmp_path.rglob("*.log*") if path.is_file())
    assert left == ["default_a_u1/app/1.log", "default_a_u1/app/1.log.1", "default_b_u2/app/0.log"]
    assert DiskBudget(tmp_path, limit_bytes=0, clock=SystemClock()).keep() == 1
    assert budget.keep() == 0


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[Path]:
    """A small disk of blocks, on which a file that grows needs one."""
    image, place = tmp_path / "image", tmp_path / "blocks"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("has_room", [True, False])
async def test_the_store_opens_on_a_full_disk(blocks: Path, has_room: bool) -> None:
    database = open_database(blocks)
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    await objects.put("default/pod/p1", pod(1))
    database.close()
    filler = fill(blocks)
    asked: list[str] = []

    def relieve() -> bool:
        asked.append("room")
        if has_room and filler.exists():
            filler.unlink()
            return True
        return False

    again = open_database(blocks, relieve=relieve)
    assert asked, "the disk was not full"
    stored = EdgeObjects(again, codec=SealingCodec(bytes(32)), clock=SystemClock())
    assert stored.get("default/pod/p1") == pod(1)
    if not has_room:
        with pytest.raises(StoreError, match="disk"):
            await stored.put("default/pod/p2", pod(2))
        assert stored.get("default/pod/p2") is None
        filler.unlink()
    assert await stored.put("default/pod/p2", pod(2))
    again.close()


def test_old_logs_make_room_and_the_newest_stay(tmp_path: Path) -> None:
    place = tmp_path / "pod-logs/a_b_c/app"
    place.mkdir(parents=True)
    for age, name in enumerate(("1.log", "1.log.1", "1.log.2", "0.log")):
        (place / name).write_bytes(bytes(1000))
        os.utime(place / name, (1_000_000 - age, 1_000_000 - age))
    assert remove_old_logs(tmp_path, of_bytes=1500) == 2000
    assert sorted(path.name for path in place.iterdir()) == ["1.log", "1.log.1"]
    assert remove_old_logs(tmp_path, of_bytes=1500) == 1000
    assert remove_old_logs(tmp_path, of_bytes=1500) == 0
