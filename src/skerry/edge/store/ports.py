"""What the store needs of the machine: a place for a small secret that a copy of the disk does not give away."""

from __future__ import annotations

from typing import Protocol

from skerry.base.errors import StoreError


class VaultError(StoreError):
    """A secret cannot be wrapped or opened here; says why, as the machine puts it."""


class KeyVault(Protocol):
    """Wraps small secrets so that only this machine opens them."""

    def wrap(self, kind: str, secret: bytes) -> bytes:
        """What may lie on the disk, and was opened once to see that it can be.

        Args:
            kind: ``tpm2``, bound to the TPM; or ``host``, bound to a file that the system keeps for itself.

        Raises:
            VaultError: this machine offers no such thing.
        """

    def open(self, wrapped: bytes) -> bytes:
        """The secret again.

        Raises:
            VaultError: wrapped on another machine, by a TPM that was reset since, or the bytes are damaged.
        """
