"""Which certificate each node holds: live, replaced, revoked. Implements the hub's ``Gate``.

One Secret ``skerry-node-<node>`` in namespace ``kubeedge`` per node, shared by all replicas. A certificate of our CA
that is in no record (issued by a Go cloudcore before us) is adopted when its node first connects.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from skerry.api.gvk import SECRETS, Object
from skerry.api.status import AlreadyExists, Conflict, NotFound, Unavailable
from skerry.base import json, x509
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import Refused
from skerry.base.obs.log import get_log
from skerry.cloud.join.ca import secret_object, value_of
from skerry.cloud.join.tokens import JoinTokens
from skerry.kube.informer import Informer
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge import constants as c

log = get_log(__name__)

RECORD_PREFIX = "skerry-node-"
RECORD_LABEL = "skerry.dev/enrolment"
MAX_REVOKED = 64


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The record of one node. Certificates are named by their SHA-256 fingerprint.

    Args:
        live: the certificate that counts; empty when the node was revoked.
        expires_s: its end, Unix seconds.
        token: id of the token that it was issued for; empty after a rotation or adoption.
        has_connected: whether the node has come with ``live``.
        replaced: the one before, good until ``live`` first connects (rotation).
        revoked: refused for ever; the newest ``MAX_REVOKED``.
    """

    node: str
    live: str = ""
    expires_s: float = 0.0
    token: str = ""
    has_connected: bool = False
    replaced: str = ""
    revoked: tuple[str, ...] = ()
    address: str = ""

    def issued(self, cert: x509.CertificateInfo, *, token: str, address: str, keep_old: bool) -> Enrolment:
        """The record after a new certificate; the old one is replaced (rotation) or revoked (by token)."""
        gone = [f for f in (self.replaced, "" if keep_old else self.live) if f]
        return replace(
            self,
            live=cert.fingerprint,
            expires_s=cert.not_after_s,
            token=token,
            has_connected=False,
            replaced=self.live if keep_old else "",
            revoked=(*self.revoked, *gone)[-MAX_REVOKED:],
            address=address,
        )

    def connected(self) -> Enrolment:
        """The record after the node came with ``live``: what was replaced is refused from now on."""
        gone = (self.replaced,) if self.replaced else ()
        return replace(self, has_connected=True, replaced="", revoked=(*self.revoked, *gone)[-MAX_REVOKED:])

    def withdrawn(self) -> Enrolment:
        """The record after a revocation: no certificate is good."""
        gone = [f for f in (self.replaced, self.live) if f]
        return replace(self, live="", replaced="", token="", revoked=(*self.revoked, *gone)[-MAX_REVOKED:])


@dataclass(frozen=True, slots=True, eq=False)
class _Watched:
    """One session: its certificate, and whom to tell."""

    fingerprint: str
    on_revoked: Callable[[str], None]


class Enrolments:
    """Records of all nodes.

    Args:
        api: the cluster that keeps them.
        tokens: told when a node has connected.
        clock: time source.
    """

    def __init__(self, api: KubeApi, *, tokens: JoinTokens, clock: Clock | None = None) -> None:
        self._api = api
        self._tokens = tokens
        self._clock = clock or SystemClock()
        self._watched: dict[str, list[_Watched]] = {}
        self._informer: Informer | None = None
        self._supervisor: Supervisor | None = None

    async def get(self, node: str) -> Enrolment | None:
        """The record of a node, or None."""
        try:
            return _record_of(await self._api.get(SECRETS, RECORD_PREFIX + node, namespace=c.NAMESPACE))
        except NotFound:
            return None

    async def list(self) -> list[Enrolment]:
        """Every record."""
        found = await self._api.list(SECRETS, namespace=c.NAMESPACE, label_selector=f"{RECORD_LABEL}=true")
        return [_record_of(secret) for secret in found.items]

    async def issued(self, node: str, cert_der: bytes, *, token: str, address: str, keep_old: bool) -> None:
        """A certificate was signed for this node."""
        info = x509.read_certificate(cert_der)

        def change(now: Enrolment) -> Enrolment:
            if keep_old and not (now.live or now.replaced):
                raise _withdrawn(node)
            return now.issued(info, token=token, address=address, keep_old=keep_old)

        await self._change(node, change)

    async def revoke(self, node: str) -> bool:
        """Refuse every certificate of this node from now on; False when it has none."""
        record = await self.get(node)
        if record is None or not (record.live or record.replaced):
            return False
        await self._change(node, Enrolment.withdrawn)
        log.info("node.revoked", node=node)
        return True

    async def is_good(self, node: str, fingerprint: str) -> bool:
        """Whether this certificate is the node's live or just replaced one."""
        record = await self.get(node)
        return record is not None and fingerprint in (record.live, record.replaced)

    async def admit(self, node: str, fingerprint: str) -> None:
        """Hub's question: may this certificate act as this node?

        Raises:
            Refused: revoked or replaced; with the remedy.
            Unavailable: the cluster cannot be asked now.
        """
        record = await self.get(node)
        if record is None or fingerprint in (record.live, record.replaced):
            return
        if record.live or fingerprint in record.revoked:
            raise Refused(
                f"the certificate of node {node} has been revoked or replaced by a newer one",
                hint=f"join again with a new token: skerry token create --node {node}",
            )
        raise _withdrawn(node)

    async def connected(self, node: str, fingerprint: str) -> None:
        """Hub's news: the node has a session with this certificate. Uses its token up."""
        record = await self.get(node)
        if record is None:
            adopted = Enrolment(node, live=fingerprint, has_connected=True)
            await self._change(node, lambda now: adopted if not now.live else now)
            log.info("node.adopted", node=node, fingerprint=fingerprint)
            return
        if fingerprint != record.live or record.has_connected:
            return
        await self._change(node, lambda now: now.connected() if now.live == fingerprint else now)
        if record.token:
            await self._tokens.spend(record.token, node)

    @asynccontextmanager
    async def watch(self, node: str, fingerprint: str, on_revoked: Callable[[str], None]) -> AsyncIterator[None]:
        """Hub's wish: call ``on_revoked`` with the reason once this certificate is no longer good.

        Records are followed while anybody is inside.
        """
        entry = _Watched(fingerprint, on_revoked)
        self._watched.setdefault(node, []).append(entry)
        if self._supervisor is None:
            self._supervisor = Supervisor("enrolments", clock=self._clock)
            selector = f"{RECORD_LABEL}=true"
            self._informer = Informer(
                self._api, SECRETS, namespace=c.NAMESPACE, label_selector=selector, name="enrolments"
            )
            self._informer.on_event(self._record_changed)
            self._supervisor.keep("follow", self._informer.run)
        elif self._informer is not None:
            self._record_changed("", None, self._informer.get(RECORD_PREFIX + node, c.NAMESPACE))
        try:
            yield
        finally:
            self._watched[node].remove(entry)
            if not self._watched[node]:
                del self._watched[node]
            if not self._watched and self._supervisor is not None:
                supervisor, self._supervisor, self._informer = self._supervisor, None, None
                await supervisor.aclose()

    def _record_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        try:
            record = _record_of(new)
        except (KeyError, TypeError, ValueError) as exc:
            name = new["metadata"]["name"]
            log.error("enrolment.unreadable", secret=name, error=str(exc), hint="restore it, or delete it")
            return
        for entry in tuple(self._watched.get(record.node, ())):
            if entry.fingerprint not in (record.live, record.replaced):
                entry.on_revoked("its certificate has been revoked, or replaced by a newer one")

    async def _change(self, node: str, change: Callable[[Enrolment], Enrolment]) -> None:
        name = RECORD_PREFIX + node
        for _ in range(10):
            try:
                secret = await self._api.get(SECRETS, name, namespace=c.NAMESPACE)
            except NotFound:
                record = _dumped(change(Enrolment(node)))
                made = secret_object(name, {"record": record}, labels={RECORD_LABEL: "true"})
                try:
                    await self._api.create(SECRETS, made, namespace=c.NAMESPACE)
                    return
                except AlreadyExists:
                    continue
            old = _record_of(secret)
            new = change(old)
            if new == old:
                return
            try:
                data = {"record": base64.b64encode(_dumped(new)).decode()}
                await self._api.update(SECRETS, secret | {"data": data})
                return
            except Conflict:
                continue
        raise Unavailable(f"the enrolment record of node {node} is changed by others all the time")


def _withdrawn(node: str) -> Refused:
    return Refused(
        f"node {node} has been removed from this cloud",
        hint=f"join again with a new token: skerry token create --node {node}",
    )


def _dumped(record: Enrolment) -> bytes:
    return json.dumps({name: getattr(record, name) for name in Enrolment.__slots__})


def _record_of(secret: Object) -> Enrolment:
    fields = json.loads(value_of(secret, "record"))
    return Enrolment(**fields | {"revoked": tuple(fields["revoked"])})
