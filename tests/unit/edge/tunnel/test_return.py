"""How soon the agent's end of the tunnel dials again."""

from contextlib import AbstractAsyncContextManager
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
