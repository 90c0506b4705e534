"""A killed agent loses nothing that it has acknowledged."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from skerry.base.aio.clock import SystemClock
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec

_WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from skerry.base.aio.clock import SystemClock
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec
from skerry.wire.kubeedge.envelope import Envelope

async def main():
    database = open_database(Path(sys.argv[1]))
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    outbox = EdgeOutbox(database, clock=SystemClock())
    for number in itertools.count():
        await objects.put(f"default/pod/p{number}", {"metadata": {"name": f"p{number}", "resourceVersion": "1"}})
        await outbox.leave(f"default/podpatch/p{number}", Envelope("", "edged", "meta", "patch", f"p{number}", "{}"))
        print(number, flush=True)

asyncio.run(main())
"""


async def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    for _ in range(40):
        await child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    rest = await child.stdout.read()
    await child.wait()
    acknowledged = 40 + rest.count(b"\n")
    database = open_database(tmp_path)
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    outbox = EdgeOutbox(database, clock=SystemClock())
    try:
        assert {f"default/pod/p{n}" for n in range(acknowledged)} <= set(objects.list("pod"))
        assert outbox.depth() >= acknowledged
    finally:
        database.close()


async def test_a_cancelled_caller_leaves_memory_and_disk_alike(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    key = "default/configmap/a"
    put = asyncio.ensure_future(objects.put(key, {"metadata": {"name": "a", "uid": "u", "resourceVersion": "5"}}))
    await asyncio.sleep(0)
    put.cancel()
    await asyncio.gather(put, return_exceptions=True)
    rows = database.read("SELECT rv FROM object WHERE key = ?", (key,))
    assert (objects.get(key) is not None) == bool(rows)
    older = objects.put(key, {"metadata": {"name": "a", "uid": "u", "resourceVersion": "6"}})
    newer = objects.put(key, {"metadata": {"name": "a", "uid": "u", "resourceVersion": "9"}})
    assert await asyncio.gather(newer, older) == [True, False]
    assert database.read("SELECT rv FROM object WHERE key = ?", (key,)) == [("9",)]
    database.close()
