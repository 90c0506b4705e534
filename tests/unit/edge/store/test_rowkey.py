import os
from pathlib import Path

import pytest

from skerry.base.errors import ConfigError
from skerry.edge.store.rowkey import CREDENTIAL, FILE, row_key


def test_a_file_of_0600_is_made_once(tmp_path: Path) -> None:
    key = row_key(tmp_path, {})
    assert len(key) == 32 and key == row_key(tmp_path, {})
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_credential_wins_and_no_file_is_made(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert row_key(tmp_path, environment) == row_key(tmp_path, {})  # the directory is there, ours is not in it
    (tmp_path / FILE).unlink()
    (credentials / CREDENTIAL).write_bytes(os.urandom(48))
    key = row_key(tmp_path, environment)
    assert len(key) == 32 and key == row_key(tmp_path, environment) and not (tmp_path / FILE).exists()


def test_a_short_credential_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_bytes(b"short")
    with pytest.raises(ConfigError, match=CREDENTIAL):
        row_key(tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    (tmp_path / FILE).write_bytes(b"")
    with pytest.raises(ConfigError, match="store.key"):
        row_key(tmp_path, {})
