import os
from pathlib import Path

import pytest

from skerry.base.errors import ConfigError
from skerry.base.files import DirectoryLock, lock_holder, make_private_dir, write_atomic, write_secret


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
