"""Where the key of sealed rows comes from, and what happens when it is another one than before.

In this order: a credential that the unit was given by systemd; a key that the machine's vault wraps (``tpm2`` or
``host``); a file of ours (0600) beside the database. The last protects copies of the database (a backup, a support
bundle, a disk image without the file), not a stolen disk.

A node far from home comes back whatever happens to its key: one that cannot be had is replaced, and what only it opens
is asked for again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from skerry.base.aesgcm import KEY_BYTES
from skerry.base.errors import ConfigError
from skerry.base.files import sync_directory, write_secret
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.edge.store.ports import KeyVault, VaultError
from skerry.edge.store.vault import SystemdVault

log = get_log(__name__)

CREDENTIAL = "skerry-store-key"
FILE = "store.key"
IN_FILE = "file"
IN_VAULT = ("host", "tpm2")
SOURCES = (IN_FILE, *IN_VAULT)
_TRIES = 3
_PAUSE_S = 3.0


class RowKeys(Struct, frozen=True):
    """The key of today and those that rows may still be sealed with.

    Attributes:
        key: 32 bytes.
        source: ``credential``, ``tpm2``, ``host`` or ``file``.
        former: older keys that could be had.
        superseded: their files, which nobody needs as soon as every row is sealed with ``key``.
        is_stopgap: the wanted key could not be had now; it may come back, so rows that need it must stay.
    """

    key: bytes
    source: str
    former: tuple[bytes, ...] = ()
    superseded: tuple[Path, ...] = ()
    is_stopgap: bool = False

    def retire_former(self) -> None:
        """Remove the files of older keys."""
        for path in self.superseded:
            path.unlink(missing_ok=True)
            sync_directory(path.parent)
            log.info("store.key_retired", file=str(path), now=self.source)


def wrapped_file(directory: Path, kind: str) -> Path:
    """Where the key that a vault wraps lies."""
    return directory / f"store-key.{kind}.cred"


def row_keys(
    directory: Path,
    *,
    wanted: str = IN_FILE,
    vault: KeyVault | None = None,
    environment: Mapping[str, str] = os.environ,
    pause: Callable[[float], None] = time.sleep,
) -> RowKeys:
    """The keys for the database in ``directory``; made at the first call. Blocks while a TPM thinks.

    Args:
        wanted: one of ``SOURCES``.
        vault: of this machine.
        pause: waits between two tries of a vault that is not there yet, as a TPM early in a boot.

    Raises:
        ConfigError: no such source, or the credential of the unit is too short.
    """
    if wanted not in SOURCES:
        raise ConfigError(f"storeKey is {wanted!r}", hint=f"it may be {', '.join(SOURCES)}")
    keeper = _Keeper(directory, vault or SystemdVault(), pause)
    place = environment.get("CREDENTIALS_DIRECTORY")
    if place and (credential := Path(place) / CREDENTIAL).exists():
        return keeper.with_former(_of_credential(credential), "credential")
    if wanted == IN_FILE:
        return keeper.with_former(keeper.from_file(), IN_FILE)
    try:
        return keeper.with_former(keeper.from_vault(wanted), wanted)
    except VaultError as exc:
        log.error(
            "store.key_stopgap", wanted=wanted, why=exc.explained(),
            hint=f"rows are sealed with {directory / FILE} until the next start that finds it, or set storeKey to file",
        )  # fmt: skip
        return RowKeys(keeper.from_file(), IN_FILE, is_stopgap=True)


class _Keeper:
    def __init__(self, directory: Path, vault: KeyVault, pause: Callable[[float], None]) -> None:
        self._directory = directory
        self._vault = vault
        self._pause = pause

    def from_file(self) -> bytes:
        path = self._directory / FILE
        known = _read(path)
        if len(known) == KEY_BYTES:
            return known
        if path.exists():
            log.error(
                "store.key_lost", file=str(path), why=f"it has {len(known)} bytes, not {KEY_BYTES}",
                hint="a new one is made, and secrets and tokens are asked for again; check the disk",
            )  # fmt: skip
        made = os.urandom(KEY_BYTES)
        write_secret(path, made)
        return made

    def from_vault(self, kind: str) -> bytes:
        path = wrapped_file(self._directory, kind)
        if not path.exists():
            return self._made(path, kind)
        for attempt in range(_TRIES):
            if attempt:
                self._pause(_PAUSE_S)
            try:
                return _derived(self._vault.open(_read(path)))
            except VaultError as exc:
                why = exc.explained()
        secret = os.urandom(KEY_BYTES)
        wrapped = self._vault.wrap(kind, secret)  # a vault that is away raises here, and the old key stays
        log.error(
            "store.key_lost", file=str(path), why=why,
            hint="the TPM was reset, or the disk is another machine's: a new key is made, and secrets and tokens are"
            " asked for again",
        )  # fmt: skip
        write_secret(path, wrapped)
        return _derived(secret)

    def _made(self, path: Path, kind: str) -> bytes:
        secret = os.urandom(KEY_BYTES)
        write_secret(path, self._vault.wrap(kind, secret))
        log.info("store.key_made", file=str(path))
        return _derived(secret)

    def with_former(self, key: bytes, source: str) -> RowKeys:
        former, superseded = [], []
        if source != IN_FILE and (path := self._directory / FILE).exists():
            superseded.append(path)
            if len(known := _read(path)) == KEY_BYTES:
                former.append(known)
        for kind in IN_VAULT:
            path = wrapped_file(self._directory, kind)
            if kind == source or not path.exists():
                continue
            superseded.append(path)
            try:
                former.append(_derived(self._vault.open(_read(path))))
            except VaultError as exc:
                log.warning("store.former_key_lost", file=str(path), why=exc.explained())
        return RowKeys(key, source, tuple(former), tuple(superseded))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _of_credential(path: Path) -> bytes:
    text = path.read_bytes()
    if len(text) < KEY_BYTES:
        raise ConfigError(
            f"credential {CREDENTIAL} has {len(text)} bytes", hint=f"make one of {KEY_BYTES} random bytes or more"
        )
    return _derived(text)


def _derived(secret: bytes) -> bytes:
    return hashlib.sha256(b"skerry row key\x00" + secret).digest()
