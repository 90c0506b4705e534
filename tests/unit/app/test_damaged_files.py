"""Files of the node's directory that somebody edited, or a disk that rots: words, not a trace."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.app import edge, edge_settings, onsite
from skerry.base.errors import ConfigError

NODE = b'{"node":"gate-1","join":["c",1],"hubs":[["c",2]],"tunnels":[["c",3]]}'
HEAD = "apiVersion: config.skerry.dev/v1alpha1\nkind: EdgeConfig\n"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Ours, as it was before, afterwards."""
    found = logging.getLogger("skerry")
    before = (found.handlers[:], found.level, found.propagate)
    yield found
    found.handlers[:], found.level, found.propagate = before


@pytest.mark.parametrize("text", [b"", b"nul", b"[]", b"{}", b'{"node":"a"}', NODE[:-1]])
def test_a_damaged_node_file_is_named_with_what_to_do(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "node.json").write_bytes(text)
    with pytest.raises(ConfigError, match=r"node\.json") as caught:
        edge_settings.read_node(tmp_path)
    assert "join again" in caught.value.hint


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'""', b"{}", b'{"pid":"x","written_s":"y"}', b'{"pid":1,"written_s":9e9}']
)
def test_a_damaged_status_is_that_of_an_agent_that_does_not_run(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "node.json").write_bytes(NODE)
    (tmp_path / "status.json").write_bytes(text)
    found = onsite.read_status(tmp_path)
    assert (found["node"], found["running"]) == ("gate-1", False)


@pytest.mark.parametrize(
    "line", ["runtime: containerd", "storeKey: tpm", "kubeletPort: 99999", "logLevel: loud", "clusterDns: [here]"]
)
def test_a_setting_that_cannot_be_is_not_started_with(tmp_path: Path, line: str) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(f"{HEAD}{line}\n")
    with pytest.raises(ConfigError, match=line.partition(":")[0]):
        edge_settings.load_config(file, {})


def test_the_level_of_the_log_is_the_files_unless_a_flag_says_another(tmp_path: Path, logger: logging.Logger) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(f"{HEAD}logLevel: error\n")
    for flag, level in ((None, logging.ERROR), ("debug", logging.DEBUG)):
        with pytest.raises(ConfigError, match="has not joined"):
            edge.main(config_file=file, flags={"data": tmp_path, "log_level": flag}, as_json=True)
        assert logger.level == level
