"""Callers of one node are looked at one after the other, whoever of them fails or gives up."""

from __future__ import annotations

import asyncio

import pytest

from skerry.cloud.hub.doors import Doors
from skerry.cloud.hub.ports import NodeName

NODE = NodeName("edge-1")


class Caller:
    """Goes in, stays until it is let out, and counts who is inside with it."""

    def __init__(self, doors: Doors, house: list[Caller]) -> None:
        self._doors, self._house = doors, house
        self.is_in = asyncio.Event()
        self.may_go = asyncio.Event()
        self.met = 0

    async def call(self, *, fails: bool = False) -> None:
        async with self._doors.of(NODE):
            self.met = len(self._house)
            self._house.append(self)
            self.is_in.set()
            try:
                await self.may_go.wait()
                if fails:
                    raise ConnectionError("no upgrade")
            finally:
                self._house.remove(self)


async def test_a_caller_that_waited_and_one_that_comes_just_then_are_not_inside_together() -> None:
    doors, house = Doors(), list[Caller]()
    first, second, third = (Caller(doors, house) for _ in range(3))
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(_fails(first))
        await first.is_in.wait()
        group.create_task(second.call())
        await asyncio.sleep(0)  # it waits at the door now
        first.may_go.set()
        await failing  # the lock is free, and the second has not taken it yet
        group.create_task(third.call())
        await second.is_in.wait()
        for caller in (second, third):
            caller.may_go.set()
    assert [caller.met for caller in (first, second, third)] == [0, 0, 0]
    assert len(doors) == 0


async def test_a_caller_that_gives_up_while_it_waits_leaves_the_others_their_turn() -> None:
    doors, house = Doors(), list[Caller]()
    first, second, third = (Caller(doors, house) for _ in range(3))
    async with asyncio.TaskGroup() as group:
        group.create_task(first.call())
        await first.is_in.wait()
        waiting = group.create_task(second.call())
        group.create_task(third.call())
        await asyncio.sleep(0)
        waiting.cancel()
        first.may_go.set()
        await third.is_in.wait()
        third.may_go.set()
    assert not second.is_in.is_set() and third.met == 0
    assert len(doors) == 0


async def _fails(caller: Caller) -> None:
    with pytest.raises(ConnectionError):
        await caller.call(fails=True)
