"""Join tokens: made, checked, used up, revoked.

The text has KubeEdge's form, ``<sha256 of the CA>.<JWT, HS256>``. The JWT is signed with a key of its own (upstream
signs with the CA's private key, and its tokens are neither bound nor revocable; those are refused here).
Claims: ``exp``, ``jti`` and either ``node`` (bound to one name) or ``uses`` (for that many nodes).

The truth about a token is its Secret ``skerry-token-<id>`` in namespace ``kubeedge``, shared by all replicas. A use is
taken when a certificate is issued, and final when that node first connects to the hub; until then the same node may
ask again with the same token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Any

from skerry.api.gvk import SECRETS, Object
from skerry.api.status import AlreadyExists, Conflict, NotFound
from skerry.base import json
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.errors import ConfigError, Refused
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, replace
from skerry.cloud.join.ca import ensure_namespace, secret_object, value_of
from skerry.kube.ports import KubeApi
from skerry.wire.errors import Malformed
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import join

log = get_log(__name__)

KEY_SECRET = "skerry-token-key"
TOKEN_PREFIX = "skerry-token-"
TOKEN_LABEL = "skerry.dev/join-token"
DEFAULT_TTL_S = 24 * 3600.0
MAX_USES = 1000
_KEEP_EXPIRED_S = 24 * 3600.0
_NEW_TOKEN = "print a new one in the cloud: skerry token create --node NAME"


class TokenRefused(Refused):
    """The token is not accepted. ``is_guess`` marks tokens that we never made."""

    def __init__(self, message: str, *, hint: str = _NEW_TOKEN, is_guess: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_guess = is_guess


class Token(Struct, frozen=True):
    """The state of one token. Times are Unix seconds.

    Args:
        node: the only name that it enrols; empty when counted.
        uses: for how many nodes it is good.
        taken: nodes that hold a certificate by it and have not connected yet.
        spent: nodes that have connected; they cannot use it again.
    """

    id: str
    expires_s: float
    node: str = ""
    uses: int = 1
    created_s: float = 0.0
    taken: tuple[str, ...] = ()
    spent: tuple[str, ...] = ()

    @property
    def uses_left(self) -> int:
        """How many more nodes it can enrol."""
        return max(0, self.uses - len(self.taken) - len(self.spent))


class JoinTokens:
    """Tokens of one cloud.

    Args:
        api: the cluster that keeps their state.
        ca_der: the CA that tokens pin.
        clock: time source for expiry.
    """

    def __init__(self, api: KubeApi, *, ca_der: bytes, clock: Clock | None = None) -> None:
        self._api = api
        self._ca_hash = join.ca_hash(ca_der)
        self._clock = clock or SystemClock()
        self._key = b""

    def pin(self, ca_der: bytes) -> None:
        """Tokens made from now on pin this authority."""
        self._ca_hash = join.ca_hash(ca_der)

    async def load(self) -> None:
        """Load the signing key, or make it."""
        await ensure_namespace(self._api)
        try:
            secret = await self._api.get(SECRETS, KEY_SECRET, namespace=c.NAMESPACE)
        except NotFound:
            secret = secret_object(KEY_SECRET, {"key": secrets.token_bytes(32)})
            try:
                await self._api.create(SECRETS, secret, namespace=c.NAMESPACE)
            except AlreadyExists:
                secret = await self._api.get(SECRETS, KEY_SECRET, namespace=c.NAMESPACE)
        try:
            self._key = value_of(secret, "key")
        except (KeyError, binascii.Error) as exc:
            raise ConfigError(
                f"secret {c.NAMESPACE}/{KEY_SECRET} cannot be used: {exc}",
                hint="delete it and restart the cloud; tokens that are not used yet become invalid",
            ) from exc

    async def create(self, *, node: str = "", uses: int = 1, ttl_s: float = DEFAULT_TTL_S) -> tuple[Token, str]:
        """Make a token; returns its state and its text, which is kept nowhere.

        Raises:
            Malformed: ``node`` is not a node name.
            ValueError: ``uses`` or ``ttl_s`` out of range.
        """
        if node:
            join.check_node_name(node)
        if not 1 <= uses <= MAX_USES or (node and uses != 1):
            raise ValueError(f"uses must be from 1 to {MAX_USES}, and 1 for a token that is bound to a node")
        if ttl_s <= 0:
            raise ValueError("ttl must be more than 0 seconds")
        now_s = self._clock.now_s()
        token = Token(secrets.token_hex(6), now_s + ttl_s, node, uses, created_s=now_s)
        secret = secret_object(TOKEN_PREFIX + token.id, {"state": _dumped(token)}, labels={TOKEN_LABEL: "true"})
        await self._api.create(SECRETS, secret, namespace=c.NAMESPACE)
        claims: dict[str, Any] = {"exp": int(token.expires_s), "jti": token.id}
        claims |= {"node": node} if node else {"uses": uses}
        log.info("token.created", id=token.id, node=node or "any", uses=uses, ttl_s=ttl_s)
        return token, join.JoinToken(self._ca_hash, sign(claims, self._key)).text

    async def list(self) -> list[Token]:
        """Every token, the newest first; those that expired a day ago are removed on the way."""
        found = await self._api.list(SECRETS, namespace=c.NAMESPACE, label_selector=f"{TOKEN_LABEL}=true")
        tokens = [_token_of(secret) for secret in found.items]
        limit_s = self._clock.now_s() - _KEEP_EXPIRED_S
        for token in tokens:
            if token.expires_s < limit_s:
                await self.revoke(token.id)
        return sorted((t for t in tokens if t.expires_s >= limit_s), key=lambda t: -t.created_s)

    async def revoke(self, token_id: str) -> bool:
        """Make a token invalid; False when there is none. Certificates issued by it stay valid."""
        try:
            await self._api.delete(SECRETS, TOKEN_PREFIX + token_id, namespace=c.NAMESPACE)
        except NotFound:
            return False
        log.info("token.revoked", id=token_id)
        return True

    async def check(self, jwt: str, node: str) -> Token:
        """The token behind a JWT, when it may enrol this node now.

        Raises:
            TokenRefused: with cause and remedy.
        """
        claims = verify(jwt, self._key)
        if claims is None:
            raise TokenRefused("token was not made by this cloud, or is damaged", is_guess=True)
        if claims.get("exp", 0) <= self._clock.now_s():
            raise TokenRefused("token has expired")
        try:
            token = await self._load(str(claims.get("jti", "")))
        except NotFound as exc:
            raise TokenRefused("token has been revoked") from exc
        if token.node and token.node != node:
            raise TokenRefused(
                f"token is bound to node {token.node}, not to {node}",
                hint=f"join as {token.node}, or make one for this name: skerry token create --node {node}",
            )
        if node in token.spent:
            raise TokenRefused(f"token has been used up: node {node} has connected with it")
        if node not in token.taken and not token.uses_left:
            raise TokenRefused("token has been used up by other nodes")
        return token

    async def take(self, token: Token, node: str) -> None:
        """Reserve a use for this node.

        Raises:
            TokenRefused: others were faster.
        """

        def change(now: Token) -> Token:
            if node in now.taken:
                return now
            if node in now.spent or not now.uses_left:
                raise TokenRefused("token has been used up")
            return replace(now, taken=(*now.taken, node))

        await self._change(token.id, change)

    async def spend(self, token_id: str, node: str) -> None:
        """The node has connected: its use is final. Unknown tokens are ignored."""

        def change(now: Token) -> Token:
            if node in now.spent:
                return now
            return replace(now, taken=tuple(t for t in now.taken if t != node), spent=(*now.spent, node))

        try:
            await self._change(token_id, change)
        except TokenRefused:
            return

    async def _load(self, token_id: str) -> Token:
        if not token_id.isalnum():
            raise NotFound(f"secrets {TOKEN_PREFIX} not found")
        return _token_of(await self._api.get(SECRETS, TOKEN_PREFIX + token_id, namespace=c.NAMESPACE))

    async def _change(self, token_id: str, change: Any) -> None:
        for _ in range(10):
            try:
                secret = await self._api.get(SECRETS, TOKEN_PREFIX + token_id, namespace=c.NAMESPACE)
                old = _token_of(secret)
                new = change(old)
                if new == old:
                    return
                data = {"state": base64.b64encode(_dumped(new)).decode()}
                await self._api.update(SECRETS, secret | {"data": data})
                return
            except NotFound as exc:
                raise TokenRefused("token has been revoked") from exc
            except Conflict:
                continue
        raise TokenRefused("token is being used by many nodes at this moment", hint="try again")


def sign(claims: dict[str, Any], key: bytes) -> str:
    """A JWT with HMAC-SHA256."""
    head = _part(json.dumps({"alg": "HS256", "typ": "JWT"})) + "." + _part(json.dumps(claims))
    return head + "." + _part(hmac.digest(key, head.encode(), hashlib.sha256))


def verify(jwt: str, key: bytes) -> dict[str, Any] | None:
    """The claims of a JWT that this key signed, else None. The header's algorithm is not looked at: it is HS256."""
    head, _, signature = jwt.rpartition(".")
    expected = _part(hmac.digest(key, head.encode(errors="replace"), hashlib.sha256))
    if not hmac.compare_digest(signature.encode(errors="replace"), expected.encode()):
        return None
    try:
        return join.unverified_claims(jwt)
    except Malformed:
        return None


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _dumped(token: Token) -> bytes:
    return json.dumps({name: getattr(token, name) for name in Token.__struct_fields__})


def _token_of(secret: Object) -> Token:
    state = json.loads(value_of(secret, "state"))
    return Token(**state | {"taken": tuple(state["taken"]), "spent": tuple(state["spent"])})
