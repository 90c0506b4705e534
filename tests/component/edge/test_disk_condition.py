"""What the Node says of a full disk: measured on a real file system, told with the three biggest consumers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skerry.api.config.edge import EdgeConfig
from skerry.api.gvk import Object
from skerry.app.edge_resources import ResourceParts
from skerry.app.runtimes import OpenRuntime
from skerry.base.aio.clock import SystemClock
from skerry.edge.images.collector import ImageCollector
from skerry.edge.images.ledger import ImageLedger
from skerry.edge.node.status import Vitals, conditions
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.rowcodec import SealingCodec
from skerry.runtime.process.engine import ProcessRuntime
from skerry.runtime.process.images import ProcessImages

MIB = 1 << 20


class NoPods:
    """A node without pods."""

    def pods(self) -> Sequence[Object]:
        return []

    def evict(self, uid: str, message: str) -> None:
        raise AssertionError("there is nobody to evict")


async def silence(reason: str, message: str, *, warning: bool = False) -> bool:
    return True


async def test_the_condition_names_the_three_biggest(tmp_path: Path) -> None:
    for name, size in (("pod-logs/default_web_u1/app/0.log", 6 * MIB), ("pods/u1/volumes/data/file", 4 * MIB)):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * size)
    clock = SystemClock()
    database = open_database(tmp_path)
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=clock)
    runtime, images = ProcessRuntime(tmp_path / "process"), ProcessImages()
    try:
        collector = ImageCollector(
            images, ledger=ImageLedger(objects, directory=tmp_path, clock=clock), known=set, is_offline=lambda: False,
            tell=silence, clock=clock, high_percent=85, low_percent=80,
        )  # fmt: skip
        parts = ResourceParts(
            EdgeConfig(data=tmp_path, eviction_hard={"nodefs.available": "100%"}),
            runtime=OpenRuntime("process", runtime, runtime, images), collector=collector, node=lambda: None,
            clock=clock,
        )  # fmt: skip
        await parts.watch(NoPods(), tell=silence).look()
        vitals = Vitals("192.0.2.1", "process://1", pressures=await parts.pressures())
    finally:
        await runtime.aclose()
        database.close()
    [told] = [c for c in conditions(vitals, "2026-01-01T00:00:00Z", {}) if c["type"] == "DiskPressure"]
    assert (told["status"], told["reason"]) == ("True", "EdgeHasDiskPressure")
    head, _, consumers = told["message"].partition("; biggest here: ")
    assert head.startswith("edge has disk pressure: nodefs.available is ") and ", below " in head
    assert consumers.startswith("container logs 6Mi, pod volumes 4Mi, store ")
