"""A database as edgecore v1.23 makes it: its tables, word for word, and rows that a test chooses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TABLES = (
    "CREATE TABLE `device` (`id` text,`name` text,`description` text,`state` text,`last_online` text,"
    "PRIMARY KEY (`id`))",
    "CREATE TABLE `device_attr` (`id` integer PRIMARY KEY AUTOINCREMENT,`deviceid` text,`name` text,"
    "`description` text,`value` text,`optional` numeric,`attr_type` text,`metadata` text)",
    "CREATE TABLE `device_twin` (`id` integer PRIMARY KEY AUTOINCREMENT,`deviceid` text,`name` text,"
    "`description` text,`expected` text,`actual` text,`expected_meta` text,`actual_meta` text,`expected_version` text,"
    "`actual_version` text,`optional` numeric,`attr_type` text,`metadata` text)",
    "CREATE TABLE `meta` (`key` text,`type` text,`value` text,PRIMARY KEY (`key`))",
    "CREATE TABLE `meta_v2` (`key` text,`group_version_resource` text,`namespace` text,`name` text,"
    "`resource_version` integer,`value` text,PRIMARY KEY (`key`))",
)


def edgecore_database(path: Path, objects: Mapping[str, Any]) -> Path:
    """Make the file at ``path`` with these rows of ``meta``; gives ``path``."""
    connection = sqlite3.connect(path)
    with connection:
        for table in _TABLES:
            connection.execute(table)
        rows = [(key, key.split("/", 2)[1], json.dumps(value)) for key, value in objects.items()]
        connection.executemany("INSERT INTO meta VALUES (?, ?, ?)", rows)
    connection.close()
    return path
