"""Leader election in virtual time: one at a time, and another after the first has died."""

from __future__ import annotations

import asyncio

from skerry.api.gvk import LEASES
from skerry.base.aio.supervise import Supervisor
from skerry.kube.leader import DURATION_S, Election
from skerry.testing.clock import VirtualClock
from skerry.testing.fakekube import FakeKubeApi


class Duty:
    """Notes who works."""

    def __init__(self) -> None:
        self.at_work: list[str] = []
        self.most = 0

    def of(self, name: str):  # type: ignore[no-untyped-def]
        async def work() -> None:
            self.at_work.append(name)
            self.most = max(self.most, len(self.at_work))
            try:
                await asyncio.Event().wait()
            finally:
                self.at_work.remove(name)

        return work


def election(api: FakeKubeApi, name: str, clock: VirtualClock) -> Election:
    return Election(api, "duty", namespace="kubeedge", identity=name, clock=clock)


async def test_one_works_and_the_other_follows_when_it_is_gone() -> None:
    clock, api, duty = VirtualClock(), FakeKubeApi(), Duty()
    one, two = election(api, "one", clock), election(api, "two", clock)
    async with Supervisor("second") as second:
        async with Supervisor("first") as first:
            first.detach("one", one.run(duty.of("one")))
            await clock.advance(1)
            second.detach("two", two.run(duty.of("two")))
            await clock.advance(60)
            assert duty.at_work == ["one"]
            assert one.is_leader and not two.is_leader
        # It has died without a word: its Lease runs out first.
        await clock.advance(DURATION_S - 5)
        assert duty.at_work == []
        await clock.advance(10)
        assert duty.at_work == ["two"]
        lease = await api.get(LEASES, "duty", namespace="kubeedge")
        assert lease["spec"]["leaseTransitions"] == 1
    assert duty.most == 1


async def test_one_that_leaves_in_order_is_followed_at_once() -> None:
    clock, api, duty = VirtualClock(), FakeKubeApi(), Duty()
    one, two = election(api, "one", clock), election(api, "two", clock)
    async with Supervisor("second") as second:
        async with Supervisor("first") as first:
            first.detach("one", one.run(duty.of("one")))
            await clock.advance(1)
            second.detach("two", two.run(duty.of("two")))
            await clock.advance(5)
        await one.release()
        await clock.advance(3)
        assert duty.at_work == ["two"]


async def test_a_leader_whose_lease_another_has_taken_stops() -> None:
    clock, api, duty = VirtualClock(), FakeKubeApi(), Duty()
    one = election(api, "one", clock)
    async with Supervisor("first") as first:
        first.detach("one", one.run(duty.of("one")))
        await clock.advance(3)
        assert duty.at_work == ["one"]
        lease = await api.get(LEASES, "duty", namespace="kubeedge")
        await api.update(LEASES, lease | {"spec": lease["spec"] | {"holderIdentity": "thief"}})
        await clock.advance(12.5)
        assert duty.at_work == []
