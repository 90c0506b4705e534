"""How a row's body becomes bytes on the disk: the one place where secret rows can be encrypted."""

from __future__ import annotations

from typing import Protocol

from skerry.base import json
from skerry.base.aesgcm import AesGcm, NotAuthentic
from skerry.base.errors import StoreError

SECRET_TYPES = frozenset({"secret", "serviceaccounttoken"})
_PLAIN = b"\x00"
_SEALED = b"\x01"


class RowCodec(Protocol):
    """Seals and opens the bodies of secret rows."""

    def seal(self, key: str, body: bytes) -> bytes:
        """What is stored for ``body``; ``key`` is the row's, so that bodies cannot be swapped between rows."""

    def open(self, key: str, stored: bytes) -> bytes:
        """The body again. Raises ``StoreError`` when it was tampered with or sealed by another key."""


class SealingCodec:
    """AES-256-GCM with the row's key as associated data, behind one marker byte; opens plain rows of older stores too.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AesGcm(key)

    def seal(self, key: str, body: bytes) -> bytes:
        return _SEALED + self._cipher.seal(body, key.encode())

    def open(self, key: str, stored: bytes) -> bytes:
        if stored[:1] == _PLAIN:
            return stored[1:]
        if stored[:1] != _SEALED:
            raise StoreError(f"row {key} is sealed in a way that this program does not know")
        try:
            return self._cipher.open(stored[1:], key.encode())
        except NotAuthentic as exc:
            raise StoreError(
                f"row {key} was changed, or sealed with another key", hint="the cloud sends it again at the next resync"
            ) from exc


def is_plain(kind: str, stored: bytes) -> bool:
    """Whether a secret row lies on the disk unsealed."""
    return kind in SECRET_TYPES and stored[:1] == _PLAIN


def encode(codec: RowCodec, kind: str, key: str, value: object) -> bytes:
    """The stored form of a row of type ``kind``."""
    body = json.dumps(value)
    return codec.seal(key, body) if kind in SECRET_TYPES else body


def decode(codec: RowCodec, kind: str, key: str, stored: bytes) -> object:
    """The value of a row of type ``kind``."""
    return json.loads(codec.open(key, stored) if kind in SECRET_TYPES else stored)
