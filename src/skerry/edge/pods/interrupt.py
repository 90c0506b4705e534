"""Waits that end early when something more urgent comes, such as the deletion of a pod that still pulls its image."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from skerry.base.errors import SkerryError

T = TypeVar("T")


class Interrupted(SkerryError):
    """The wait was ended; what was waited for is looked at anew."""


class Interrupt:
    """Ends waits of one owner."""

    def __init__(self) -> None:
        self._scopes: set[asyncio.Timeout] = set()

    async def guard(self, work: Awaitable[T]) -> T:
        """Wait for ``work``.

        Raises:
            Interrupted: ``fire`` was called meanwhile; ``work`` was cancelled.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.add(scope)
                return await work
        except TimeoutError as exc:
            if scope.expired():
                raise Interrupted("something more urgent came") from exc
            raise
        finally:
            self._scopes.discard(scope)

    def fire(self) -> None:
        """End every wait now."""
        now_s = asyncio.get_running_loop().time()
        for scope in self._scopes:
            scope.reschedule(now_s)
