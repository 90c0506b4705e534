import os
from pathlib import Path

from skerry.app.places import cloud_data, data_root, edge_data, socket_directory


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
