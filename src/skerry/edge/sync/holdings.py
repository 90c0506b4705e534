"""What this node tells a cloud of ours at the beginning of a session: which objects it holds, in which version.

The cloud sends the difference, so a lost or restored store on either side costs what is missing and nothing else. What
the node asked for by itself is not told: the cloud would take away what it did not send. A Go cloud says nothing of its
store, and is told nothing.
"""

from __future__ import annotations

from skerry.base.obs.log import get_log
from skerry.edge.store.objects import EdgeObjects, type_of
from skerry.edge.sync.asked import ASKED_TYPES
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope

log = get_log(__name__)


class Holdings:
    """Binds the store to the cloud of a session, and describes it."""

    def __init__(self, objects: EdgeObjects) -> None:
        self._objects = objects

    @property
    def bound_to(self) -> str:
        """For the handshake: the store that ours belongs to, or ``-``."""
        return self._objects.bound_to or "-"

    async def greet(self, store_id: str) -> Envelope | None:
        """The first message of a session.

        Args:
            store_id: as the cloud said it in its handshake; ``-`` when it does not know, empty when it said nothing.

        Raises:
            StoreError: the store could not be bound.
        """
        if not store_id:
            return None
        if store_id != "-" and await self._objects.bind(store_id):
            log.warning("store.other_history", store=store_id, hint="the cloud compares every object anew")
        return Envelope(
            msg_id="",
            source=c.SOURCE_EDGED,
            group=c.GROUP_RESOURCE,
            operation=c.OP_REPORT,
            resource=c.RESOURCE_HOLDINGS,
            content={k: list(v) for k, v in self._objects.holdings().items() if type_of(k) not in ASKED_TYPES},
        )
