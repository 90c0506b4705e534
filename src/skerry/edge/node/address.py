"""The node's address, which may become another one while the agent runs: another network, another lease."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skerry.base.netif import address_towards, is_loopback
from skerry.base.obs.log import get_log

log = get_log(__name__)


class NodeAddress:
    """Asks the routing table.

    Args:
        configured: an address that holds always; empty asks.
        towards: host and port of the cloud.
    """

    def __init__(self, configured: str, *, towards: Callable[[], tuple[str, int]]) -> None:
        self._is_configured = bool(configured)
        self._towards = towards
        self.known = configured or address_towards(*towards())

    async def now(self) -> str:
        """The address by which the cloud is reached; the last one while there is no route."""
        if self._is_configured:
            return self.known
        # In a thread: the cloud's name may have to be looked up, and offline that takes its time.
        found = await asyncio.to_thread(address_towards, *self._towards())
        if found != self.known and not is_loopback(found):
            log.info("node.address_changed", address=found, before=self.known)
            self.known = found
        return self.known
