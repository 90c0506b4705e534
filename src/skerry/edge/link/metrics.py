"""What the agent tells Prometheus of its link and of what waits for the cloud."""

from __future__ import annotations

from collections.abc import Callable

from skerry.base.obs.metrics import Registry
from skerry.base.values import Struct


class Backlog(Struct, frozen=True):
    """What waits to be sent. ``oldest_s``: Unix time of the oldest, 0 when nothing waits."""

    count: int
    oldest_s: float
    dropped: int


def register(
    registry: Registry, *, is_up: Callable[[], bool], backlog: Callable[[], Backlog], now_s: Callable[[], float]
) -> None:
    """Add the agent's metrics.

    Args:
        is_up: whether there is a link now.
        backlog: of the durable outbox.
        now_s: wall-clock seconds.
    """

    def age_s() -> float:
        oldest_s = backlog().oldest_s
        return max(0.0, now_s() - oldest_s) if oldest_s else 0.0

    up = registry.gauge("skerry_edge_link_up", "1 while the agent is connected to a cloud.")
    up.read_from(lambda: [((), float(is_up()))])
    waiting = registry.gauge("skerry_edge_outbox_entries", "Reports that wait for the cloud.")
    waiting.read_from(lambda: [((), float(backlog().count))])
    oldest = registry.gauge("skerry_edge_outbox_oldest_seconds", "Age of the oldest report that waits; 0 when none.")
    oldest.read_from(lambda: [((), age_s())])
    dropped = registry.counter("skerry_edge_outbox_dropped_total", "Events that were dropped because too many waited.")
    dropped.read_from(lambda: [((), float(backlog().dropped))])
