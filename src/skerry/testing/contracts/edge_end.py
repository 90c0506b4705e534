"""What any hub may rely on in an edge, seen from the hub: for our agent's link and store, and for hollow nodes.

A test module subclasses ``EdgeEndContract`` and provides the fixture ``edge``: an edge that dials ``hub`` as ``NODE``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from skerry.api.gvk import Object
from skerry.testing.scripthub import ScriptedHub, scripted_hub
from skerry.wire.kubeedge import constants as c

NODE = "edge-1"


class EdgeEnd(Protocol):
    """The edge under test."""

    def held(self) -> dict[str, str]:
        """Resource version by wire resource, of what the edge holds."""

    async def ask(self, resource: str) -> Any:
        """Query the cloud; the content of the answer."""


def config(name: str, version: int, *, uid: str = "") -> Object:
    """A ConfigMap as the cloud sends it."""
    metadata = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": str(version)}}


def key(name: str) -> str:
    """Its wire resource."""
    return f"default/configmap/{name}"


class EdgeEndContract:
    """The suite."""

    @pytest.fixture
    async def hub(self, tmp_path: Path) -> AsyncIterator[ScriptedHub]:
        async with scripted_hub(tmp_path / "hub") as hub:
            yield hub

    async def test_the_edge_names_itself_and_gives_signs_of_life(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        await hub.until(lambda: hub.keepalives > 0)
        assert hub.sessions == 1
        assert hub.headers[c.HEADER_NODE_ID] == NODE
        assert hub.headers[c.HEADER_CONNECTION_USE] == c.CONNECTION_USE_MESSAGES

    async def test_what_is_acknowledged_is_held(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        msg_id = await hub.deliver(c.OP_INSERT, key("a"), config("a", 5), version="5")
        await hub.until(lambda: hub.acks == [msg_id])
        assert edge.held() == {key("a"): "5"}
        update = await hub.deliver(c.OP_UPDATE, key("a"), config("a", 7), version="7")
        await hub.until(lambda: hub.acks == [msg_id, update])
        assert edge.held() == {key("a"): "7"}

    async def test_a_removal_is_acknowledged_also_of_what_is_not_there(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        first = await hub.deliver(c.OP_INSERT, key("a"), config("a", 5), version="5")
        gone = await hub.deliver(c.OP_DELETE, key("a"), config("a", 6), version="6")
        never = await hub.deliver(c.OP_DELETE, key("b"), config("b", 3), version="3")
        await hub.until(lambda: hub.acks == [first, gone, never])
        assert edge.held() == {}

    async def test_a_repeated_message_is_acknowledged_again(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        msg_id = await hub.deliver(c.OP_INSERT, key("a"), config("a", 5), version="5")
        await hub.until(lambda: hub.acks == [msg_id])
        await hub.deliver(c.OP_INSERT, key("a"), config("a", 5), version="5", msg_id=msg_id)
        await hub.until(lambda: hub.acks == [msg_id, msg_id])
        assert edge.held() == {key("a"): "5"}

    async def test_many_messages_are_acknowledged_in_their_order(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        sent = [await hub.deliver(c.OP_INSERT, key(f"n{n}"), config(f"n{n}", n + 1)) for n in range(100)]
        await hub.until(lambda: len(hub.acks) == 100)
        assert hub.acks == sent
        assert edge.held() == {key(f"n{n}"): str(n + 1) for n in range(100)}

    async def test_a_successor_of_the_same_name_replaces_the_first(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        await hub.deliver(c.OP_INSERT, key("a"), config("a", 50, uid="first"))
        await hub.deliver(c.OP_DELETE, key("a"), config("a", 51, uid="first"))
        last = await hub.deliver(c.OP_INSERT, key("a"), config("a", 60, uid="second"))
        await hub.until(lambda: bool(hub.acks) and hub.acks[-1] == last)
        assert edge.held() == {key("a"): "60"}

    async def test_an_answer_finds_its_question(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        names = ("x", "y", "z")
        questions = asyncio.gather(*(edge.ask(key(name)) for name in names))
        await hub.until(lambda: len(hub.received) == 3)
        assert {request.operation for request in hub.received} == {c.OP_QUERY}
        for request in reversed(hub.received):
            await hub.answer(request, config(request.resource.rpartition("/")[2], 1))
        found = await questions
        assert [obj["metadata"]["name"] for obj in found] == list(names)

    async def test_messages_of_no_known_kind_hold_up_nothing(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        await hub.deliver("dance", "default/nosuchtype/a", {"a": 1})
        await hub.deliver(c.OP_INSERT, "default/nosuchtype/b", {"metadata": {"name": "b", "namespace": "default"}})
        last = await hub.deliver(c.OP_INSERT, key("a"), config("a", 5))
        await hub.until(lambda: last in hub.acks)


class DurableEdgeContract(EdgeEndContract):
    """What an edge with a store does beyond that; hollow nodes have none and come back by their test's hand."""

    async def test_an_older_version_that_comes_late_changes_nothing(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        newer = await hub.deliver(c.OP_UPDATE, key("a"), config("a", 9))
        older = await hub.deliver(c.OP_UPDATE, key("a"), config("a", 8))
        await hub.until(lambda: hub.acks == [newer, older])
        assert edge.held() == {key("a"): "9"}

    async def test_what_cannot_be_stored_is_refused_and_the_rest_goes_on(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        bad = await hub.deliver(c.OP_INSERT, key("a"), "not an object")
        good = await hub.deliver(c.OP_INSERT, key("b"), config("b", 5))
        await hub.until(lambda: good in hub.acks)
        assert hub.refusals == [bad]
        assert edge.held() == {key("b"): "5"}

    async def test_a_cut_or_broken_session_is_followed_by_another(self, hub: ScriptedHub, edge: EdgeEnd) -> None:
        kept = await hub.deliver(c.OP_INSERT, key("a"), config("a", 5))
        await hub.until(lambda: hub.acks == [kept])
        await hub.cut()
        await hub.until(lambda: hub.sessions == 2)
        await hub.send_raw(b'{"header": 7')
        await hub.until(lambda: hub.sessions == 3)
        assert edge.held() == {key("a"): "5"}
        later = await hub.deliver(c.OP_UPDATE, key("a"), config("a", 6))
        await hub.until(lambda: later in hub.acks)
        assert edge.held() == {key("a"): "6"}
