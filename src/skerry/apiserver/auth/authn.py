"""Who is asking: client certificate, then bearer token, then nobody in particular."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skerry.api.status import Unauthorized
from skerry.apiserver.store.entry import Entry
from skerry.apiserver.store.log import Key
from skerry.base.aio.clock import Clock
from skerry.base.jwt import BadToken, SigningKey
from skerry.base.net.http_server import PeerCertificate

ANONYMOUS = "system:anonymous"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"

MIN_TOKEN_S = 600
MAX_TOKEN_S = 1 << 32


@dataclass(frozen=True, slots=True)
class User:
    """An identity. ``extra`` has lists by name."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """As ``authentication.k8s.io/v1 UserInfo``."""
        found: dict[str, Any] = {"username": self.name}
        if self.uid:
            found["uid"] = self.uid
        if self.groups:
            found["groups"] = list(self.groups)
        if self.extra:
            found["extra"] = {name: list(values) for name, values in self.extra.items()}
        return found


NOBODY = User(ANONYMOUS, (UNAUTHENTICATED,))


def service_account_name(namespace: str, name: str) -> str:
    """The user name of a service account."""
    return f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"


Find = Callable[[Key], Entry | None]


class ServiceAccountTokens:
    """Makes and checks the tokens of service accounts.

    Args:
        key: signs.
        issuer: ``iss`` of tokens; also the default audience.
        clock: time of the claims.
        find: looks an object up; tokens die with the objects that they are bound to.
    """

    def __init__(self, *, key: SigningKey, issuer: str, clock: Clock, find: Find) -> None:
        self.key = key
        self.issuer = issuer
        self._clock = clock
        self._find = find

    def issue(
        self,
        *,
        namespace: str,
        account: Mapping[str, Any],
        audiences: Sequence[str],
        expires_s: int,
        bound: Mapping[str, Any] | None = None,
    ) -> tuple[str, int]:
        """Make a token.

        Args:
            account: ``name`` and ``uid`` of the service account.
            expires_s: life time, at least 600.
            bound: claims such as ``{"pod": {"name": …, "uid": …}, "node": {…}}``.

        Returns:
            The token, and its expiry in seconds since 1970.
        """
        now = int(self._clock.now_s())
        expiry = now + expires_s
        claims = {
            "aud": list(audiences) or [self.issuer],
            "exp": expiry,
            "iat": now,
            "nbf": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "sub": service_account_name(namespace, str(account["name"])),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account["name"], "uid": account["uid"]},
                **(bound or {}),
            },
        }
        return self.key.sign(claims), expiry

    def check(self, token: str, *, audiences: Sequence[str] = ()) -> User:
        """The service account that a token stands for.

        Raises:
            BadToken: invalid, expired, or bound to something that is gone.
        """
        claims = self.key.verify(token, issuer=self.issuer, audiences=list(audiences) or [self.issuer])
        own = claims.get("kubernetes.io")
        if not isinstance(own, dict):
            raise BadToken("token lacks the claims of a service account")
        namespace = str(own.get("namespace", ""))
        account = own.get("serviceaccount") or {}
        self._alive("serviceaccounts", namespace, account)
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.get('jti', '')}"]}
        for what, gr, place in (("pod", "pods", namespace), ("secret", "secrets", namespace), ("node", "nodes", "")):
            if what in own:
                if what != "node":
                    self._alive(gr, place, own[what])
                for part in ("name", "uid") if what != "secret" else ():
                    extra[f"authentication.kubernetes.io/{what}-{part}"] = [str(own[what].get(part, ""))]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
        return User(str(claims["sub"]), groups, str(account.get("uid", "")), extra)

    def _alive(self, gr: str, namespace: str, bound: Mapping[str, Any]) -> None:
        entry = self._find(Key(gr, namespace, str(bound.get("name", ""))))
        if entry is None or entry.uid != bound.get("uid"):
            raise BadToken(f"{gr} {namespace}/{bound.get('name', '')} of the token is gone")


class Authenticator:
    """Reads identities.

    Args:
        tokens: checks bearer tokens; None accepts none.
        allow_anonymous: False answers 401 to requests without credentials.
    """

    def __init__(self, *, tokens: ServiceAccountTokens | None, allow_anonymous: bool = True) -> None:
        self._tokens = tokens
        self._allow_anonymous = allow_anonymous

    def identify(self, peer: PeerCertificate | None, authorization: str) -> User:
        """Who sent a request.

        Args:
            peer: the verified client certificate.
            authorization: the header, or empty.

        Raises:
            Unauthorized: a bad token, or nobody where anonymous requests are not allowed.
        """
        if peer is not None and peer.common_name:
            return User(peer.common_name, (*peer.organizations, AUTHENTICATED))
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return self._by_token(token.strip())
        if not self._allow_anonymous:
            raise Unauthorized("Unauthorized")
        return NOBODY

    def _by_token(self, token: str) -> User:
        if self._tokens is None:
            raise Unauthorized("Unauthorized")
        try:
            return self._tokens.check(token)
        except BadToken as exc:
            raise Unauthorized("Unauthorized") from exc
