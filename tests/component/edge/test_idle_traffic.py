"""What an idle node costs on a metered line: everything between agent and cloud, as the kernel counts it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from skerry.testing.site import Site, until

pytestmark = pytest.mark.timeout(900)

_DAY_S = 86_400.0
_WATCHED_S = float(os.environ.get("SKERRY_IDLE_S", "300"))
_DAILY_BYTES = 2_000_000
_HOURLY_REPORT_BYTES = 4_000
"""A node status, which may or may not fall into the time watched: once an hour, packed, with its answer."""


@pytest.mark.slow
async def test_an_idle_node_costs_less_than_two_megabytes_a_day(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    site = Site(tmp_path, runtime="process")
    async with AsyncExitStack() as stack:
        await site.start(stack)
        last = site.traffic()

        async def has_settled() -> str:
            nonlocal last
            await asyncio.sleep(20)
            before, last = last, site.traffic()
            return "" if (last - before).wire_bytes < 2_000 else f"{last - before} in 20 s"

        await until(has_settled, within_s=180)
        before = site.traffic()
        await asyncio.sleep(_WATCHED_S)  # what is measured is this time
        spent = site.traffic() - before
        daily = spent.wire_bytes * _DAY_S / _WATCHED_S + 24 * _HOURLY_REPORT_BYTES
        record_property("bytes a day", round(daily))
        assert 0 < daily < _DAILY_BYTES, f"{spent} in {_WATCHED_S:g} s"
