"""Which devices of the node which container has: written down before the container is made, so that a reboot keeps it.

A row of the table ``allotment`` is one container's devices of one resource, with the plugin's answer as JSON.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from typing import Any

from skerry.base import json
from skerry.base.sqlite import Database
from skerry.base.values import Struct

TABLES = """
CREATE TABLE allotment (
    pod TEXT NOT NULL,
    container TEXT NOT NULL,
    resource TEXT NOT NULL,
    devices TEXT NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (pod, container, resource)
) WITHOUT ROWID;
"""


class Allotment(Struct, frozen=True):
    """Devices of one resource in one container.

    Args:
        pod: uid.
        devices: ids, as the plugin names them.
        answer: ContainerAllocateResponse of the plugin: envs, mounts, devices, annotations, cdi_devices.
    """

    pod: str
    container: str
    resource: str
    devices: tuple[str, ...]
    answer: dict[str, Any]


class Allotments:
    """Every allotment, in memory and on the disk."""

    def __init__(self, database: Database) -> None:
        self._database = database
        rows = database.read("SELECT pod, container, resource, devices, answer FROM allotment")
        self._held = {
            (pod, container, resource): Allotment(
                pod, container, resource, tuple(json.loads(devices)), json.loads(answer)
            )
            for pod, container, resource, devices, answer in rows
        }

    def of(self, pod: str, container: str) -> list[Allotment]:
        """What one container has, by name of the resource."""
        found = [each for each in self._held.values() if (each.pod, each.container) == (pod, container)]
        return sorted(found, key=lambda each: each.resource)

    def pods(self) -> set[str]:
        """Uids of all pods that have devices."""
        return {each.pod for each in self._held.values()}

    def resources(self) -> set[str]:
        """Names of all resources of which somebody has devices."""
        return {each.resource for each in self._held.values()}

    def taken(self, resource: str, *, by: Collection[str]) -> set[str]:
        """Ids of the devices of a resource that pods have, by uid."""
        held = (each for each in self._held.values() if each.resource == resource and each.pod in by)
        return {device for each in held for device in each.devices}

    async def add(self, found: Collection[Allotment]) -> None:
        """Keep allotments, all of them or none.

        Raises:
            StoreError: they could not be written; nothing changed.
        """
        rows = [
            (each.pod, each.container, each.resource, _text(list(each.devices)), _text(each.answer)) for each in found
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO allotment VALUES (?, ?, ?, ?, ?)", rows)

        await self._database.write(write)
        self._held |= {(each.pod, each.container, each.resource): each for each in found}

    async def forget(self, pods: Iterable[str]) -> None:
        """Free the devices of pods.

        Raises:
            StoreError: it could not be written; nothing changed.
        """
        gone = set(pods) & self.pods()
        if not gone:
            return
        rows = [(uid,) for uid in gone]
        await self._database.write(
            lambda connection: connection.executemany("DELETE FROM allotment WHERE pod = ?", rows)
        )
        self._held = {key: each for key, each in self._held.items() if each.pod not in gone}


def _text(value: Any) -> str:
    return json.dumps(value).decode()
