"""Delay sequences for retries."""

from __future__ import annotations

import math
import random


class Backoff:
    """Fully jittered exponential back-off.

    ``next_s()`` draws uniformly from (0, ceiling] where the ceiling doubles from ``first_s`` to ``cap_s``;
    with ``jitter=False`` it returns the ceiling itself. ``reset()`` after a success.
    """

    def __init__(self, *, first_s: float, cap_s: float, jitter: bool = True, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._jitter = jitter
        self._draw = rng.uniform if rng else random.uniform
        self._ceiling_s = first_s
        self.failures = 0

    def next_s(self, *, at_most_s: float = math.inf) -> float:
        """The delay before the next try, in seconds; ``at_most_s`` caps this one further."""
        ceiling_s = min(self._ceiling_s, at_most_s)
        self._ceiling_s = min(self._cap_s, self._ceiling_s * 2)
        self.failures += 1
        return self._draw(0, ceiling_s) if self._jitter else ceiling_s

    def reset(self) -> None:
        """Start over after a success."""
        self._ceiling_s = self._first_s
        self.failures = 0
