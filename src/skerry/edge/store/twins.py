"""Rows of devices and twins. Every function takes the writer's connection, so that callers combine rows and reports
in one transaction.

Not here: what a twin becomes (``edge.devices.reduce``). Documents are JSON, so that a new member needs no migration.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from skerry.base import json

TABLES = """
CREATE TABLE device (
    id TEXT PRIMARY KEY,
    description TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT '',
    last_online TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE device_twin (
    device_id TEXT NOT NULL,
    name TEXT NOT NULL,
    document BLOB NOT NULL,
    PRIMARY KEY (device_id, name)
) WITHOUT ROWID;
CREATE TABLE device_mapper (
    name TEXT PRIMARY KEY,
    protocol TEXT NOT NULL,
    document BLOB NOT NULL
) WITHOUT ROWID;
"""
"""``device`` one row per device id, ``device_twin`` one per property, ``device_mapper`` one per registered mapper."""

SELECT_DEVICES = "SELECT id, description, state, last_online FROM device"
SELECT_TWINS = "SELECT device_id, name, document FROM device_twin"
SELECT_MAPPERS = "SELECT name, protocol, document FROM device_mapper"


def put_device(
    connection: sqlite3.Connection, device_id: str, *, description: str, state: str, last_online: str
) -> None:
    """Insert or replace a device's row."""
    connection.execute(
        "INSERT INTO device (id, description, state, last_online) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " description = excluded.description, state = excluded.state, last_online = excluded.last_online",
        (device_id, description, state, last_online),
    )


def put_twins(connection: sqlite3.Connection, device_id: str, twins: Mapping[str, Mapping[str, Any]]) -> None:
    """Insert or replace properties of a device."""
    connection.executemany(
        "INSERT INTO device_twin (device_id, name, document) VALUES (?, ?, ?)"
        " ON CONFLICT (device_id, name) DO UPDATE SET document = excluded.document",
        [(device_id, name, json.dumps(document)) for name, document in twins.items()],
    )


def delete_twins(connection: sqlite3.Connection, device_id: str, names: Iterable[str]) -> None:
    """Remove properties of a device."""
    connection.executemany(
        "DELETE FROM device_twin WHERE device_id = ? AND name = ?", [(device_id, name) for name in names]
    )


def delete_device(connection: sqlite3.Connection, device_id: str) -> None:
    """Remove a device and all its properties."""
    connection.execute("DELETE FROM device_twin WHERE device_id = ?", (device_id,))
    connection.execute("DELETE FROM device WHERE id = ?", (device_id,))


def put_mapper(connection: sqlite3.Connection, name: str, protocol: str, document: Mapping[str, Any]) -> None:
    """Insert or replace a registered mapper."""
    connection.execute(
        "INSERT INTO device_mapper (name, protocol, document) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET protocol = excluded.protocol, document = excluded.document",
        (name, protocol, json.dumps(document)),
    )
