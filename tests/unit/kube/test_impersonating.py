"""Requests in another's name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from skerry.api.gvk import NODES
from skerry.kube import requests
from skerry.kube.http import Impersonating
from skerry.kube.requests import Request, Response, ResponseStream


class Recorder:
    """A ``Transport`` that keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.seen.append(request)
        return Response(200, b"{}")

    @asynccontextmanager
    async def stream(self, request: Request, *, read_s: float | None = None) -> AsyncIterator[ResponseStream]:
        self.seen.append(request)
        raise AssertionError("nothing is streamed here")
        yield


async def test_every_request_names_the_identity() -> None:
    recorder = Recorder()
    transport = Impersonating(recorder, user="system:node:edge-1", group="system:nodes")
    asked = requests.get(NODES, "edge-1", None, None)
    await transport.send(asked)
    try:
        async with transport.stream(asked):
            pass
    except AssertionError:
        pass
    assert [request.impersonate for request in recorder.seen] == [("system:node:edge-1", "system:nodes")] * 2
    assert asked.impersonate == ()
