"""A brake: so many messages a second, and so many at once after a rest."""

from __future__ import annotations


class Pace:
    """A token bucket; pure.

    Args:
        per_s: messages a second in the long run.
        burst: messages at once after a rest.
    """

    def __init__(self, *, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._seen_s = 0.0

    def take(self, now_s: float) -> float:
        """Take one message's place; how long to wait before it goes, in seconds."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._seen_s) * self._per_s)
        self._seen_s = now_s
        self._tokens -= 1.0
        return max(0.0, -self._tokens / self._per_s)
