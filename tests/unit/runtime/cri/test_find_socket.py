"""Which engine socket is taken: the first that is there, and none that we may not even look at."""

import socket
from pathlib import Path

from skerry.runtime.cri.probe import find_socket


def test_the_first_socket_wins_over_files_and_gaps(tmp_path: Path) -> None:
    file, first, second = tmp_path / "file", tmp_path / "a.sock", tmp_path / "b.sock"
    file.write_text("")
    for path in (first, second):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    assert find_socket([tmp_path / "missing", file, first, second]) == first


def test_a_place_that_cannot_be_looked_at_is_no_socket(tmp_path: Path) -> None:
    unreadable = tmp_path / ("x" * 300)  # stat fails with ENAMETOOLONG for every user, as it does with EACCES for some
    assert find_socket([unreadable]) is None
