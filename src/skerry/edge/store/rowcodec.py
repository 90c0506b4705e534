"""How a row's body becomes bytes on the disk: the one place where secret rows can be encrypted."""

from __future__ import annotations

from typing import Protocol

from skerry.base import json
from skerry.base.errors import StoreError

SECRET_TYPES = frozenset({"secret", "serviceaccounttoken"})
_PLAIN = b"\x00"


class RowCodec(Protocol):
    """Seals and opens the bodies of secret rows."""

    def seal(self, key: str, body: bytes) -> bytes:
        """What is stored for ``body``; ``key`` is the row's, so that bodies cannot be swapped between rows."""

    def open(self, key: str, stored: bytes) -> bytes:
        """The body again. Raises ``StoreError`` when it was tampered with or sealed by another key."""


class PlainCodec:
    """Stores bodies as they are behind one marker byte; the database file itself has mode 0600."""

    def seal(self, key: str, body: bytes) -> bytes:
        return _PLAIN + body

    def open(self, key: str, stored: bytes) -> bytes:
        if stored[:1] != _PLAIN:
            raise StoreError(f"row {key} is sealed in a way that this program does not know")
        return stored[1:]


def encode(codec: RowCodec, kind: str, key: str, value: object) -> bytes:
    """The stored form of a row of type ``kind``."""
    body = json.dumps(value)
    return codec.seal(key, body) if kind in SECRET_TYPES else body


def decode(codec: RowCodec, kind: str, key: str, stored: bytes) -> object:
    """The value of a row of type ``kind``."""
    return json.loads(codec.open(key, stored) if kind in SECRET_TYPES else stored)
