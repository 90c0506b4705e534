"""Which certificate each node holds: live, replaced, revoked. Implements the hub's ``Gate``.

One object ``Enrolment`` (``skerry.dev/v1alpha1``) per node, of the node's name, seen by all replicas. While its
``spec.revoked`` is true nothing of the node is let in, whoever has set it. A certificate of our CA that is in no
record (issued by a Go cloudcore before us) is adopted when its node first connects.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from skerry.api.gvk import ENROLMENTS, Object
from skerry.api.status import AlreadyExists, Conflict, NotFound, Unavailable
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.certificates import CertificateInfo
from skerry.base.errors import Refused
from skerry.base.net.http_server import PeerCertificate
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, replace
from skerry.cloud.join.tokens import JoinTokens
from skerry.kube.informer import Informer, InformerSet
from skerry.kube.ports import KubeApi

log = get_log(__name__)

MAX_REVOKED = 64
GRACE_S = 30 * 86_400.0
"""So long after its end a certificate still proves its key to the join server, which renews it; nowhere else."""


class Enrolment(Struct, frozen=True):
    """The record of one node. Certificates are named by their SHA-256 fingerprint.

    Args:
        live: the certificate that counts; empty before the first.
        expires_s: its end, Unix seconds.
        issuer: fingerprint of the authority that signed it; empty when unknown.
        token: id of the token that it was issued for; empty after a rotation or adoption.
        has_connected: whether the node has come with ``live``.
        replaced: the one that ``live`` was asked for with, good until ``live`` first connects.
        revoked: refused for ever; the newest ``MAX_REVOKED``.
        is_revoked: the node as a whole is refused, until it joins again or is restored.
        reason: why, in words.
    """

    node: str
    live: str = ""
    expires_s: float = 0.0
    issuer: str = ""
    token: str = ""
    has_connected: bool = False
    replaced: str = ""
    revoked: tuple[str, ...] = ()
    address: str = ""
    is_revoked: bool = False
    reason: str = ""

    def is_good(self, fingerprint: str) -> bool:
        """Whether this certificate may act as the node."""
        return not self.is_revoked and fingerprint in (self.live, self.replaced)

    def issued(
        self, cert: CertificateInfo, *, issuer: str = "", token: str = "", address: str = "", proof: str = ""
    ) -> Enrolment:
        """The record after a new certificate.

        Args:
            proof: the certificate that asked for it, which stays good until the new one connects (the answer may get
                lost on its way); empty when a token paid, which ends everything before.
        """
        gone = [f for f in (self.replaced, self.live) if f and f != proof]
        return replace(
            self,
            live=cert.fingerprint,
            expires_s=cert.not_after_s,
            issuer=issuer,
            token=token,
            has_connected=False,
            replaced=proof,
            revoked=(*self.revoked, *gone)[-MAX_REVOKED:],
            address=address,
            is_revoked=False,
            reason="",
        )

    def connected(self) -> Enrolment:
        """The record after the node came with ``live``: what was replaced is refused from now on."""
        gone = (self.replaced,) if self.replaced else ()
        return replace(self, has_connected=True, replaced="", revoked=(*self.revoked, *gone)[-MAX_REVOKED:])


class _Watched(Struct, frozen=True, eq=False):
    """One session: its certificate, and whom to tell."""

    fingerprint: str
    on_revoked: Callable[[str], None]


class _Watch(AbstractAsyncContextManager[None]):
    """From the beginning to the end of a session. A class: a generator for each of thousands would cost more."""

    __slots__ = ("_enrolments", "_entry", "_node")

    def __init__(self, enrolments: Enrolments, node: str, entry: _Watched) -> None:
        self._enrolments, self._node, self._entry = enrolments, node, entry

    async def __aenter__(self) -> None:
        self._enrolments.begin(self._node, self._entry)

    async def __aexit__(self, *_: object) -> None:
        self._enrolments.end(self._node, self._entry)


class Enrolments:
    """Records of all nodes.

    Args:
        api: the cluster that keeps them.
        tokens: told when a node has connected.
        informers: shared caches; without them every question goes to the cluster, and ``watch`` sees no change.
        clock: time source.
    """

    def __init__(
        self, api: KubeApi, *, tokens: JoinTokens, informers: InformerSet | None = None, clock: Clock | None = None
    ) -> None:
        self._api = api
        self._tokens = tokens
        self._clock = clock or SystemClock()
        self._watched: dict[str, list[_Watched]] = {}
        self._informer: Informer | None = None
        if informers is not None:
            self._informer = informers.of(ENROLMENTS)
            self._informer.on_event(self._record_changed)

    async def get(self, node: str) -> Enrolment | None:
        """The record of a node, or None."""
        try:
            return record_of(await self._api.get(ENROLMENTS, node))
        except NotFound:
            return None

    async def all(self) -> list[Enrolment]:
        """Every record."""
        return [record_of(found) for found in (await self._api.list(ENROLMENTS)).items]

    def known(self) -> list[Enrolment]:
        """Every record in the cache; empty without one."""
        return [record_of(found) for found in self._informer.items()] if self._informer is not None else []

    def cached(self, node: str) -> Enrolment | None:
        """The record of a node in the cache, which may be a moment late."""
        found = self._informer.get(node) if self._informer is not None else None
        return record_of(found) if found is not None else None

    async def issued(
        self, node: str, cert: CertificateInfo, *, token: str = "", address: str = "", proof: str = "", issuer: str = ""
    ) -> None:
        """A certificate was signed for this node.

        Raises:
            Refused: the node was revoked meanwhile, and no token pays.
        """

        def change(now: Enrolment) -> Enrolment:
            if proof and now.is_revoked:
                raise _withdrawn(now)
            return now.issued(cert, issuer=issuer, token=token, address=address, proof=proof)

        await self._change(node, change)

    async def revoke(self, node: str, *, reason: str = "revoked by an administrator") -> bool:
        """Refuse every certificate of this node from now on; False when that is so already."""
        record = await self.get(node)
        if record is not None and record.is_revoked:
            return False
        await self._change(node, lambda now: replace(now, is_revoked=True, reason=reason))
        log.info("node.revoked", node=node, reason=reason)
        return True

    async def restore(self, node: str) -> bool:
        """Undo a revocation: the certificate that was live is so again. False when the node was not revoked."""
        record = await self.get(node)
        if record is None or not record.is_revoked:
            return False
        await self._change(node, lambda now: replace(now, is_revoked=False, reason=""))
        log.info("node.restored", node=node)
        return True

    async def is_good(self, node: str, fingerprint: str) -> bool:
        """Whether this certificate is the node's live or just replaced one."""
        record = await self.get(node)
        return record is not None and record.is_good(fingerprint)

    async def admit(self, node: str, certificate: PeerCertificate) -> None:
        """Hub's question: may this certificate act as this node?

        Raises:
            Refused: revoked, replaced, expired or not yet valid; with the remedy.
            Unavailable: the cluster cannot be asked now.
        """
        await self._check_record(node, certificate.fingerprint)
        now_s = self._clock.now_s()
        check_begun(node, certificate, now_s)
        if certificate.not_after_s and now_s >= certificate.not_after_s:
            raise Refused(
                f"the certificate of node {node} expired on {_date(certificate.not_after_s)}; this cloud's clock says "
                f"{_date(now_s)}",
                hint=f"its agent can renew it at the join port until {_date(certificate.not_after_s + GRACE_S)}; "
                f"after that join again: skerry token create --node {node}",
            )

    async def check_renewal(self, node: str, certificate: PeerCertificate) -> None:
        """The join server's question: may this certificate ask for its successor, also some time after its end?

        Raises:
            Refused: with the remedy.
        """
        await self._check_record(node, certificate.fingerprint)
        now_s = self._clock.now_s()
        check_begun(node, certificate, now_s)
        if certificate.not_after_s and now_s >= certificate.not_after_s + GRACE_S:
            raise Refused(
                f"the certificate of node {node} expired on {_date(certificate.not_after_s)}, more than "
                f"{GRACE_S / 86_400:.0f} days ago",
                hint=f"join again with a new token: skerry token create --node {node}",
            )

    async def connected(self, node: str, fingerprint: str) -> None:
        """Hub's news: the node has a session with this certificate. Uses its token up."""
        record = await self._cached(node)
        if record is None or not record.live:
            adopted = Enrolment(node, live=fingerprint, has_connected=True)
            record = await self._change(node, lambda now: adopted if not now.live and not now.is_revoked else now)
            if record == adopted:
                log.info("node.adopted", node=node, fingerprint=fingerprint)
                return
        if fingerprint != record.live or record.has_connected:
            return
        await self._change(node, lambda now: now.connected() if now.live == fingerprint else now)
        if record.token:
            await self._tokens.spend(record.token, node)

    def watch(
        self, node: str, fingerprint: str, on_revoked: Callable[[str], None]
    ) -> AbstractAsyncContextManager[None]:
        """Hub's and tunnel's wish: call ``on_revoked`` with the reason once this certificate is no longer good."""
        return _Watch(self, node, _Watched(fingerprint, on_revoked))

    def begin(self, node: str, entry: _Watched) -> None:
        """A session begins."""
        self._watched.setdefault(node, []).append(entry)
        if self._informer is not None:
            self._record_changed("", None, self._informer.get(node))

    def end(self, node: str, entry: _Watched) -> None:
        """It has ended."""
        self._watched[node].remove(entry)
        if not self._watched[node]:
            del self._watched[node]

    async def _cached(self, node: str) -> Enrolment | None:
        if self._informer is None or not self._informer.has_synced:
            return await self.get(node)
        found = self._informer.get(node)
        return record_of(found) if found is not None else None

    async def _check_record(self, node: str, fingerprint: str) -> None:
        """The cache may be a moment late, after a join at another replica: a refusal is checked with the cluster."""
        record = await self._cached(node)
        if record is None or not record.is_good(fingerprint):
            record = await self.get(node)
        if record is None or record.is_good(fingerprint):
            return
        if record.is_revoked:
            raise _withdrawn(record)
        if record.live or fingerprint in record.revoked:
            raise Refused(
                f"the certificate of node {node} has been revoked or replaced by a newer one",
                hint=f"join again with a new token: skerry token create --node {node}",
            )

    def _record_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        watched = self._watched.get(new["metadata"]["name"])
        if not watched:
            return
        record = record_of(new)
        for entry in tuple(watched):
            if record.is_revoked:
                entry.on_revoked(f"node {record.node} has been revoked: {record.reason or 'no reason given'}")
            elif record.live and not record.is_good(entry.fingerprint):
                entry.on_revoked("its certificate has been revoked, or replaced by a newer one")

    async def _change(self, node: str, change: Callable[[Enrolment], Enrolment]) -> Enrolment:
        """Make the record what ``change`` makes of it, whatever others do meanwhile; the record as it is then."""
        for _ in range(10):
            try:
                found = await self._api.get(ENROLMENTS, node)
            except NotFound:
                new = change(Enrolment(node))
                try:
                    await self._api.create(ENROLMENTS, object_of(new))
                    return new
                except AlreadyExists:
                    continue
            old = record_of(found)
            new = change(old)
            if new == old:
                return old
            try:
                await self._api.update(ENROLMENTS, object_of(new) | {"metadata": found["metadata"]})
                return new
            except Conflict:
                continue
        raise Unavailable(f"the enrolment record of node {node} is changed by others all the time")


def check_begun(node: str, certificate: PeerCertificate, now_s: float) -> None:
    """Whether the certificate's time has come.

    Raises:
        Refused: it has not; names the clocks.
    """
    if now_s < certificate.not_before_s:
        raise Refused(
            f"the certificate of node {node} is not yet valid: it begins on {_date(certificate.not_before_s)}, and "
            f"this cloud's clock says {_date(now_s)}",
            hint="set the cloud's clock (timedatectl set-ntp true)",
        )


def record_of(found: Object) -> Enrolment:
    """The record that an object holds; whatever is missing in it has its default."""
    spec, status = found.get("spec") or {}, found.get("status") or {}
    return Enrolment(
        node=found["metadata"]["name"],
        live=status.get("fingerprint") or "",
        expires_s=_seconds(status.get("notAfter") or ""),
        issuer=status.get("issuer") or "",
        token=status.get("token") or "",
        has_connected=bool(status.get("hasConnected")),
        replaced=status.get("replaced") or "",
        revoked=tuple(status.get("revoked") or ()),
        address=status.get("address") or "",
        is_revoked=bool(spec.get("revoked")),
        reason=spec.get("reason") or "",
    )


def object_of(record: Enrolment) -> Object:
    """The object that holds a record."""
    status = {
        "fingerprint": record.live,
        "notAfter": _date(record.expires_s) if record.expires_s else "",
        "issuer": record.issuer,
        "token": record.token,
        "hasConnected": record.has_connected,
        "replaced": record.replaced,
        "revoked": list(record.revoked),
        "address": record.address,
    }
    spec = {"revoked": record.is_revoked} | ({"reason": record.reason} if record.reason else {})
    return {
        "apiVersion": ENROLMENTS.api_version,
        "kind": ENROLMENTS.kind,
        "metadata": {"name": record.node},
        "spec": spec,
        "status": {key: value for key, value in status.items() if value},
    }


def _withdrawn(record: Enrolment) -> Refused:
    return Refused(
        f"node {record.node} has been revoked: {record.reason or 'no reason given'}",
        hint=f"join again with a new token (skerry token create --node {record.node}); or, if it was a mistake: "
        f"skerry node restore {record.node}",
    )


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0
