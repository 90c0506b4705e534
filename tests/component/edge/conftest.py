"""What several tests of the agent share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.parts import Containerd, PartMissing, shared_containerd


@pytest.fixture
def containerd(request: pytest.FixtureRequest) -> Containerd:
    """The container engine that all tests share."""
    return shared_containerd(request.config)


@pytest.fixture
async def engine() -> AsyncIterator[Containerd]:
    """A container engine of the test's own, which it may kill."""
    try:
        engine = Containerd()
    except PartMissing as exc:
        pytest.skip(str(exc))
    try:
        await asyncio.to_thread(engine.start)
        yield engine
    finally:
        await asyncio.to_thread(engine.close)
