"""One writer, many readers, each with a bounded queue.

Overflow rule: a reader that falls ``limit`` items behind is closed with ``SlowReader`` and told why; the writer and
the other readers are never held up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from skerry.base.errors import SkerryError

T = TypeVar("T")


class SlowReader(SkerryError):
    """The reader fell too far behind and was closed; it must start over from a fresh state."""


class Reader(Generic[T]):
    """One reader's end. Iterate, or ``get()`` / ``drain()``; ``close()`` when done."""

    def __init__(self, owner: Fanout[T], limit: int) -> None:
        self._owner = owner
        self._limit = limit
        self._items: deque[T] = deque()
        self._ready = asyncio.Event()
        self._closed = False
        self._failure: Exception | None = None

    async def get(self) -> T:
        """The next item.

        Raises:
            SlowReader: this reader fell behind (after the items that it still had).
            StopAsyncIteration: closed.
        """
        while not self._items:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self._items.popleft()

    def drain(self) -> list[T]:
        """Everything that waits, without waiting."""
        items = list(self._items)
        self._items.clear()
        return items

    def close(self, failure: Exception | None = None) -> None:
        """End this reader; a waiting ``get`` ends too."""
        self._closed = True
        self._failure = self._failure or failure
        self._owner._readers.discard(self)
        self._ready.set()

    def __aiter__(self) -> Reader[T]:
        return self

    async def __anext__(self) -> T:
        return await self.get()

    def _push(self, item: T) -> None:
        if len(self._items) >= self._limit:
            self.close(SlowReader(f"reader is {self._limit} items behind"))
            return
        self._items.append(item)
        self._ready.set()


class Fanout(Generic[T]):
    """The writer's end."""

    def __init__(self, *, limit: int = 1000) -> None:
        self._limit = limit
        self._readers: set[Reader[T]] = set()

    def reader(self, *, limit: int | None = None) -> Reader[T]:
        """A new reader that sees everything sent from now on."""
        reader: Reader[T] = Reader(self, limit or self._limit)
        self._readers.add(reader)
        return reader

    def send(self, item: T) -> None:
        """Give ``item`` to every reader; never blocks."""
        for reader in tuple(self._readers):
            reader._push(item)

    def close(self, failure: Exception | None = None) -> None:
        """End every reader."""
        for reader in tuple(self._readers):
            reader.close(failure)

    def __len__(self) -> int:
        return len(self._readers)
