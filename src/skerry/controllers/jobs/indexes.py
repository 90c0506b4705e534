"""Completion indexes of Indexed Jobs: the compressed text in their status, and what a pod says of itself. Pure.

The text is a list of numbers and ranges, such as ``1,3-5,7``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skerry.api.gvk import Object
from skerry.controllers.objects import annotations_of

INDEX_NOTE = "batch.kubernetes.io/job-completion-index"
FAILURES_NOTE = "batch.kubernetes.io/job-index-failure-count"
IGNORED_NOTE = "batch.kubernetes.io/job-index-ignored-failure-count"


def parse_indexes(text: str | None, *, limit: int) -> set[int]:
    """The indexes of a text; those from ``limit`` on, and what cannot be read, are left out."""
    found: set[int] = set()
    for piece in (text or "").split(","):
        first, _, last = piece.partition("-")
        if first.isascii() and first.isdigit() and (not last or last.isdigit()):
            found.update(range(int(first), min(int(last or first), limit - 1) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """The compressed text: two neighbours as ``1,2``, three and more as ``1-3``."""
    pieces: list[str] = []
    run: list[int] = []
    for index in [*sorted(indexes), None]:
        if run and index == run[-1] + 1:
            run.append(index)
            continue
        if len(run) > 2:
            pieces.append(f"{run[0]}-{run[-1]}")
        else:
            pieces += [str(item) for item in run]
        run = [index] if index is not None else []
    return ",".join(pieces)


def index_of(pod: Object) -> int | None:
    """The completion index of a pod; None when it has none."""
    return _number(annotations_of(pod).get(INDEX_NOTE))


def failures_of(pod: Object) -> int:
    """How often the pod's index failed before this pod."""
    return _number(annotations_of(pod).get(FAILURES_NOTE)) or 0


def ignored_of(pod: Object) -> int:
    """How often the pod's index failed before in a way that the failure policy ignores."""
    return _number(annotations_of(pod).get(IGNORED_NOTE)) or 0


def _number(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None
