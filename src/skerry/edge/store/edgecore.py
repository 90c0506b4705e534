"""The database of a Go edgecore: read when its node is adopted, written when the node is given back.

Table ``meta(key, type, value)``: keys are wire resources as ours are, values JSON. Tables ``device`` and
``device_twin`` hold devices with the last values. Only the types that a cloud delivers cross over: status patches,
leases and events are made anew by whoever runs the node.

Source: kubeedge edge/pkg/metamanager/dao/models (v1.23).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from skerry.api.gvk import Object
from skerry.base import json
from skerry.base.errors import StoreError
from skerry.base.values import Struct, field

CROSSING = ("pod", "configmap", "secret", "node")
_TABLES = {"meta", "device", "device_twin"}
_BUSY_S = 5.0


class Devices(Struct, frozen=True):
    """Rows of devices.

    Args:
        rows: id, description, state, last online.
        twins: by device id and property, in the form of ``edge.devices`` documents.
    """

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    twins: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)


def read_objects(path: Path) -> dict[str, Object]:
    """What a cloud has delivered, by key.

    Raises:
        StoreError: no database of edgecore, or a row that is none.
    """
    with _opened(path, writes=False) as connection:
        marks = ",".join("?" * len(CROSSING))
        rows = connection.execute(f"SELECT key, value FROM meta WHERE type IN ({marks})", CROSSING).fetchall()
    found: dict[str, Object] = {}
    for key, value in rows:
        try:
            obj = json.loads(value)
        except json.JsonError as exc:
            raise StoreError(f"{path}: row {key!r} holds no JSON: {exc}") from exc
        if isinstance(obj, dict):
            found[str(key)] = obj
    return found


def read_devices(path: Path) -> Devices:
    """Devices with their last values.

    Raises:
        StoreError: no database of edgecore.
    """
    with _opened(path, writes=False) as connection:
        rows = connection.execute("SELECT id, description, state, last_online FROM device").fetchall()
        found = connection.execute(
            "SELECT deviceid, name, expected, actual, expected_meta, actual_meta, expected_version, optional, attr_type"
            " FROM device_twin"
        ).fetchall()
    twins: dict[str, dict[str, dict[str, Any]]] = {}
    for device, name, expected, actual, expected_meta, actual_meta, version, optional, kind in found:
        twins.setdefault(str(device), {})[str(name)] = _twin(
            expected, actual, expected_meta, actual_meta, version, bool(optional), str(kind or "")
        )
    return Devices([tuple(str(cell or "") for cell in row) for row in rows], twins)  # type: ignore[misc]


def replace_objects(path: Path, objects: Mapping[str, Object]) -> None:
    """Make the delivered objects exactly ``objects``, in one transaction; everything else stays. Makes the table if
    the database is new.

    Raises:
        StoreError: it is in use, or the disk refuses.
    """
    with _opened(path, writes=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS `meta` (`key` text,`type` text,`value` text,PRIMARY KEY (`key`))"
        )
        connection.executemany("DELETE FROM meta WHERE type = ?", [(kind,) for kind in CROSSING])
        rows = [(key, key.split("/", 2)[1], json.dumps(obj).decode()) for key, obj in objects.items()]
        connection.executemany("INSERT OR REPLACE INTO meta (key, type, value) VALUES (?, ?, ?)", rows)


@contextlib.contextmanager
def _opened(path: Path, *, writes: bool) -> Iterator[sqlite3.Connection]:
    if not path.exists() and not writes:
        raise StoreError(f"{path} does not exist", hint="name edgecore's configuration file with --edgecore-config")
    try:
        connection = sqlite3.connect(f"file:{path}?mode={'rwc' if writes else 'ro'}", uri=True, timeout=_BUSY_S)
        try:
            with connection:
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if not writes and not tables >= _TABLES:
                    raise StoreError(f"{path} is no database of edgecore: it has no {sorted(_TABLES - tables)}")
                yield connection
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise StoreError(f"{path}: {exc}", hint="stop edgecore; check that the file is its database") from exc


def _twin(
    expected: Any, actual: Any, expected_meta: Any, actual_meta: Any, version: Any, optional: bool, kind: str
) -> dict[str, Any]:
    versions = _parsed(version)
    found: dict[str, Any] = {
        "type": kind,
        "optional": optional,
        "expected_version": [_number(versions.get("cloud")), _number(versions.get("edge"))],
        "actual_version": [0, 0],
        "reported_ms": 0,
    }
    for name, value, meta in (("expected", expected, expected_meta), ("actual", actual, actual_meta)):
        if value is not None:
            found[name] = [str(value), _number(_parsed(meta).get("timestamp"))]
    return found


def _parsed(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except json.JsonError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
