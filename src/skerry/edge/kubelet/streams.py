"""exec, attach and port-forward: a connection of the kubelet interface joined to the engine's streaming server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

from skerry.api.status import BadRequest, Unavailable
from skerry.base.aio.supervise import race
from skerry.base.net.http1 import request_head
from skerry.base.net.http_edge import EdgeRequest
from skerry.edge.kubelet.ports import NodePods
from skerry.runtime.ports import ContainerIO, EngineError, StreamWanted

_PIECE_BYTES = 32 * 1024
_CONNECT_S = 10.0

Takeover = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Streams:
    """Opens streams into this node's pods.

    Args:
        pods: finds containers and sandboxes.
        io: the engine.
    """

    def __init__(self, pods: NodePods, io: ContainerIO) -> None:
        self._pods = pods
        self._io = io

    async def open(self, request: EdgeRequest, kind: str, namespace: str, pod: str, container: str) -> Takeover:
        """Ask the engine, and connect; what is returned carries bytes until one side ends.

        Args:
            kind: ``exec``, ``attach`` or ``portForward``; a port-forward has no container.

        Raises:
            NotFound: no such pod.
            BadRequest: no upgrade, or the container does not run.
            Unavailable: the engine does not give the stream.
        """
        if "upgrade" not in request.headers:
            raise BadRequest("Upgrade request required")
        options = parse_qs(request.query)
        if kind == "portForward":
            target = await self._pods.sandbox(namespace, pod)
        else:
            target = await self._pods.running_container(namespace, pod, container)
        wanted = StreamWanted(
            kind=kind, target_id=target, command=tuple(options.get("command", ())), tty=_is_set(options, "tty"),
            stdin=_is_set(options, "input"), stdout=_is_set(options, "output"), stderr=_is_set(options, "error"),
        )  # fmt: skip
        try:
            url = await self._io.stream_url(wanted)
            reader, writer = await self._connect(url)
        except EngineError as exc:
            raise Unavailable(exc.explained()) from exc
        where = urlsplit(url)
        headers = {"Host": (where.netloc,)} | _grouped(request)
        writer.write(request_head(request.method, where.path, where.query, headers))
        return lambda theirs, ours: _join(theirs, ours, reader, writer)

    @staticmethod
    async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = urlsplit(url)
        if where.scheme not in ("http", "") or not where.hostname or not where.port:
            raise EngineError(
                f"the engine offers its streams at {where.scheme}://{where.netloc}",
                hint="let its streaming server listen on 127.0.0.1 without TLS",
            )
        try:
            async with asyncio.timeout(_CONNECT_S):
                return await asyncio.open_connection(where.hostname, where.port)
        except (OSError, TimeoutError) as exc:
            raise EngineError(f"the engine's streaming server at {where.netloc} does not answer: {exc}") from exc


def _grouped(request: EdgeRequest) -> dict[str, tuple[str, ...]]:
    """Headers with all of their values: a client names several protocols, one a line."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in request.all_headers:
        if name.lower() != "host":
            found[name] = (*found.get(name, ()), value)
    return found


def _is_set(options: dict[str, list[str]], name: str) -> bool:
    return options.get(name, [""])[0].lower() in ("1", "true")


async def _join(
    theirs: asyncio.StreamReader, ours: asyncio.StreamWriter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        await race(_carry(theirs, writer), _carry(reader, ours))
    finally:
        writer.close()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_PIECE_BYTES):
        target.write(data)
        await target.drain()
