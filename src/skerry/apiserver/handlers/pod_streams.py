"""``pods/exec``, ``pods/attach`` and ``pods/portforward``: the client's connection joined to the node's.

Nothing of the streams is understood here: after admission the request goes to the node's kubelet interface with its
upgrade headers, and bytes are carried both ways until one side ends. SPDY/3.1, and WebSocket as engines speak it.

Source: kubernetes pkg/registry/core/pod/rest/subresources.go, pkg/kubelet/server/server.go (v1.36).
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

from skerry.api.gvk import Object
from skerry.api.status import BadRequest, ServerTimeout, Unavailable
from skerry.apiserver.admission.request import AdmissionRequest
from skerry.apiserver.calls import Call
from skerry.apiserver.core import ApiCore, attributes
from skerry.apiserver.handlers.pod_subresources import choose_container, kubelet_error
from skerry.base.aio.supervise import race
from skerry.base.net.http1 import AnswerReader, BadAnswer
from skerry.base.net.http_server import ClientGone, HttpRequest
from skerry.base.obs.log import get_log
from skerry.base.values import replace
from skerry.kube.ports import ByteStream, KubeletRequest, NodeConnector

log = get_log(__name__)

SUBRESOURCES = {"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}
_STREAMS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
"""Our names and the kubelet interface's."""
_PASSED = ("Connection", "Upgrade", "X-Stream-Protocol-Version", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
           "Sec-WebSocket-Protocol", "Origin")  # fmt: skip
_WEBSOCKET_PROTOCOLS = {
    "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io",
    "portforward.k8s.io", "v4.channel.portforward.k8s.io",
}  # fmt: skip
_ANSWER_S, _HEAD_BYTES, _SAID_BYTES = 30.0, 64 * 1024, 4096


class PodStreams:
    """Joins clients and pods.

    Args:
        core: finds pods; admission.
        nodes: reaches kubelet interfaces; None when this server has no nodes.
    """

    def __init__(self, core: ApiCore, *, nodes: NodeConnector | None) -> None:
        self._core = core
        self._nodes = nodes

    async def serve(self, request: HttpRequest, call: Call) -> None:
        """Answer one request; returns when the streams have ended.

        Raises:
            Forbidden: the user, a policy or a webhook says no.
            BadRequest: no upgrade, no such container, the pod does not run.
            Unavailable: the node cannot be reached.
        """
        if call.info.verb == "get":  # by WebSocket; a read must not be enough
            self._core.access.require(attributes(call.user, replace(call.info, verb="create")))
        pod = self._core.objects.find(call).content()
        options = _options(call, pod)
        admission = AdmissionRequest(
            call.user, call.kind, "connect", call.info.subresource, call.namespace, call.name, options,
            warnings=call.warnings, annotations=call.annotations, own=("", "v1", SUBRESOURCES[call.info.subresource]),
        )  # fmt: skip
        await self._core.admission.connect(admission)
        asked = _kubelet_request(request, call, admission.obj)
        node = str((pod.get("spec") or {}).get("nodeName") or "")
        if not node:
            raise BadRequest(f"pod {call.name} does not have a host assigned")
        if self._nodes is None:
            raise Unavailable(f'node "{node}" cannot be reached: this server has no connection to nodes')
        async with self._nodes.upgrade(node, asked) as stream:
            first = await _switched(stream, node)
            try:
                async with request.hijack() as client:
                    await client.write(first)
                    await race(_carry(client, stream), _carry(stream, client))
            except (ClientGone, Unavailable) as exc:
                log.debug("stream.ended", path=request.path, why=str(exc))


def _options(call: Call, pod: Object) -> Object:
    """What admission sees."""
    kind, query, lists = SUBRESOURCES[call.info.subresource], call.info.query, call.info.lists
    found: dict[str, Any] = {"kind": kind, "apiVersion": "v1"}
    if call.info.subresource == "portforward":
        return found | {"ports": [int(port) for port in lists.get("ports", []) if port.isdigit()]}
    if call.info.subresource == "exec":
        if not lists.get("command"):
            raise BadRequest("you must specify at least 1 command for the container")
        found["command"] = list(lists["command"])
    found |= {name: query.get(name, "").lower() in ("1", "true") for name in _STREAMS}
    return found | {"container": choose_container(pod, query.get("container", ""))}


def _kubelet_request(request: HttpRequest, call: Call, options: Object) -> KubeletRequest:
    upgrade = request.headers.get("Upgrade", "").lower()
    if "upgrade" not in request.headers.get("Connection", "").lower() or not upgrade:
        raise BadRequest("Upgrade request required")
    offered = {name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()}
    if upgrade == "websocket" and offered and not offered & _WEBSOCKET_PROTOCOLS:
        raise BadRequest(f"unable to upgrade: no engine speaks {', '.join(sorted(offered))}; use SPDY/3.1")
    headers = {name: tuple(request.headers.getall(name, ())) for name in _PASSED}
    headers = {name: values for name, values in headers.items() if values}
    where = f"{call.namespace}/{call.name}"
    if call.info.subresource == "portforward":
        query = urlencode([("port", port) for port in options.get("ports") or ()])
        return KubeletRequest(request.method, f"/portForward/{where}", query, headers)
    words = [("command", word) for word in options.get("command") or ()]
    words += [(theirs, "1") for ours, theirs in _STREAMS.items() if options.get(ours)]
    path = f"/{call.info.subresource}/{where}/{options['container']}"
    return KubeletRequest(request.method, path, urlencode(words), headers)


async def _switched(stream: ByteStream, node: str) -> bytes:
    """The beginning of the node's answer, which switches protocols.

    Raises:
        ApiError: it does not; in the node's words.
    """
    try:
        async with asyncio.timeout(_ANSWER_S):
            data = b""
            while b"\r\n\r\n" not in data and len(data) < _HEAD_BYTES:
                data += await _more(stream, node)
            if data.split(b" ", 2)[1:2] == [b"101"]:
                return data
            reader, text = AnswerReader("GET"), b""
            pieces = reader.feed(data)
            while len(text) < _SAID_BYTES and not reader.is_complete:
                text += b"".join(pieces)
                pieces = reader.feed(await _more(stream, node))
    except TimeoutError as exc:
        raise ServerTimeout(f'node "{node}" did not answer within {_ANSWER_S:.0f} s') from exc
    except BadAnswer as exc:
        raise Unavailable(f'node "{node}": {exc}') from exc
    text += b"".join(pieces)
    status = reader.head.status if reader.head is not None else 502
    raise kubelet_error(status, text[:_SAID_BYTES].decode(errors="replace").strip())


async def _more(stream: ByteStream, node: str) -> bytes:
    if data := await stream.read():
        return data
    raise Unavailable(f'node "{node}" ended the stream without an answer')


async def _carry(source: ByteStream, target: ByteStream) -> None:
    while data := await source.read():
        await target.write(data)
