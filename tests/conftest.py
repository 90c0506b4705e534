"""Shared by every level."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

pytest_plugins = ["skerry.testing.plugin"]


@pytest.fixture(autouse=True)
def _as_logs_were() -> Iterator[None]:
    """A command that runs in this process sets up logging for good: take it back, for tests that read logs."""
    root = logging.getLogger("skerry")
    handlers, level, propagate = root.handlers[:], root.level, root.propagate
    yield
    root.handlers[:], root.propagate = handlers, propagate
    root.setLevel(level)
