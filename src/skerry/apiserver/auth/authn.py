"""Who is asking: client certificate, then bearer token, then nobody in particular."""

from __future__ import annotations

import base64
import hmac
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from skerry.api.gvk import Object
from skerry.api.meta import parse_rfc3339
from skerry.api.status import Unauthorized
from skerry.apiserver.store.entry import Entry
from skerry.apiserver.store.log import Key
from skerry.base.aio.clock import Clock
from skerry.base.jwt import BadToken, SigningKey, issuer_of
from skerry.base.net.http_server import PeerCertificate
from skerry.base.values import Struct, field

ANONYMOUS = "system:anonymous"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"

LEGACY_ISSUER = "kubernetes/serviceaccount"
_LEGACY = "kubernetes.io/serviceaccount"
_LEGACY_PARTS = ("namespace", "secret.name", "service-account.name", "service-account.uid")
DELETED_GRACE_S = 60.0
"""How long tokens outlive the moment at which what they are bound to should have ended."""

MIN_TOKEN_S = 600
MAX_TOKEN_S = 1 << 32


class User(Struct, frozen=True):
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

    async def user(self, token: str) -> User | None:
        """The account of a token for this server; None for tokens of other issuers.

        Raises:
            BadToken: invalid, expired, or bound to something that is gone.
        """
        issuer = issuer_of(token)
        if issuer == LEGACY_ISSUER:
            return self._of_secret(token)
        return self.check(token) if issuer == self.issuer else None

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
                if what != "node" or "pod" not in own:  # a pod's node may have gone before the pod's deletion is done
                    self._alive(gr, place, own[what])
                for part in ("name", "uid") if what != "secret" else ():
                    extra[f"authentication.kubernetes.io/{what}-{part}"] = [str(own[what].get(part, ""))]
        return _account_user(namespace, str(account.get("name", "")), str(account.get("uid", "")), extra)

    def audiences_of(self, token: str, wanted: Sequence[str]) -> list[str]:
        """Which of the wanted audiences a verified token is for."""
        claims = self.key.verify(token, issuer=self.issuer, audiences=list(wanted))
        named = claims.get("aud")
        return [name for name in wanted if name in (named if isinstance(named, list) else [named])]

    def _of_secret(self, token: str) -> User:
        """A token without an end, kept in a Secret; it is good while the Secret holds it."""
        claims = self.key.verify_unbounded(token, issuer=LEGACY_ISSUER)
        part = {name: str(claims.get(f"{_LEGACY}/{name}", "")) for name in _LEGACY_PARTS}
        namespace, name, uid = part["namespace"], part["service-account.name"], part["service-account.uid"]
        self._alive("serviceaccounts", namespace, {"name": name, "uid": uid})
        entry = self._find(Key("secrets", namespace, part["secret.name"]))
        secret = entry.content() if entry is not None else {}
        held = str((secret.get("data") or {}).get("token") or "")
        if not hmac.compare_digest(held.encode(), base64.b64encode(token.encode())):
            raise BadToken(f"secret {namespace}/{part['secret.name']} of the token is gone, or holds another one")
        return _account_user(namespace, name, uid, {})

    def _alive(self, gr: str, namespace: str, bound: Mapping[str, Any]) -> None:
        entry = self._find(Key(gr, namespace, str(bound.get("name", ""))))
        if entry is None or entry.uid != bound.get("uid"):
            raise BadToken(f"{gr} {namespace}/{bound.get('name', '')} of the token is gone")
        deleted = parse_rfc3339(entry.field("deletionTimestamp", _deletion) or None)
        if deleted is not None and deleted + DELETED_GRACE_S < self._clock.now_s():
            raise BadToken(f"{gr} {namespace}/{bound.get('name', '')} of the token is being deleted")


def _account_user(namespace: str, name: str, uid: str, extra: Mapping[str, Sequence[str]]) -> User:
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    return User(service_account_name(namespace, name), groups, uid, extra)


def _deletion(obj: Object) -> str:
    return str(obj["metadata"].get("deletionTimestamp") or "")


class TokenCheck(Protocol):
    """One way to tell who holds a bearer token."""

    async def user(self, token: str) -> User | None:
        """Who; None when the token is not of this kind.

        Raises:
            BadToken: it is of this kind, and not good.
        """


class Authenticator:
    """Reads identities.

    Args:
        checks: ways to read bearer tokens, in order; none accepts no token.
        allow_anonymous: False answers 401 to requests without credentials.
    """

    def __init__(self, *, checks: Sequence[TokenCheck], allow_anonymous: bool = True) -> None:
        self._checks = checks
        self._allow_anonymous = allow_anonymous

    async def identify(self, peer: PeerCertificate | None, authorization: str) -> User:
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
            user = await self.by_token(token.strip())
            if user is None:
                raise Unauthorized("Unauthorized")
            return user
        if not self._allow_anonymous:
            raise Unauthorized("Unauthorized")
        return NOBODY

    async def by_token(self, token: str) -> User | None:
        """Who holds a bearer token; None for a bad one."""
        for check in self._checks:
            try:
                user = await check.user(token)
            except BadToken:
                return None
            if user is not None:
                return user
        return None
