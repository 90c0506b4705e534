"""OpenID Connect: ID tokens of one issuer become users. The issuer's keys are fetched when needed, and again when it
has signed with one that is not known yet.

Source: kubernetes staging/src/k8s.io/apiserver/plugin/pkg/authenticator/token/oidc/oidc.go (v1.36); OpenID Connect
Discovery 1.0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from skerry.apiserver.auth.authn import AUTHENTICATED, User
from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.errors import SkerryError
from skerry.base.foreign_jwt import KeySet
from skerry.base.jwt import BadToken, issuer_of
from skerry.base.obs.log import get_log
from skerry.base.values import Struct

log = get_log(__name__)

REFRESH_S = 3600.0
RETRY_S = 10.0
"""Keys are asked for no more often than this, whatever tokens come."""

Fetch = Callable[[str], Awaitable[bytes]]


class OidcSettings(Struct, frozen=True):
    """How tokens of the issuer are read.

    Args:
        issuer: ``iss`` of its tokens, an https URL.
        client_ids: one of them must be in ``aud``.
        username_claim: names the user; ``email`` counts only when it is verified.
        username_prefix: before the name; empty means ``<issuer>#`` (none for ``email``), ``-`` means none.
        groups_claim: a list or one name; empty for no groups.
        groups_prefix: before each group.
        required_claims: must be there with exactly these values.
        algorithms: signatures accepted.
    """

    issuer: str
    client_ids: tuple[str, ...]
    username_claim: str = "sub"
    username_prefix: str = ""
    groups_claim: str = ""
    groups_prefix: str = ""
    required_claims: Mapping[str, str] | None = None
    algorithms: tuple[str, ...] = ("RS256",)

    @property
    def prefix(self) -> str:
        """What stands before user names."""
        if self.username_prefix == "-":
            return ""
        if self.username_prefix or self.username_claim == "email":
            return self.username_prefix
        return f"{self.issuer}#"


class OidcTokens:
    """Checks ID tokens.

    Args:
        settings: the issuer, and its claims.
        fetch: reads a URL; raises ``SkerryError`` when that fails.
        clock: for the age of the keys.
    """

    def __init__(self, settings: OidcSettings, *, fetch: Fetch, clock: Clock) -> None:
        self._settings = settings
        self._fetch = fetch
        self._clock = clock
        self._keys = KeySet({"keys": []})
        self._fetched_s = -REFRESH_S
        self._tried_s = -RETRY_S
        self._lock = asyncio.Lock()

    async def user(self, token: str) -> User | None:
        """Who the token is for; None when it is of another issuer.

        Raises:
            BadToken: of this issuer, and not good.
        """
        settings = self._settings
        if issuer_of(token) != settings.issuer:
            return None
        keys = await self._keys_for(token)
        claims = keys.verify(
            token, issuer=settings.issuer, audiences=list(settings.client_ids), algorithms=list(settings.algorithms)
        )
        for name, value in (settings.required_claims or {}).items():
            if claims.get(name) != value:
                raise BadToken(f"claim {name} of the token is not {value!r}")
        return User(self._name(claims), (*self._groups(claims), AUTHENTICATED))

    async def _keys_for(self, token: str) -> KeySet:
        """Keys that may verify the token: fresh ones if it is signed with none that we know."""
        if self._clock.monotonic_s() - self._fetched_s < REFRESH_S and self._keys.knows(token):
            return self._keys
        async with self._lock:
            is_old = self._clock.monotonic_s() - self._fetched_s >= REFRESH_S
            may_ask = self._clock.monotonic_s() - self._tried_s >= RETRY_S
            if may_ask and (is_old or not self._keys.knows(token)):
                self._tried_s = self._clock.monotonic_s()
                try:
                    self._keys = KeySet(await self._document())
                    self._fetched_s = self._clock.monotonic_s()
                except (SkerryError, json.JsonError, KeyError, TypeError) as exc:
                    log.warning("oidc.keys_unreachable", issuer=self._settings.issuer, error=str(exc))
        return self._keys

    async def _document(self) -> dict[str, Any]:
        place = self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        about = json.loads(await self._fetch(place))
        if about["issuer"] != self._settings.issuer:
            raise BadToken(f"{place} is of issuer {about['issuer']!r}")
        keys: dict[str, Any] = json.loads(await self._fetch(str(about["jwks_uri"])))
        return keys

    def _name(self, claims: Mapping[str, Any]) -> str:
        settings = self._settings
        name = claims.get(settings.username_claim)
        if not isinstance(name, str) or not name:
            raise BadToken(f"the token has no claim {settings.username_claim}")
        if settings.username_claim == "email" and claims.get("email_verified", True) is not True:
            raise BadToken("the email of the token is not verified")
        full = settings.prefix + name
        if full.startswith("system:"):
            raise BadToken("users whose names start with system: are the cluster's own")
        return full

    def _groups(self, claims: Mapping[str, Any]) -> list[str]:
        found = claims.get(self._settings.groups_claim) if self._settings.groups_claim else None
        names = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        full = [self._settings.groups_prefix + name for name in names if isinstance(name, str) and name]
        return [name for name in full if not name.startswith("system:")]
