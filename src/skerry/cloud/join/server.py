"""The door of port 10002: CA, certificates, node check, and a greeting for the checks before a join.

``GET /ca.crt``            the CA certificate, DER. No authentication: the token's hash is the proof. With
                           ``?sha256=HASH`` that trusted authority, if there is one (tokens older than a rollover).
``GET /edge.crt``          body: certificate request, DER; answer: certificate, DER. By token, or by the certificate
                           that it replaces. Of the request only the key counts: subject and usage are ours.
``GET /node/{name}``       200 "Node found" or 404 "Node not found", as keadm asks before it joins.
``GET /skerry/v1/hello``   JSON ``{"name": "skerry", "version", "cluster", "time_s", "node_address", "ports",
                           "advertise", "hubs", "joins", "tunnels"}``. With the headers of ``/edge.crt`` and a token
                           also ``"token": {"cause", "hint"}``: why it could not be used now, empty when it could.

Refusals are plain text with cause and remedy in one line; each is logged once a minute and address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from skerry.api.gvk import NODES
from skerry.api.status import ApiError, NotFound
from skerry.base import json
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.certificates import Certifier, CertifierFailed, RequestInfo, X509Error, fingerprint
from skerry.base.errors import Refused, SkerryError
from skerry.base.net.http_server import BodyTooLarge, BodyTooSlow, HttpRequest, HttpResponse
from skerry.base.obs.log import get_log
from skerry.cloud.join.ca import Authority
from skerry.cloud.join.enrolments import GRACE_S, Enrolments
from skerry.cloud.join.tokens import JoinTokens, Token, TokenRefused
from skerry.cloud.refusals import FailureLimit, Refusals
from skerry.kube.ports import KubeApi
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import join

log = get_log(__name__)

CERT_DAYS = 365


class _Answer(SkerryError):
    """A refusal with its HTTP status."""

    def __init__(self, status: int, message: str, *, hint: str = "", is_guess: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.is_guess = is_guess


class JoinServer:
    """Answers the requests of port 10002; pass ``handle`` to an ``HttpServer`` with optional client certificates.

    Args:
        api: the cluster.
        authority: the present CA that signs.
        tokens, enrolments: who may have a certificate, and who has.
        greeting: members of ``hello`` beside name and time.
        certs: reads requests and signs.
        clock: time source.
        cert_days: validity of node certificates.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        authority: Callable[[], Authority],
        tokens: JoinTokens,
        enrolments: Enrolments,
        greeting: Callable[[], dict[str, Any]],
        certs: Certifier,
        clock: Clock | None = None,
        cert_days: int = CERT_DAYS,
    ) -> None:
        self._api = api
        self._authority = authority
        self._tokens = tokens
        self._enrolments = enrolments
        self._greeting = greeting
        self._certs = certs
        self._clock = clock or SystemClock()
        self._cert_days = cert_days
        self.refusals = Refusals(self._clock)
        self._guesses = FailureLimit(self._clock)
        self._probes = FailureLimit(self._clock, burst=100, refill_s=0.5)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """One request."""
        try:
            return await self._route(request)
        except _Answer as exc:
            return self._refuse(request, exc)
        except ApiError as exc:
            log.warning("join.cluster_failed", error=exc.message, address=request.address)
            return _text(503, "the cloud cannot reach its cluster now; try again in a few seconds")
        except CertifierFailed as exc:
            log.error("join.certifier_failed", error=str(exc), hint=exc.hint, address=request.address)
            return _text(503, "the cloud cannot sign certificates now; try again in a few seconds")

    async def _route(self, request: HttpRequest) -> HttpResponse:
        if request.method != "GET":
            raise _Answer(405, f"method {request.method} is not served here", hint="use GET")
        if request.path == join.PATH_CA:
            return HttpResponse(200, self._ca(request), "application/octet-stream")
        if request.path == join.PATH_CERTIFICATE:
            return HttpResponse(200, await self._certificate(request), "application/octet-stream")
        if request.path == join.PATH_HELLO:
            return HttpResponse(200, json.dumps(self._hello(request) | await self._judged(request)))
        if request.path.startswith(join.PATH_NODE):
            return await self._node(request)
        return _text(404, "not found; this is the join port of a KubeEdge-compatible cloud")

    def _ca(self, request: HttpRequest) -> bytes:
        """The present authority; or, for a token made before a rollover, the older one that it pins."""
        authority = self._authority()
        pinned = request.query.removeprefix("sha256=")
        found = next((der for der in authority.trusted if join.ca_hash(der) == pinned), None)
        return found or authority.ca.cert_der

    def _hello(self, request: HttpRequest) -> dict[str, Any]:
        return {"name": "skerry", "time_s": self._clock.now_s(), "node_address": request.address} | self._greeting()

    async def _judged(self, request: HttpRequest) -> dict[str, Any]:
        """What would become of the token that was sent, if one was; nothing is used up."""
        if not request.headers.get("Authorization"):
            return {}
        self._wait(self._guesses, request.address)
        try:
            asked = join.parse_request(dict(request.headers))
            await self._judge(asked)
        except (Refused, ProtocolError) as exc:
            if not isinstance(exc, TokenRefused) or exc.is_guess:
                self._guesses.failed(request.address)
            return {"token": {"cause": str(exc), "hint": exc.hint}}
        return {"token": {"cause": "", "hint": ""}}

    async def _judge(self, asked: join.CertificateRequest) -> Token:
        """The token that was sent, when it may enrol this node now.

        Raises:
            TokenRefused, Refused: it may not.
        """
        token = await self._tokens.check(asked.jwt, asked.node)
        if not token.node:
            await self._check_free(token, asked.node)
        return token

    async def _node(self, request: HttpRequest) -> HttpResponse:
        self._wait(self._probes, request.address)
        self._probes.failed(request.address)
        name = request.path.removeprefix(join.PATH_NODE)
        try:
            join.check_node_name(name)
            await self._api.get(NODES, name)
        except (NotFound, ProtocolError):
            return _text(404, "Node not found")
        return _text(200, "Node found")

    async def _certificate(self, request: HttpRequest) -> bytes:
        if request.peer is None or request.headers.get("Authorization"):
            # A certificate is no guess: nodes behind the address of a guesser go on renewing theirs.
            self._wait(self._guesses, request.address)
        try:
            asked = join.parse_request(dict(request.headers))
            csr = await request.body(limit_bytes=join.MAX_CSR_BYTES)
            token = await self._prove(request, asked)
            _check_csr(await self._certs.read_csr(csr), asked.node)  # a stranger's request is not read
        except (ProtocolError, X509Error) as exc:
            raise _Answer(400, str(exc), hint=exc.hint) from exc
        except BodyTooLarge as exc:
            raise _Answer(413, str(exc)) from exc
        except BodyTooSlow as exc:
            raise _Answer(408, str(exc)) from exc
        if token:
            with _answered():
                await self._tokens.take(token, asked.node)
        authority = self._authority()
        cert = await self._certs.sign_csr(
            authority.ca,
            csr,
            common_name=join.common_name(asked.node),
            organizations=(c.CERT_ORGANIZATION,),
            days=self._cert_days,
            now_s=self._clock.now_s(),
        )
        with _answered():
            await self._enrolments.issued(
                asked.node,
                await self._certs.read_certificate(cert),
                token=token.id if token else "",
                address=request.address,
                proof="" if token or request.peer is None else request.peer.fingerprint,
                issuer=fingerprint(authority.ca.cert_der),
            )
        log.info(
            "join.certificate_issued",
            node=asked.node,
            address=request.address,
            fingerprint=fingerprint(cert),
            by=f"id {token.id}" if token else "certificate",
        )
        return cert

    async def _prove(self, request: HttpRequest, asked: join.CertificateRequest) -> Token | None:
        """The token that will pay for the certificate, or None when the present certificate does."""
        if asked.jwt:
            with _answered():
                return await self._judge(asked)
        peer = request.peer
        if peer is None:
            raise _Answer(
                401, "neither a token nor a client certificate was given", hint="send Authorization: Bearer <token>"
            )
        if join.node_of_subject(peer.common_name, peer.organizations) != asked.node:
            raise _Answer(
                403,
                f"the client certificate ({peer.common_name}) may not ask for a certificate of node {asked.node}",
                hint="a certificate renews only its own node; join with a token of that node instead",
            )
        with _answered():
            await self._enrolments.check_renewal(asked.node, peer)
        return None

    async def _check_free(self, token: Token, node: str) -> None:
        """A token for any node must not take over one that exists."""
        record = await self._enrolments.get(node)
        if record is not None and record.is_revoked:
            raise _taken(node, "has been revoked,")
        if record is not None and record.token == token.id and not record.has_connected:
            return
        if record is not None and record.live and not 0 < record.expires_s + GRACE_S <= self._clock.now_s():
            raise _taken(node, "holds a certificate already,")
        try:
            await self._api.get(NODES, node)
        except NotFound:
            return
        raise _taken(node, "exists already,")

    def _wait(self, limit: FailureLimit, address: str) -> None:
        wait_s = limit.wait_s(address)
        if wait_s > 0:
            raise _Answer(429, "too many failed requests from this address", hint=f"try again in {int(wait_s) + 1} s")

    def _refuse(self, request: HttpRequest, answer: _Answer) -> HttpResponse:
        if answer.is_guess or answer.status in (401, 403):
            self._guesses.failed(request.address)
        event = "join.slowed_down" if answer.status == 429 else "join.refused"
        node = request.headers.get(c.HEADER_NODE_NAME, "")[:80]
        self.refusals.note(event, request.address, status=answer.status, node=node, cause=str(answer))
        headers = [("Retry-After", "6")] if answer.status == 429 else []
        return _text(answer.status, answer.explained(), headers)


@contextmanager
def _answered() -> Iterator[None]:
    """Refusals become the join port's answers."""
    try:
        yield
    except TokenRefused as exc:
        raise _Answer(401, f"token validation failure, {exc}", hint=exc.hint, is_guess=exc.is_guess) from exc
    except Refused as exc:
        raise _Answer(403, str(exc), hint=exc.hint) from exc


def _check_csr(csr: RequestInfo, node: str) -> None:
    """The request must ask for what it gets, so that nobody believes to have got more.

    Raises:
        _Answer: another subject, or alternative names.
    """
    if csr.names:
        raise _Answer(
            403,
            f"the certificate request asks for alternative names ({', '.join(csr.names)[:120]})",
            hint="a node's certificate has none; leave them out",
        )
    if csr.common_name != join.common_name(node) or csr.organizations != (c.CERT_ORGANIZATION,):
        raise _Answer(
            403,
            f"the certificate request is for CN={csr.common_name[:120]!r} O={list(csr.organizations)[:4]}, "
            f"but the header {c.HEADER_NODE_NAME} says {node}",
            hint=f"ask for CN={join.common_name(node)}, O={c.CERT_ORGANIZATION}",
        )


def _taken(node: str, why: str) -> Refused:
    return Refused(
        f"node {node} {why} and this token is not bound to that name",
        hint=f"choose another name, or take it over on purpose: skerry token create --node {node}",
    )


def _text(status: int, text: str, headers: list[tuple[str, str]] | None = None) -> HttpResponse:
    return HttpResponse(status, text.encode() + b"\n", "text/plain; charset=utf-8", headers or [])
