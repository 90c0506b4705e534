"""The only door to PyJWT: tokens signed by our key on the disk, and tokens of others with their public keys.

Cloud processes only.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from skerry.base.errors import ConfigError, SkerryError
from skerry.base.files import write_secret

_ASYMMETRIC = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA")
"""Signatures by a private key. With the others the key that verifies could sign, too."""


class BadToken(SkerryError):
    """The token is malformed, not ours, for somebody else, or out of its time."""


class SigningKey:
    """An RSA key that signs and verifies tokens.

    Args:
        pem: private key, PEM.
    """

    def __init__(self, pem: bytes) -> None:
        private = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise ValueError("not an RSA key")
        self._private = private
        self._public = private.public_key()
        der = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.key_id = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()

    @classmethod
    def load_or_make(cls, path: Path) -> SigningKey:
        """The key of that file; made there, mode 0600, when the file is missing.

        Raises:
            ConfigError: the file is no RSA key.
        """
        if not path.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            write_secret(path, pem)
        try:
            return cls(path.read_bytes())
        except (OSError, ValueError, TypeError) as exc:
            raise ConfigError(
                f"cannot use the token signing key {path}: {exc}",
                hint="restore the file from a backup, or remove it: a new key makes all tokens given out invalid",
            ) from exc

    def sign(self, claims: dict[str, Any]) -> str:
        """The token of these claims."""
        return jwt.encode(claims, self._private, algorithm="RS256", headers={"kid": self.key_id})

    def verify(self, token: str, *, issuer: str, audiences: list[str]) -> dict[str, Any]:
        """The claims of a token that is ours, for one of ``audiences``, and within its time.

        Raises:
            BadToken: it is not.
        """
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._public,
                algorithms=["RS256"],
                issuer=issuer,
                audience=audiences,
                options={"require": ["exp", "iat", "iss", "sub", "aud"]},
            )
        except jwt.PyJWTError as exc:
            raise BadToken(str(exc)) from exc
        return claims

    def verify_unbounded(self, token: str, *, issuer: str) -> dict[str, Any]:
        """As ``verify``, for tokens that name no audience and never expire (those kept in Secrets).

        Raises:
            BadToken: it is not ours.
        """
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._public,
                algorithms=["RS256"],
                issuer=issuer,
                options={"require": ["iss", "sub"], "verify_aud": False},
            )
        except jwt.PyJWTError as exc:
            raise BadToken(str(exc)) from exc
        return claims

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        numbers = self._public.public_numbers()
        return {
            "keys": [
                {
                    "use": "sig",
                    "kty": "RSA",
                    "kid": self.key_id,
                    "alg": "RS256",
                    "n": _base64_uint(numbers.n),
                    "e": _base64_uint(numbers.e),
                }
            ]
        }


class KeySet:
    """Public keys of another issuer.

    Args:
        jwks: a JSON Web Key Set; keys of unknown kinds are passed over.
    """

    def __init__(self, jwks: dict[str, Any]) -> None:
        self._keys: dict[str, Any] = {}
        for item in jwks.get("keys") or ():
            try:
                self._keys[str(item.get("kid", ""))] = jwt.PyJWK(item).key
            except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
                continue

    def knows(self, token: str) -> bool:
        """Whether the key that signed the token is here; of a single key without a name, always."""
        return self._find(token) is not None

    def verify(self, token: str, *, issuer: str, audiences: list[str], algorithms: list[str]) -> dict[str, Any]:
        """The claims of a token of that issuer, for one of ``audiences``, and within its time.

        Raises:
            BadToken: it is not.
        """
        key = self._find(token)
        if key is None:
            raise BadToken(f"the token is signed with a key that issuer {issuer} does not publish")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[name for name in algorithms if name in _ASYMMETRIC],
                issuer=issuer,
                audience=audiences,
                options={"require": ["exp", "iss", "sub", "aud"]},
            )
        except (jwt.PyJWTError, TypeError) as exc:
            raise BadToken(str(exc)) from exc
        return claims

    def _find(self, token: str) -> Any:
        try:
            name = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            return None
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(str(name))


def issuer_of(token: str) -> str:
    """``iss`` of a token that nobody has verified yet; empty when it cannot be read."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return ""
    return str(claims.get("iss", ""))


def _base64_uint(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
