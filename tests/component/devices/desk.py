"""A device duty on a database on disk, for tests: the agent's outbox, published documents in a list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.edge.devices.catalog import Catalog
from skerry.edge.devices.twins import TwinKeeper
from skerry.edge.store.db import open_database
from skerry.edge.store.outbox import EdgeOutbox
from skerry.wire.kubeedge import twin as docs
from skerry.wire.kubeedge.envelope import Envelope
from skerry.wire.kubeedge.twin import MsgTwin


class Outbox(EdgeOutbox):
    """The agent's outbox, with a view for tests."""

    def envelopes(self) -> dict[str, Envelope]:
        return {entry.key: entry.envelope for entry in self.entries()}

    async def settle_key(self, key: str) -> None:
        await self.settle(next(entry for entry in self.entries() if entry.key == key))

    def twin(self, device_id: str, name: str) -> MsgTwin | None:
        found = self.envelopes().get(docs.twin_resource(device_id))
        return None if found is None else docs.parse_twin_message(found.content).twin.get(name)


class Desk:
    """Catalog, keeper, outbox and what was published."""

    def __init__(self, path: Path, *, gather_s: float = 0.0, refresh_ms: int = 60_000) -> None:
        self.database = open_database(path)
        self.outbox = Outbox(self.database, clock=SystemClock())
        self.published: list[tuple[str, Any]] = []
        self.listeners: list[Callable[[str, bytes], None]] = []
        self.catalog = Catalog()
        self.keeper = TwinKeeper(
            store=self.database,
            outbox=self.outbox,
            node="edge-1",
            publish=self._publish,
            gather_s=gather_s,
            refresh_ms=refresh_ms,
        )
        self.keeper.start()
        self.keeper.follow(self.catalog)

    def _publish(self, topic: str, payload: bytes) -> None:
        self.published.append((topic, json.loads(payload)))
        for listener in self.listeners:
            listener(topic, payload)

    def topics(self) -> list[str]:
        return [topic for topic, _ in self.published]

    async def aclose(self) -> None:
        await self.keeper.aclose()
        self.database.close()


async def eventually(condition: Callable[[], bool], *, timeout_s: float = 8.0) -> None:
    """Wait until a condition of the outside world holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def model(*properties: dict[str, Any], name: str = "thermo", protocol: str = "modbus", **config: Any) -> dict[str, Any]:
    """A DeviceModel."""
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceModel",
        "metadata": {"name": name, "namespace": "default", "uid": f"m-{name}", "resourceVersion": "1"},
        "spec": {"protocol": protocol, "protocolConfigData": config, "properties": list(properties)},
    }


def device(
    *properties: dict[str, Any], name: str = "t1", protocol: str = "modbus", model: str = "thermo", **config: Any
) -> dict[str, Any]:
    """A Device bound to edge-1."""
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": name, "namespace": "default", "uid": f"d-{name}", "resourceVersion": "1"},
        "spec": {
            "deviceModelRef": {"name": model},
            "nodeName": "edge-1",
            "protocol": {"protocolName": protocol, "configData": config},
            "properties": list(properties),
        },
    }
