"""What a node tells of what it holds."""

from __future__ import annotations

from pathlib import Path

from skerry.base.aio.clock import SystemClock
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.sync.holdings import Holdings


async def test_what_the_node_asked_for_by_itself_is_not_told_so_that_it_stays(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
    told, kept = "default/configmap/c", ["persistentvolumeclaim/c", "persistentvolume/v", "runtimeclass/r"]
    for key in (told, *(f"default/{each}" for each in kept)):
        name = key.rpartition("/")[2]
        await objects.put(key, {"metadata": {"name": name, "uid": name, "resourceVersion": "7"}})
    greeting = await Holdings(objects).greet("cluster/1")
    assert greeting is not None and greeting.content == {told: ["c", "7"]}
    assert await Holdings(objects).greet("") is None, "a Go cloud is told nothing"
    database.close()
