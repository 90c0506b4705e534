"""The only door to PyJWT: tokens of other issuers, verified with their public keys.

Loaded where such an issuer is configured only: with ``cryptography`` it takes 11 MB.
"""

from __future__ import annotations

from typing import Any

import jwt

from skerry.base.jwt import BadToken

_ASYMMETRIC = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA")
"""Signatures by a private key. With the others the key that verifies could sign, too."""


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
