import os
from pathlib import Path

from skerry.app.places import cloud_data, data_root, edge_data, memory_directory, socket_directory
from skerry.app.status_file import StatusFile


def test_short_paths_keep_their_sockets(tmp_path: Path) -> None:
    short = Path("/tmp/x")
    assert socket_directory(short) == short


def test_long_paths_get_a_private_directory_that_fits(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 120)
    found = socket_directory(long)
    try:
        assert found != long
        assert len(os.fsencode(found / "kubelet.sock")) < 108
        assert found.stat().st_mode & 0o777 == 0o700
        assert socket_directory(long) == found
    finally:
        found.rmdir()


def test_data_of_a_user_follows_xdg() -> None:
    if os.geteuid() == 0:
        assert data_root({}) == Path("/var/lib/skerry")
    else:
        assert data_root({"XDG_DATA_HOME": "/x"}) == Path("/x/skerry")
    assert cloud_data(Path("/c")) == Path("/c")
    assert edge_data(Path("/e")) == Path("/e")


def test_what_is_written_often_lies_in_memory(tmp_path: Path) -> None:
    found = memory_directory(tmp_path, {})
    assert found != tmp_path or not os.path.ismount("/dev/shm")
    assert found.stat().st_mode & 0o077 == 0
    assert memory_directory(tmp_path, {}) == found
    other = memory_directory(tmp_path / "other", {})
    assert other != found
    for directory in {found, other} - {tmp_path, tmp_path / "other"}:
        directory.rmdir()


def test_the_status_file_is_found_where_it_is_looked_for(tmp_path: Path) -> None:
    first = StatusFile(tmp_path)
    first.write(b"one")
    assert (tmp_path / "status.json").read_bytes() == b"one"
    again = StatusFile(tmp_path)  # after a crash of the first
    again.write(b"two")
    assert (tmp_path / "status.json").read_bytes() == b"two"
    again.keep()
    assert (tmp_path / "status.json").read_bytes() == b"two"
    assert not (tmp_path / "status.json").is_symlink()
