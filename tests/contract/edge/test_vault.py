"""What every ``KeyVault`` does: systemd's, with a host key of the test's own, and the fake one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.parts import fetch

from skerry.edge.store.ports import KeyVault, VaultError
from skerry.edge.store.vault import SystemdVault
from skerry.testing.fakevault import FakeVault

SECRET = bytes(range(32))
Reset = Callable[[], None]


@pytest.fixture(params=["systemd", "fake"])
def vault(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[KeyVault, Reset]:
    """A vault, and what makes it another machine's."""
    if request.param == "fake":
        fake = FakeVault()
        return fake, lambda: setattr(fake, "seed", b"other")
    part = fetch("systemd-creds", "systemd", "libsystemd-shared")
    for name, value in part.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{part.path.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SYSTEMD_CREDENTIAL_SECRET", str(tmp_path / "secret"))
    return SystemdVault(), (tmp_path / "secret").unlink


def test_what_is_wrapped_can_be_opened_and_does_not_show_the_secret(vault: tuple[KeyVault, Reset]) -> None:
    wrapped = vault[0].wrap("host", SECRET)
    assert vault[0].open(wrapped) == SECRET and SECRET not in wrapped
    assert vault[0].wrap("host", SECRET[:31] + b"\n")  # any bytes


def test_another_machine_does_not_open_it(vault: tuple[KeyVault, Reset]) -> None:
    wrapped = vault[0].wrap("host", SECRET)
    vault[1]()
    with pytest.raises(VaultError):
        vault[0].open(wrapped)


@pytest.mark.parametrize("wrong", [b"", b"no credential", bytes(200)])
def test_junk_is_refused(vault: tuple[KeyVault, Reset], wrong: bytes) -> None:
    with pytest.raises(VaultError):
        vault[0].open(wrong)


def test_an_unknown_kind_is_refused(vault: tuple[KeyVault, Reset]) -> None:
    with pytest.raises(VaultError, match="paper"):
        vault[0].wrap("paper", SECRET)


def test_a_machine_without_the_program_is_told_what_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VaultError, match="systemd-creds") as caught:
        SystemdVault().wrap("host", SECRET)
    assert re.search("systemd 250", caught.value.hint)
