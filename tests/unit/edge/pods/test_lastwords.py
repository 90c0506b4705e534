"""Why a container ended, in its own words."""

from pathlib import Path

import pytest

from skerry.edge.pods.lastwords import read_last_words
from skerry.runtime.ports import ContainerState, ObservedContainer


@pytest.fixture
def ended(tmp_path: Path) -> ObservedContainer:
    log = tmp_path / "engines-own"
    log.write_bytes(b'{"log":"said last\\n","stream":"stdout","time":"2026-11-27T06:47:15Z"}\n')
    (tmp_path / "0.log").symlink_to(log)
    return ObservedContainer(
        "c", "s", "app", 0, ContainerState.EXITED, "i", "i", exit_code=1, log_path=tmp_path / "0.log"
    )


def test_a_log_that_is_the_engines_own_file_is_read(tmp_path: Path, ended: ObservedContainer) -> None:
    told = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    assert read_last_words(told, ended, tmp_path / "words") == "said last\n"
    assert read_last_words({}, ended, tmp_path / "words") == ""


def test_a_link_that_a_container_put_in_place_of_its_file_is_not_followed(
    tmp_path: Path, ended: ObservedContainer
) -> None:
    (tmp_path / "secret").write_text("of the node")
    (tmp_path / "words").symlink_to(tmp_path / "secret")
    assert read_last_words({}, ended, tmp_path / "words") == ""
    (tmp_path / "words").unlink()
    (tmp_path / "words").write_text("of the container")
    assert read_last_words({}, ended, tmp_path / "words") == "of the container"
