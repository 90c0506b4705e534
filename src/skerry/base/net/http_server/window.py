"""How many connections may shake hands at once, and how long one may take while others wait. No I/O, no clock.

Both follow from how long it took those who came through. On a busy machine everybody is slow: then a few at once are
served sooner than many, of which each misses its deadline, dials again and costs as much once more. Where others are
fast, who is slow stalls. Handshakes that failed say nothing: strangers decide how many there are.
"""

from __future__ import annotations

LEAST = 64
SLOW_S = 3.0
"""So long a handshake may take before fewer are let in at once: well below its deadline."""
_WEIGHT = 1 / 16
_TIMES = 4.0


class OpeningWindow:
    """The window of one server.

    Args:
        most: connections at once, at the beginning and at most.
        deadline_s: of one handshake.
    """

    def __init__(self, most: int, *, deadline_s: float) -> None:
        self._most = most
        self._least = min(most, LEAST)
        self._deadline_s = deadline_s
        self._typical_s = deadline_s / 2 / _TIMES
        self.size = most

    @property
    def patience_s(self) -> float:
        """Who has taken so long is given up when somebody waits for its place."""
        return min(self._deadline_s, max(self._deadline_s / 4, _TIMES * self._typical_s))

    def came_through(self, took_s: float) -> None:
        """A handshake has ended well."""
        self._typical_s += (took_s - self._typical_s) * _WEIGHT
        step = -1 if took_s > SLOW_S else 1
        self.size = max(self._least, min(self._most, self.size + step))
