"""How soon the agent's end of the tunnel dials again, and what it sends while nothing happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path

from skerry.base.aio.supervise import Supervisor
from skerry.edge.tunnel.client import TunnelClient, TunnelSocket
from skerry.testing.clock import VirtualClock


async def test_dials_every_five_seconds_in_a_short_outage_and_less_often_in_a_long_one() -> None:
    clock = VirtualClock()
    dialled_s: list[float] = []

    def dial() -> AbstractAsyncContextManager[TunnelSocket]:
        dialled_s.append(clock.monotonic_s())
        raise ConnectionRefusedError("nobody there")

    client = TunnelClient(dial, kubelet_socket=Path("unused"), clock=clock)
    async with Supervisor("test") as supervisor:
        supervisor.run("tunnel", client.run())
        await clock.wait_sleepers(1)
        await clock.advance(3600)
    gaps_s = [(at_s, after_s - at_s) for at_s, after_s in pairwise(dialled_s)]
    assert max(gap_s for at_s, gap_s in gaps_s if at_s < 600) <= 5
    assert 5 < max(gap_s for at_s, gap_s in gaps_s if at_s > 605) <= 30


class Quiet:
    """A tunnel that carries nothing; counts pings."""

    def __init__(self, clock: VirtualClock, *, window_bytes: int) -> None:
        self.window_bytes = window_bytes
        self.heard_s = clock.monotonic_s()
        self.pinged_s: list[float] = []
        self._clock = clock
        self._ended = asyncio.Event()
        self.is_cut = False

    async def receive(self) -> bytes | None:
        await self._ended.wait()
        return None

    async def send_text(self, message: bytes) -> None:
        raise AssertionError("nothing is to be sent")

    async def ping(self) -> None:
        self.pinged_s.append(self._clock.monotonic_s())
        self.heard_s = self._clock.monotonic_s()  # the pong

    def abort(self) -> None:
        self.is_cut = True
        self._ended.set()


async def _idle(clock: VirtualClock, tunnel: Quiet, *, for_s: float, hears: bool) -> None:
    @asynccontextmanager
    async def dial() -> AsyncIterator[TunnelSocket]:
        yield tunnel
        await asyncio.Event().wait()  # once is enough

    client = TunnelClient(dial, kubelet_socket=Path("unused"), clock=clock)
    async with Supervisor("test") as supervisor:
        supervisor.detach("tunnel", client.run())
        await clock.wait_sleepers(1)
        for _ in range(int(for_s / 10)):
            await clock.advance(10)
            if hears:
                tunnel.heard_s = clock.monotonic_s()


async def test_towards_a_go_cloud_it_pings_as_kubeedge_does() -> None:
    clock = VirtualClock()
    tunnel = Quiet(clock, window_bytes=0)
    await _idle(clock, tunnel, for_s=100, hears=False)
    assert len(tunnel.pinged_s) == 20
    assert not tunnel.is_cut


async def test_towards_a_cloud_of_ours_it_sends_nothing_by_itself() -> None:
    clock = VirtualClock()
    tunnel = Quiet(clock, window_bytes=1024)
    await _idle(clock, tunnel, for_s=600, hears=True)
    assert not tunnel.pinged_s
    assert not tunnel.is_cut


async def test_a_silent_cloud_of_ours_is_left() -> None:
    clock = VirtualClock()
    tunnel = Quiet(clock, window_bytes=1024)
    await _idle(clock, tunnel, for_s=100, hears=False)
    assert tunnel.is_cut
