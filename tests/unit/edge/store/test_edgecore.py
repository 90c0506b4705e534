"""The database of a Go edgecore: what is read of it, and what is written back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.edgecoredb import edgecore_database

from skerry.base.errors import StoreError
from skerry.edge.store import edgecore

POD = {"metadata": {"name": "web", "namespace": "default", "uid": "u-1", "resourceVersion": "7"}}


def test_delivered_objects_are_read_and_nothing_else(tmp_path: Path) -> None:
    path = edgecore_database(
        tmp_path / "edgecore.db",
        {
            "default/pod/web": POD,
            "default/configmap/settings": {"metadata": {"name": "settings"}, "data": {"word": "one"}},
            "default/podpatch/web": {"status": {}},
            "kube-node-lease/lease/go-1": {"spec": {}},
            "null/nodepatch/go-1": {"status": {}},
        },
    )
    assert set(edgecore.read_objects(path)) == {"default/pod/web", "default/configmap/settings"}
    assert edgecore.read_objects(path)["default/pod/web"] == POD


def test_devices_come_with_their_last_values(tmp_path: Path) -> None:
    path = edgecore_database(tmp_path / "edgecore.db", {})
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO device VALUES ('default/meter', 'meter', 'a meter', 'online', 'yesterday')")
        connection.execute(
            "INSERT INTO device_twin (deviceid, name, expected, actual, expected_meta, actual_meta, expected_version,"
            " optional, attr_type) VALUES ('default/meter', 'limit', '20', '19', '{\"timestamp\":5}',"
            " '{\"timestamp\":6}', '{\"cloud\":3,\"edge\":2}', 1, 'int')"
        )
    connection.close()
    found = edgecore.read_devices(path)
    assert found.rows == [("default/meter", "a meter", "online", "yesterday")]
    assert found.twins["default/meter"]["limit"] == {
        "type": "int",
        "optional": True,
        "expected_version": [3, 2],
        "actual_version": [0, 0],
        "reported_ms": 0,
        "expected": ["20", 5],
        "actual": ["19", 6],
    }


def test_writing_back_replaces_what_was_delivered_and_leaves_the_rest(tmp_path: Path) -> None:
    path = edgecore_database(
        tmp_path / "edgecore.db", {"default/pod/old": POD, "null/nodepatch/go-1": {"status": {"a": 1}}}
    )
    edgecore.replace_objects(path, {"default/pod/web": POD})
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT key, type FROM meta ORDER BY key").fetchall()
    connection.close()
    assert rows == [("default/pod/web", "pod"), ("null/nodepatch/go-1", "nodepatch")]
    assert edgecore.read_objects(path) == {"default/pod/web": POD}


def test_a_new_database_is_made_where_there_is_none(tmp_path: Path) -> None:
    edgecore.replace_objects(tmp_path / "new.db", {"default/pod/web": POD})
    with sqlite3.connect(tmp_path / "new.db") as connection:
        assert connection.execute("SELECT key FROM meta").fetchall() == [("default/pod/web",)]
    connection.close()


def test_another_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"missing\.db does not exist"):
        edgecore.read_objects(tmp_path / "missing.db")
    (tmp_path / "text.db").write_text("no database at all, and long enough to be looked at" * 100)
    with pytest.raises(StoreError, match=r"text\.db"):
        edgecore.read_objects(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(StoreError, match="is no database of edgecore"):
        edgecore.read_objects(tmp_path / "empty.db")


def test_a_row_that_holds_no_json_is_named(tmp_path: Path) -> None:
    path = edgecore_database(tmp_path / "edgecore.db", {})
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO meta VALUES ('default/pod/bad', 'pod', '{')")
    connection.close()
    with pytest.raises(StoreError, match="default/pod/bad"):
        edgecore.read_objects(path)
