"""Tokens that our own key signs and verifies: JWT with ``RS256`` and nothing else.

Not PyJWT: it loads ``cryptography`` (see ``base.rsa``). Tokens of other issuers are its work (``base.foreign_jwt``).

Source: RFC 7515 (compact serialization), RFC 7519.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.certificates import X509Error
from skerry.base.errors import ConfigError, SkerryError
from skerry.base.files import write_secret
from skerry.base.rsa import RsaKey

_ALGORITHM = "RS256"
_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class BadToken(SkerryError):
    """The token is malformed, not ours, for somebody else, or out of its time."""


class SigningKey:
    """An RSA key that signs and verifies tokens.

    Args:
        pem: private key, PEM.

    Raises:
        X509Error, ValueError: it is none.
    """

    def __init__(self, pem: bytes) -> None:
        self._key = RsaKey(pem)
        self.key_id = _text(hashlib.sha256(self._key.public_der).digest())
        self._head = _text(json.dumps({"alg": _ALGORITHM, "kid": self.key_id, "typ": "JWT"}))

    @classmethod
    def load_or_make(cls, path: Path) -> SigningKey:
        """The key of that file; made there, mode 0600, when the file is missing.

        Raises:
            ConfigError: the file is no RSA key.
        """
        if not path.exists():
            write_secret(path, RsaKey.generate())
        try:
            return cls(path.read_bytes())
        except (OSError, ValueError, X509Error) as exc:
            raise ConfigError(
                f"cannot use the token signing key {path}: {exc}",
                hint="restore the file from a backup, or remove it: a new key makes all tokens given out invalid",
            ) from exc

    def sign(self, claims: dict[str, Any]) -> str:
        """The token of these claims."""
        signed = f"{self._head}.{_text(json.dumps(claims))}"
        return f"{signed}.{_text(self._key.sign(signed.encode()))}"

    def verify(self, token: str, *, issuer: str, audiences: Sequence[str]) -> dict[str, Any]:
        """The claims of a token that is ours, for one of ``audiences``, and within its time.

        Raises:
            BadToken: it is not.
        """
        claims = self._claims(token, issuer=issuer, required=("exp", "iat", "iss", "sub", "aud"))
        named = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if not any(name in audiences for name in named):
            raise BadToken("the token is for another audience")
        return claims

    def verify_unbounded(self, token: str, *, issuer: str) -> dict[str, Any]:
        """As ``verify``, for tokens that name no audience and never expire (those kept in Secrets).

        Raises:
            BadToken: it is not ours.
        """
        return self._claims(token, issuer=issuer, required=("iss", "sub"))

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        modulus, exponent = self._key.numbers()
        key = {"use": "sig", "kty": "RSA", "kid": self.key_id, "alg": _ALGORITHM}
        return {"keys": [{**key, "n": _number(modulus), "e": _number(exponent)}]}

    def _claims(self, token: str, *, issuer: str, required: Sequence[str]) -> dict[str, Any]:
        head, claims, signature = _parts(token)
        if head.get("alg") != _ALGORITHM or "crit" in head:
            raise BadToken(f"the token is not signed with {_ALGORITHM} alone")
        if not self._key.verifies(signature, token.rpartition(".")[0].encode()):
            raise BadToken("the token's signature is not ours")
        if missing := [name for name in required if claims.get(name) is None]:
            raise BadToken(f"the token lacks {', '.join(missing)}")
        if claims["iss"] != issuer or not isinstance(claims["sub"], str):
            raise BadToken("the token is of another issuer, or of nobody")
        _check_time(claims, time.time())
        return claims


def issuer_of(token: str) -> str:
    """``iss`` of a token that nobody has verified yet; empty when it cannot be read."""
    try:
        return str(_parts(token)[1].get("iss", ""))
    except BadToken:
        return ""


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    parts = token.split(".")
    if len(parts) != 3:
        raise BadToken("the token has not three parts")
    try:
        head, claims = (json.loads(_bytes(part)) for part in parts[:2])
        signature = _bytes(parts[2])
    except (ValueError, binascii.Error) as exc:
        raise BadToken(f"the token cannot be read: {exc}") from exc
    if not isinstance(head, dict) or not isinstance(claims, dict):
        raise BadToken("the token's parts are no objects")
    return head, claims, signature


def _check_time(claims: dict[str, Any], now_s: float) -> None:
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadToken(f"claim {name} of the token is no number")
        if now_s >= value if name == "exp" else now_s < int(value):
            raise BadToken("the token has expired" if name == "exp" else "the token is not valid yet")


def _bytes(text: str) -> bytes:
    data = text.encode("ascii")
    if not _ALPHABET.issuperset(data):
        raise ValueError("not base64url without padding")
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(number: int) -> str:
    return _text(number.to_bytes((number.bit_length() + 7) // 8, "big"))
