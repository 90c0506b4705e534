"""The default conflist."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.base import json
from skerry.base.errors import ConfigError
from skerry.runtime.network import has_conflist, missing_plugins, write_default_conflist


def test_written_where_there_is_none_and_only_there(tmp_path: Path) -> None:
    directory = tmp_path / "net.d"
    path = write_default_conflist(pod_cidr="10.244.3.0/24", directory=directory)
    assert path == directory / "10-skerry.conflist"
    content = json.loads(path.read_bytes())
    assert [plugin["type"] for plugin in content["plugins"]] == ["bridge", "portmap"]
    assert content["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.3.0/24"}]]
    assert write_default_conflist(pod_cidr="10.244.4.0/24", directory=directory) is None


def test_another_conflist_is_respected(tmp_path: Path) -> None:
    assert not has_conflist(tmp_path)
    (tmp_path / "README").touch()
    assert not has_conflist(tmp_path)
    (tmp_path / "99-flannel.conf").touch()
    assert has_conflist(tmp_path)
    assert write_default_conflist(pod_cidr="10.244.3.0/24", directory=tmp_path) is None


def test_a_bad_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="10.244.3.1/24"):
        write_default_conflist(pod_cidr="10.244.3.1/24", directory=tmp_path)


def test_missing_plugins_are_named(tmp_path: Path) -> None:
    (tmp_path / "bridge").touch()
    assert missing_plugins((tmp_path,)) == ["host-local", "portmap", "loopback"]
