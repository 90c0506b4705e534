"""The only door to RE2: regular expressions that others wrote, in linear time. Cloud processes only.

Python's own engine can be made to run for hours by one pattern; schemas of custom resources come from users.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False  # a user's broken pattern is the user's news, not the process's
    return re2.compile(pattern, options)


def search(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text; False for a pattern that RE2 does not know."""
    try:
        return _compiled(pattern).search(text) is not None
    except re2.error:
        return False


def is_valid(pattern: str) -> bool:
    """Whether RE2 knows the pattern."""
    try:
        _compiled(pattern)
    except re2.error:
        return False
    return True


def find_all(pattern: str, text: str, count: int | None = None) -> list[str]:
    """The first ``count`` places that the pattern matches, all of them for None; none for a pattern unknown to RE2."""
    try:
        matches = _compiled(pattern).finditer(text)
    except re2.error:
        return []
    return (
        [match.group(0) for match, _ in zip(matches, range(count), strict=False)]
        if count is not None
        else [match.group(0) for match in matches]
    )
