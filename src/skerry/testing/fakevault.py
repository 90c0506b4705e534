"""A vault without a machine: what it wraps is opened only by the same seed, and it can be away."""

from __future__ import annotations

import hmac

from skerry.edge.store.ports import VaultError

_TAG_BYTES = 32


class FakeVault:
    """See ``KeyVault``. Another ``seed`` is another machine, or its TPM after a reset."""

    def __init__(self, seed: bytes = b"one") -> None:
        self.seed = seed
        self.is_away = False
        self.opened = 0

    def wrap(self, kind: str, secret: bytes) -> bytes:
        """See ``KeyVault``."""
        self._ask()
        if kind not in ("host", "tpm2"):
            raise VaultError(f"no {kind} here")
        return hmac.digest(self.seed, secret, "sha256") + secret[::-1]

    def open(self, wrapped: bytes) -> bytes:
        """See ``KeyVault``."""
        self._ask()
        tag, secret = wrapped[:_TAG_BYTES], wrapped[_TAG_BYTES:][::-1]
        if not hmac.compare_digest(tag, hmac.digest(self.seed, secret, "sha256")):
            raise VaultError("wrapped elsewhere")
        self.opened += 1
        return secret

    def _ask(self) -> None:
        if self.is_away:
            raise VaultError("the TPM does not answer")
