"""One caller of a node at a time: who takes over whose session is settled before the next one is looked at.

Bound: one lock per node whose callers are being looked at now; the last of them takes it away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from skerry.base.values import Struct, field
from skerry.cloud.hub.ports import NodeName


class _Door(Struct):
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Doors:
    """The locks of one hub."""

    def __init__(self) -> None:
        self._doors: dict[NodeName, _Door] = {}

    def __len__(self) -> int:
        """Nodes with a caller inside or waiting."""
        return len(self._doors)

    @asynccontextmanager
    async def of(self, node: NodeName) -> AsyncIterator[None]:
        """Be the only caller of this node while inside; others wait in their order."""
        door = self._doors.setdefault(node, _Door())
        # Counted, not asked of the lock: one that was just released says nothing of those who are about to take it.
        door.users += 1
        try:
            async with door.lock:
                yield
        finally:
            door.users -= 1
            if not door.users:
                del self._doors[node]
