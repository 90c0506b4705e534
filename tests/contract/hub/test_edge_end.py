"""Our agent's link and store, and hollow nodes, pass the contract of an edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry.base import certificates
from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.edge.link.dial import DialledLink
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.sync.inbox import Inbox
from skerry.testing.contracts.edge_end import NODE, DurableEdgeContract, EdgeEnd, EdgeEndContract
from skerry.testing.hollow import HollowNode, client_tls, connect
from skerry.testing.scripthub import ScriptedHub
from skerry.wire.kubeedge.answer import unwrapped
from skerry.wire.kubeedge.envelope import Envelope


class Agent:
    """The link, the inbox and the store."""

    def __init__(self, objects: EdgeObjects, link: DialledLink) -> None:
        self._objects = objects
        self._link = link

    def held(self) -> dict[str, str]:
        return {key: str(o["metadata"]["resourceVersion"]) for key, o in self._objects.list("configmap").items()}

    async def ask(self, resource: str) -> Any:
        answer = await self._link.request(Envelope("", "edged", "meta", "query", resource))
        return unwrapped(answer.content)


class TestAgent(DurableEdgeContract):
    @pytest.fixture
    async def edge(self, hub: ScriptedHub, tmp_path: Path) -> AsyncIterator[EdgeEnd]:
        files = CertificateFiles(tmp_path / "certs")
        files.directory.mkdir()
        files.ca.write_bytes(hub.ca.cert_pem)
        certificates.save(hub.credential(NODE), files.cert, files.key)
        (tmp_path / "data").mkdir()
        database = open_database(tmp_path / "data")
        objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=SystemClock())
        link = DialledLink([("127.0.0.1", hub.port)], node=NODE, files=files, clock=SystemClock())
        link.on_envelope(Inbox(objects, link=link, handlers={}).take)
        async with Supervisor("agent") as supervisor:
            supervisor.keep("link", link.run)
            await hub.until(lambda: hub.keepalives > 0)
            yield Agent(objects, link)
        database.close()


class Hollow:
    """A hollow node."""

    def __init__(self, node: HollowNode) -> None:
        self._node = node

    def held(self) -> dict[str, str]:
        return {key: str(o["metadata"]["resourceVersion"]) for key, o in self._node.objects.items()}

    async def ask(self, resource: str) -> Any:
        return (await self._node.request("query", resource)).object


class TestHollowNode(EdgeEndContract):
    @pytest.fixture
    async def edge(self, hub: ScriptedHub, tmp_path: Path) -> AsyncIterator[EdgeEnd]:
        tls = client_tls(tmp_path, hub.credential(NODE), hub.ca.cert_pem)
        async with connect(f"wss://127.0.0.1:{hub.port}", NODE, tls) as node:
            await hub.until(lambda: hub.keepalives > 0)
            yield Hollow(node)
