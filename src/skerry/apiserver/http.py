"""The API server's HTTPS door: request line → identity → call → answer in the form that the client takes."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterable
from pathlib import Path

from skerry.api.status import (
    ApiError,
    Gone,
    InternalError,
    MethodNotAllowed,
    ServerTimeout,
    TooLargeBody,
    TooManyRequests,
)
from skerry.apiserver.audit import AuditLog, Trace
from skerry.apiserver.auth.authn import Authenticator, User
from skerry.apiserver.auth.impersonation import impersonated
from skerry.apiserver.calls import Answer, Call
from skerry.apiserver.core import ApiCore, attributes
from skerry.apiserver.handlers import bodies
from skerry.apiserver.handlers.discovery import Discovery, Document
from skerry.apiserver.handlers.lists import list_options
from skerry.apiserver.handlers.pod_streams import SUBRESOURCES as STREAMED
from skerry.apiserver.handlers.pod_streams import PodStreams
from skerry.apiserver.handlers.pod_subresources import PodLogs
from skerry.apiserver.handlers.proxy import Proxy
from skerry.apiserver.handlers.render import Form, Renderer, negotiate, wants_pretty
from skerry.apiserver.request_info import RequestInfo, parse, write_options
from skerry.apiserver.room import Room
from skerry.base import json
from skerry.base.errors import StoreError
from skerry.base.net.http_server import (
    BodyTooLarge,
    BodyTooSlow,
    ClientGone,
    HttpLimits,
    HttpRequest,
    HttpResponse,
    HttpServer,
    server_tls,
)
from skerry.base.obs.log import get_log
from skerry.base.obs.metrics import CONTENT_TYPE as METRICS_TYPE
from skerry.base.obs.metrics import Metric, Registry
from skerry.kube.ports import NodeConnector

log = get_log(__name__)

MAX_BODY_BYTES = 3 * 1024 * 1024
BODY_ROOM_BYTES = 64 * 1024 * 1024
ANSWER_ROOM_BYTES = 256 * 1024 * 1024
LARGE_ANSWER_BYTES = 1024 * 1024
LARGE_ANSWER_SLICE_BYTES = 256 * 1024
_WARNING_LIMIT = 4096
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HEALTH = ("/healthz", "/livez", "/readyz")
_OPEN_PATHS = ("/.well-known/openid-configuration", "/openid/v1/jwks")
VERSION = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+skerry",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "cpython",
    "platform": "linux/amd64",
}


class ApiServer:
    """Serves an ``ApiCore`` over HTTPS.

    Args:
        core: started and closed by the caller.
        nodes: reaches nodes for logs; None answers that there are none.
        allow_anonymous: False answers 401 to requests without credentials.
        metrics: what ``/metrics`` serves; requests are counted in it.
        audit: is told of every write; started and closed by the caller.
        body_room_bytes, answer_room_bytes: most bytes of request bodies, and of large answers, held at once.
        dials_itself: whether ``proxy`` may reach loopback addresses, which nodes could report for their pods.
    """

    def __init__(
        self,
        core: ApiCore,
        *,
        nodes: NodeConnector | None = None,
        allow_anonymous: bool = True,
        metrics: Registry | None = None,
        dials_itself: bool = False,
        audit: AuditLog | None = None,
        body_room_bytes: int = BODY_ROOM_BYTES,
        answer_room_bytes: int = ANSWER_ROOM_BYTES,
    ) -> None:
        self._core = core
        self._bodies = Room("request bodies", limit_bytes=body_room_bytes)
        self._answers = Room("large answers", limit_bytes=answer_room_bytes)
        self._audit = audit
        self._metrics = metrics or Registry()
        self._requests = request_counter(self._metrics)
        self._authenticator = Authenticator(checks=core.token_checks, allow_anonymous=allow_anonymous)
        self._discovery = Discovery(registry=core.registry, semantics=core.semantics, version=VERSION)
        self._renderer = Renderer(semantics=core.semantics, now_s=core.clock.now_s)
        self._logs = PodLogs(core, nodes=nodes)
        self._streams = PodStreams(core, nodes=nodes)
        self._proxy = Proxy(core, nodes=nodes, dials_itself=dials_itself)
        limits = HttpLimits(max_body_bytes=MAX_BODY_BYTES)
        self._server = HttpServer(self._handle, name="apiserver", limits=limits)

    async def listen(self, host: str, port: int, *, cert_file: Path, key_file: Path, client_ca_file: Path) -> int:
        """Listen with TLS; returns the port."""
        tls = server_tls(cert_file=cert_file, key_file=key_file, client_ca_file=client_ca_file)
        return await self.listen_with(host, port, tls=tls)

    async def listen_with(self, host: str, port: int, *, tls: ssl.SSLContext | None) -> int:
        """Listen with this TLS context, or in the clear for tests and loopback proxies."""
        return await self._server.listen(host, port, tls=tls)

    async def aclose(self) -> None:
        """Stop listening; running watches end in order."""
        await self._server.aclose()

    async def _handle(self, request: HttpRequest) -> HttpResponse | None:
        started = time.monotonic()
        trace, reason = Trace(), ""
        try:
            response = await self._answer(request, trace)
        except ApiError as exc:
            response, reason = failure(exc), exc.reason
        except BodyTooLarge as exc:
            response = failure(TooLargeBody(f"Request entity too large: limit is {MAX_BODY_BYTES}", hint=str(exc)))
        except BodyTooSlow as exc:
            response = failure(ServerTimeout(str(exc)))
        except StoreError as exc:
            log.error("api.store_failed", hint=exc.hint, error=str(exc))
            response = failure(InternalError(f"the server's database failed: {exc}"))
        status = response.status if response is not None else 200
        self._requests.add(1, request.method if request.method in _METHODS else "other", str(status))
        if self._audit is not None and trace.is_audited:
            self._audit.note(
                trace, address=request.address, agent=request.headers.get("User-Agent", ""), status=status,
                reason=reason, took_s=time.monotonic() - started,
            )  # fmt: skip
        if log.is_debug:
            took_ms = round((time.monotonic() - started) * 1000, 1)
            log.debug("api.request", method=request.method, path=request.path, status=status, took_ms=took_ms)
        return response

    async def _answer(self, request: HttpRequest, trace: Trace) -> HttpResponse | None:
        info = trace.info = parse(request.method, request.path, request.query)
        caller = trace.caller = await self._authenticator.identify(
            request.peer, request.headers.get("Authorization", "")
        )
        user = trace.user = impersonated(caller, request.headers, self._core.access.require)
        if not info.is_resource:
            return self._other(request, info, user)
        known = self._core.registry.group_versions().get(info.group)
        if known is None or info.version not in known:
            self._core.access.require(attributes(user, info))
            return not_found_page()
        options = write_options(info, user_agent=request.headers.get("User-Agent", ""))
        call = self._core.call(user, info, options)
        if info.subresource == "log":
            return await self._logs.serve(request, call)
        if info.subresource in STREAMED:
            trace.annotations = call.annotations
            await self._streams.serve(request, call)
            return None
        if info.subresource == "proxy":
            return await self._proxy.serve(request, call)
        form = self._form(request, call)
        if info.verb == "watch":
            return await self._watch(request, call, form)
        announced = request.body_bytes
        with self._bodies.take(MAX_BODY_BYTES if announced is None else min(announced, MAX_BODY_BYTES)):
            return await self._verb(request, call, form, trace)

    def _form(self, request: HttpRequest, call: Call) -> Form:
        accept = request.headers.get("Accept", "")
        if call.kind.verbs == ("create",):  # a review has no metadata to show apart, and no table
            accept = ",".join(part for part in accept.split(",") if "as=" not in part) or "none"
        return negotiate(accept)

    async def _verb(self, request: HttpRequest, call: Call, form: Form, trace: Trace) -> HttpResponse | None:
        trace.annotations = call.annotations
        core, info = self._core, call.info
        match info.verb:
            case "get":
                answer = await core.get(call)
            case "list":
                return await self._list(request, call, form)
            case "create":
                answer = await core.create(call, await self._body(request, call))
            case "update":
                answer = await core.update(call, await self._body(request, call))
            case "patch":
                patch = await bodies.decode_patch_fairly(
                    await request.body(),
                    request.headers.get("Content-Type", ""),
                    is_custom=call.kind.custom is not None,
                )
                call.duplicates.extend(patch.duplicates)
                answer = await core.patch(call, patch.type, patch.document)
            case "delete":
                answer = await core.delete(call, await self._delete_options(request, info))
            case "deletecollection":
                options = await self._delete_options(request, info)
                listed = await core.delete_collection(call, list_options(info), options)
                return self._respond(request, call, await self._renderer.page(call, listed, form), form)
            case _:
                raise MethodNotAllowed("the server does not allow this method on the requested resource", details={})
        if answer.entry is not None:
            trace.name = answer.entry.key.name
        return self._object(request, call, answer, form)

    async def _list(self, request: HttpRequest, call: Call, form: Form) -> HttpResponse | None:
        listed = await self._core.list(call, list_options(call.info))
        is_pretty = _pretty(request, call.info)
        size_bytes = sum(len(entry.body) for entry in listed.entries)
        if size_bytes < LARGE_ANSWER_BYTES or request.method == "HEAD":
            return self._respond(
                request, call, await self._renderer.page(call, listed, form, is_pretty=is_pretty), form
            )
        with self._answers.take(size_bytes):
            body = await self._renderer.page(call, listed, form, is_pretty=is_pretty)
            headers = self._headers(call)
            with contextlib.suppress(ClientGone):
                async with request.stream(200, content_type=form.content_type, headers=headers) as out:
                    await out.write(body, slice_bytes=LARGE_ANSWER_SLICE_BYTES)
        return None

    def _object(self, request: HttpRequest, call: Call, answer: Answer, form: Form) -> HttpResponse:
        body = self._renderer.answer(call, answer, form, is_pretty=_pretty(request, call.info))
        return self._respond(request, call, body, form, status=answer.status)

    @staticmethod
    def _respond(request: HttpRequest, call: Call, body: bytes, form: Form, *, status: int = 200) -> HttpResponse:
        headers = ApiServer._headers(call)
        return HttpResponse(status, b"" if request.method == "HEAD" else body, form.content_type, headers)

    @staticmethod
    def _headers(call: Call) -> list[tuple[str, str]]:
        return [("Cache-Control", "no-cache, private"), *warning_headers(call.warnings)]

    async def _body(self, request: HttpRequest, call: Call) -> dict[str, object]:
        resource = call.kind.resource
        sub = call.kind.subresource(call.info.subresource)
        expects = sub.kind if sub is not None and sub.kind else resource.kind
        body = await bodies.decode_fairly(
            await request.body(),
            request.headers.get("Content-Type", ""),
            expects=expects,
            has_protobuf=call.kind.custom is None,
        )
        call.duplicates.extend(body.duplicates)
        return body.content

    @staticmethod
    async def _delete_options(request: HttpRequest, info: RequestInfo) -> bodies.DeleteOptions:
        data = await request.body()
        body = None
        if data.strip():
            content_type = request.headers.get("Content-Type", "")
            body = (await bodies.decode_fairly(data, content_type, expects="DeleteOptions")).content
        return bodies.delete_options(body, dict(info.lists))

    async def _watch(self, request: HttpRequest, call: Call, form: Form) -> HttpResponse | None:
        watch = self._core.watch(call, list_options(call.info), on_stop=request.on_gone)
        render, is_first = self._renderer.events, True
        headers = [("Cache-Control", "no-cache, private")]
        try:
            async with request.stream(200, content_type="application/json", headers=headers) as out:
                out.be_patient()
                try:
                    async for steps in watch:
                        await out.write(render(call, steps, form, is_first=is_first))
                        if is_first:
                            is_first = False
                            watch.pass_to(lambda later: out.write_now(render(call, later, form, is_first=False)))
                except Gone as exc:
                    status = json.dumps(exc.to_status())
                    await out.write(b'{"type":"ERROR","object":%b}\n' % status)
        except ClientGone as exc:
            if log.is_debug:
                log.debug("watch.gone", path=request.path, why=str(exc))
        finally:
            watch.close()
        return None

    def _other(self, request: HttpRequest, info: RequestInfo, user: User) -> HttpResponse:
        self._core.access.require(attributes(user, info))
        path = request.path.rstrip("/")
        if info.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("the server does not allow this method on the requested resource", details={})
        if path.startswith(_HEALTH):
            return HttpResponse(200, b"ok", "text/plain; charset=utf-8")
        if path == "/metrics":
            return HttpResponse(200, self._metrics.text().encode(), METRICS_TYPE)
        if path in _OPEN_PATHS:
            return self._issuer(path)
        host, port = request.local_address
        document = self._discovery.answer(
            path, accept=request.headers.get("Accept", ""), address=request.headers.get("Host") or f"{host}:{port}"
        )
        if document is None:
            return not_found_page()
        return _from_document(document, request.headers.get("If-None-Match", ""), info)

    def _issuer(self, path: str) -> HttpResponse:
        if path == _OPEN_PATHS[1]:
            return HttpResponse(200, json.dumps(self._core.tokens.key.jwks()), "application/jwk-set+json")
        issuer = self._core.tokens.issuer
        return HttpResponse(
            200,
            json.dumps(
                {
                    "issuer": issuer,
                    "jwks_uri": f"{issuer}/openid/v1/jwks",
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            ),
        )


def request_counter(registry: Registry) -> Metric:
    """Add the metric that counts requests."""
    return registry.counter("skerry_api_requests_total", "Requests answered; a watch when it ends.", "method", "code")


def failure(exc: ApiError) -> HttpResponse:
    """The Status of an error."""
    headers = []
    if isinstance(exc, TooManyRequests | ServerTimeout):
        headers.append(("Retry-After", "1"))
    return HttpResponse(exc.code, json.dumps(exc.to_status()), headers=headers)


def not_found_page() -> HttpResponse:
    """What unknown paths answer."""
    return HttpResponse(404, b"404 page not found\n", "text/plain; charset=utf-8")


def warning_headers(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Warning headers, each text once, 4096 characters in all."""
    left, headers = _WARNING_LIMIT, []
    for text in dict.fromkeys(texts):
        text = " ".join(text.split())[:left]
        if not text:
            break
        left -= len(text)
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        headers.append(("Warning", f'299 - "{escaped}"'))
    return headers


def _from_document(document: Document, none_match: str, info: RequestInfo) -> HttpResponse:
    headers = list(document.headers)
    if document.etag:
        headers.append(("ETag", document.etag))
        if none_match == document.etag:
            return HttpResponse(304, b"", "", headers)
    if info.query.get("hash") and document.etag == f'"{info.query["hash"]}"':
        headers.append(("Cache-Control", "public, immutable"))
    return HttpResponse(200, document.body, document.content_type, headers)


def _pretty(request: HttpRequest, info: RequestInfo) -> bool:
    return wants_pretty(info.query.get("pretty"), request.headers.get("User-Agent", ""))
