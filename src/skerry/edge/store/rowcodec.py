"""How a row's body becomes bytes on the disk: the one place where secret rows can be encrypted."""

from __future__ import annotations

from collections.abc import Sequence
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

    def open(self, key: str, stored: bytes) -> tuple[bytes, bool]:
        """The body again, and whether it is sealed as ``seal`` does it now.

        Raises:
            StoreError: it was tampered with, or sealed with a key that is not known here.
        """


class SealingCodec:
    """AES-256-GCM with the row's key as associated data, behind one marker byte; opens plain rows of older stores too.

    Args:
        key: 32 bytes.
        former: keys of earlier times, which open rows too.
    """

    def __init__(self, key: bytes, former: Sequence[bytes] = ()) -> None:
        self._cipher = AesGcm(key)
        self._former = [AesGcm(each) for each in former]

    def seal(self, key: str, body: bytes) -> bytes:
        return _SEALED + self._cipher.seal(body, key.encode())

    def open(self, key: str, stored: bytes) -> tuple[bytes, bool]:
        if stored[:1] == _PLAIN:
            return stored[1:], False
        if stored[:1] != _SEALED:
            raise StoreError(f"row {key} is sealed in a way that this program does not know")
        for cipher in (self._cipher, *self._former):
            try:
                return cipher.open(stored[1:], key.encode()), cipher is self._cipher
            except NotAuthentic:
                continue
        raise StoreError(
            f"row {key} was changed, or sealed with another key", hint="the cloud sends it again at the next resync"
        )


def encode(codec: RowCodec, kind: str, key: str, value: object) -> bytes:
    """The stored form of a row of type ``kind``."""
    body = json.dumps(value)
    return codec.seal(key, body) if kind in SECRET_TYPES else body


def decode(codec: RowCodec, kind: str, key: str, stored: bytes) -> object:
    """The value of a row of type ``kind``."""
    return read(codec, kind, key, stored)[0]


def read(codec: RowCodec, kind: str, key: str, stored: bytes) -> tuple[object, bool]:
    """As ``decode``, and whether the row is stored as ``encode`` does it now.

    Raises:
        StoreError: it cannot be opened, or holds no JSON.
    """
    body, is_current = codec.open(key, stored) if kind in SECRET_TYPES else (stored, True)
    try:
        return json.loads(body), is_current
    except json.JsonError as exc:
        raise StoreError(f"row {key} is damaged: {exc}", hint="check the disk") from exc
