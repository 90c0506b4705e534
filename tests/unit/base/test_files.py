import os
from pathlib import Path

import pytest

from skerry.base.errors import ConfigError
from skerry.base.files import DirectoryLock, lock_holder, make_private_dir, read_small, write_atomic, write_secret


def test_atomic_write_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_secrets_are_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, b"x")
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_private_dir(tmp_path / "d").stat().st_mode & 0o777 == 0o700


def test_second_lock_names_the_holder(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path):
        with pytest.raises(ConfigError, match="in use by another Skerry process"), DirectoryLock(tmp_path):
            pass
    with DirectoryLock(tmp_path):
        pass


def test_the_holder_of_a_lock_is_known_while_it_holds(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) == 0
    with DirectoryLock(tmp_path):
        assert lock_holder(tmp_path) == os.getpid()
    assert lock_holder(tmp_path) == 0
    assert lock_holder(tmp_path / "missing") == 0


def test_asking_for_the_holder_does_not_take_the_lock(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path):
        pass
    assert lock_holder(tmp_path) == 0
    with DirectoryLock(tmp_path):
        assert lock_holder(tmp_path) == os.getpid()


def test_a_file_of_somebody_else_is_read_in_part_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"12345")
    assert read_small(tmp_path / "good", limit_bytes=5) == b"12345"
    with pytest.raises(OSError, match="longer than 4 bytes"):
        read_small(tmp_path / "good", limit_bytes=4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless", "."):
        with pytest.raises(OSError, match="not a file|Is a directory"):
            read_small(tmp_path / name, limit_bytes=5)
    with pytest.raises(FileNotFoundError):
        read_small(tmp_path / "none", limit_bytes=5)
