import os
from pathlib import Path

import pytest

from skerry.base.errors import ConfigError
from skerry.edge.store.rowkey import CREDENTIAL, FILE, RowKeys, row_keys, wrapped_file
from skerry.testing.fakevault import FakeVault


def keys(directory: Path, wanted: str = "file", *, vault: FakeVault | None = None, credentials: str = "") -> RowKeys:
    environment = {"CREDENTIALS_DIRECTORY": credentials} if credentials else {}
    return row_keys(
        directory, wanted=wanted, vault=vault or FakeVault(), environment=environment, pause=lambda _: None
    )  # fmt: skip


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_file_of_0600_is_made_once(tmp_path: Path) -> None:
    made = keys(tmp_path)
    assert len(made.key) == 32 and made == keys(tmp_path) and made.source == "file"
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_credential_wins_and_no_file_is_made(tmp_path: Path) -> None:
    data, credentials = tmp_path / "data", tmp_path / "credentials"
    data.mkdir()
    credentials.mkdir()
    there = str(credentials)
    assert keys(data, credentials=there).source == "file", "the directory is there, ours is not in it"
    (data / FILE).unlink()
    (credentials / CREDENTIAL).write_bytes(os.urandom(48))
    found = keys(data, "tpm2", credentials=there)
    assert len(found.key) == 32 and found == keys(data, credentials=there) and found.source == "credential"
    assert files(data) == set()


def test_a_short_credential_is_named(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_bytes(b"short")
    with pytest.raises(ConfigError, match=CREDENTIAL):
        keys(tmp_path, credentials=str(tmp_path))


def test_an_unknown_source_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'tmp2'") as caught:
        keys(tmp_path, "tmp2")
    assert "tpm2" in caught.value.hint


@pytest.mark.parametrize("damage", [b"", b"half"])
def test_a_damaged_file_is_replaced_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes) -> None:
    (tmp_path / FILE).write_bytes(damage)
    made = keys(tmp_path)
    assert made == keys(tmp_path)
    assert "store.key_lost" in caplog.text


def test_a_wrapped_key_is_made_once_and_no_key_lies_in_the_clear(tmp_path: Path) -> None:
    vault = FakeVault()
    made = keys(tmp_path, "tpm2", vault=vault)
    assert made == keys(tmp_path, "tpm2", vault=vault) and made.source == "tpm2" and not made.is_stopgap
    assert files(tmp_path) == {wrapped_file(tmp_path, "tpm2").name}
    assert wrapped_file(tmp_path, "tpm2").stat().st_mode & 0o777 == 0o600


def test_from_the_file_to_the_vault_and_back_the_former_key_is_known_until_it_is_retired(tmp_path: Path) -> None:
    vault = FakeVault()
    first = keys(tmp_path, vault=vault)
    second = keys(tmp_path, "host", vault=vault)
    assert second.former == (first.key,) and second == keys(tmp_path, "host", vault=vault), "a crash in between"
    second.retire_former()
    assert files(tmp_path) == {"store-key.host.cred"} and keys(tmp_path, "host", vault=vault).former == ()
    third = keys(tmp_path, "tpm2", vault=vault)
    assert third.former == (second.key,)
    third.retire_former()
    fourth = keys(tmp_path, vault=vault)
    assert fourth.former == (third.key,)
    fourth.retire_former()
    assert files(tmp_path) == {FILE}


def test_a_vault_that_was_reset_is_given_a_new_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = keys(tmp_path, "tpm2")
    after = keys(tmp_path, "tpm2", vault=FakeVault(b"reset"))
    assert after.key != before.key and after.source == "tpm2" and not after.is_stopgap
    assert after == keys(tmp_path, "tpm2", vault=FakeVault(b"reset"))
    assert "store.key_lost" in caplog.text


def test_a_vault_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    vault = FakeVault()
    made = keys(tmp_path, "tpm2", vault=vault)
    vault.is_away = True
    found = row_keys(
        tmp_path, wanted="tpm2", vault=vault, environment={}, pause=lambda _: setattr(vault, "is_away", False)
    )
    assert found == made


def test_a_vault_that_is_away_keeps_its_key_and_a_file_stands_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vault = FakeVault()
    made = keys(tmp_path, "tpm2", vault=vault)
    vault.is_away = True
    meanwhile = keys(tmp_path, "tpm2", vault=vault)
    assert meanwhile.is_stopgap and meanwhile.source == "file" and meanwhile.superseded == ()
    assert "store.key_stopgap" in caplog.text
    vault.is_away = False
    back = keys(tmp_path, "tpm2", vault=vault)
    assert back.key == made.key and back.former == (meanwhile.key,)


def test_a_former_key_that_cannot_be_opened_is_given_up(tmp_path: Path) -> None:
    keys(tmp_path, "host")
    now = keys(tmp_path, vault=FakeVault(b"other"))
    assert now.former == () and now.source == "file"
    now.retire_former()
    assert files(tmp_path) == {FILE}
