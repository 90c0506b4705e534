"""``kube.ports.NodeConnector`` over tunnels.

Every request goes as an EXEC stream whose bytes are a whole HTTP/1.1 answer, so that status and headers of the node's
kubelet interface arrive unchanged; KubeEdge's LOGS stream would lose both. A Go edgecore serves it as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from skerry.api.status import ServerTimeout, Unavailable
from skerry.base.net.http1 import AnswerReader, BadAnswer
from skerry.cloud.tunnel.sessions import Tunnels, TunnelStream
from skerry.kube.ports import ByteStream, KubeletRequest
from skerry.wire.kubeedge.tunnel import KUBELET_HOST, FrameType, StreamRequest

_HEAD_TIMEOUT_S = 30.0


class TunnelAnswer:
    """A streamed answer: ``kube.ports.KubeletResponse``."""

    def __init__(self, stream: TunnelStream, reader: AnswerReader, first: list[bytes], node: str) -> None:
        assert reader.head is not None
        self.status = reader.head.status
        self.headers: Mapping[str, str] = reader.head.headers
        self._stream = stream
        self._reader = reader
        self._first = first
        self._node = node

    async def body(self) -> AsyncIterator[bytes]:
        """Pieces of the body as they come."""
        pieces = self._first
        while True:
            for piece in pieces:
                yield piece
            if self._reader.is_complete:
                return
            pieces = await _feed(self._stream, self._reader, self._node)


class TunnelConnector:
    """Reaches nodes through the tunnels of this process."""

    def __init__(self, tunnels: Tunnels) -> None:
        self._tunnels = tunnels

    @asynccontextmanager
    async def request(self, node: str, request: KubeletRequest) -> AsyncIterator[TunnelAnswer]:
        """One request with a streamed answer."""
        headers = {name: values for name, values in _grouped(request).items() if name.lower() != "connection"}
        headers |= {"Host": (KUBELET_HOST,), "Connection": ("close",)}
        stream = self._open(node, request, headers)
        try:
            yield await self._answer(stream, node, request.method)
        finally:
            await stream.close()

    @asynccontextmanager
    async def upgrade(self, node: str, request: KubeletRequest) -> AsyncIterator[ByteStream]:
        """Raw bytes, beginning with the kubelet interface's answer head."""
        headers = _grouped(request) | {"Host": (KUBELET_HOST,)}
        stream = self._open(node, request, headers)
        try:
            yield stream
        finally:
            await stream.close()

    def _open(self, node: str, request: KubeletRequest, headers: Mapping[str, tuple[str, ...]]) -> TunnelStream:
        wanted = StreamRequest(path=request.path, query=request.query, method=request.method, headers=headers)
        return self._tunnels.find(node).open(FrameType.EXEC_CONNECT, wanted)

    async def _answer(self, stream: TunnelStream, node: str, method: str) -> TunnelAnswer:
        reader = AnswerReader(method)
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                while reader.head is None:
                    first = await _feed(stream, reader, node)
                return TunnelAnswer(stream, reader, first, node)
        except TimeoutError as exc:
            raise ServerTimeout(f'node "{node}" did not answer within {_HEAD_TIMEOUT_S:.0f} s') from exc


def _grouped(request: KubeletRequest) -> dict[str, tuple[str, ...]]:
    return {name: (value,) if isinstance(value, str) else value for name, value in request.headers.items()}


async def _feed(stream: TunnelStream, reader: AnswerReader, node: str) -> list[bytes]:
    try:
        data = await stream.read()
        pieces = reader.feed(data)
    except BadAnswer as exc:
        raise Unavailable(f'node "{node}": {exc}') from exc
    if not data and reader.head is None:
        raise Unavailable(f'node "{node}" ended the stream without an answer')
    return pieces
