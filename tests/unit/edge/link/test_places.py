"""Where an agent finds its cloud, and what it keeps of that."""

import json
from pathlib import Path
from typing import Any

from skerry.edge.link.places import Places

JOINED = {"node": "gate-1", "hubs": [["old", 10000]], "tunnels": [["old", 10004]], "join": ["old", 10002]}


def test_the_api_server_is_where_the_hub_is(tmp_path: Path) -> None:
    places = Places(tmp_path / "node.json", JOINED)
    assert places.api is None
    assert places.learn({"hubs": [["new", 10000]], "api_port": 6443})
    assert places.api == ("new", 6443)
    again: dict[str, Any] = json.loads((tmp_path / "node.json").read_bytes())
    assert Places(tmp_path / "node.json", again).api == ("new", 6443)


def test_a_cloud_without_an_api_server_takes_the_address_back(tmp_path: Path) -> None:
    places = Places(tmp_path / "node.json", JOINED | {"api_port": 6443})
    assert places.learn({"api_port": 0}) and places.api is None


def test_what_is_no_port_is_none(tmp_path: Path) -> None:
    places = Places(tmp_path / "node.json", JOINED)
    for wrong in ("6443", -1, 70_000, None, [6443]):
        places.learn({"api_port": wrong})
        assert places.api is None
