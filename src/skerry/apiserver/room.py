"""How many bytes the server holds for its clients at once: bodies that arrive, and large answers that leave.

Overflow rule: what would go beyond is answered with 429, and the client comes back after a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from skerry.api.status import TooManyRequests


class Room:
    """A bound on bytes.

    Args:
        what: of which things, for messages.
        limit_bytes: most at once; a single larger thing is let in when nothing else is there.
    """

    def __init__(self, what: str, *, limit_bytes: int) -> None:
        self._what = what
        self._limit_bytes = limit_bytes
        self.used_bytes = 0

    @contextmanager
    def take(self, size_bytes: int) -> Iterator[None]:
        """Hold so many bytes for as long as the block runs.

        Raises:
            TooManyRequests: there is no room.
        """
        if self.used_bytes and self.used_bytes + size_bytes > self._limit_bytes:
            raise TooManyRequests(
                f"the server holds {self.used_bytes} bytes of {self._what} and takes no more than {self._limit_bytes} "
                "at once; try again later",
                details={"retryAfterSeconds": 1},
            )
        self.used_bytes += size_bytes
        try:
            yield
        finally:
            self.used_bytes -= size_bytes
