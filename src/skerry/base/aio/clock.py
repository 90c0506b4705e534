"""Time as a dependency: a port and the system's clock. Tests pass ``skerry.testing.clock.VirtualClock``."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now_s(self) -> float:
        """Wall-clock seconds since 1970; may jump."""

    def monotonic_s(self) -> float:
        """Seconds that never go back; the zero point means nothing."""

    async def sleep(self, delay_s: float) -> None:
        """Wait ``delay_s`` seconds of this clock."""


class SystemClock:
    """The machine's clock."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
