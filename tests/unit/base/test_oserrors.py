"""Errors of the operating system in words."""

from __future__ import annotations

import errno
import os

import pytest

from skerry.base.oserrors import in_words


@pytest.mark.parametrize(
    ("number", "name", "text", "hint"),
    [
        (errno.EACCES, "/etc/x", "/etc/x: Permission denied", "root"),
        (errno.ENOSPC, "/var/y", "/var/y: No space left on device", "free"),
        (errno.EADDRINUSE, None, "Address already in use", "another program"),
        (errno.EPROTO, None, "Protocol error", ""),
    ],
)
def test_the_file_and_the_cause_are_named_and_no_number(number: int, name: str | None, text: str, hint: str) -> None:
    exc = OSError(number, os.strerror(number), name) if name else OSError(number, os.strerror(number))
    found, remedy = in_words(exc)
    assert found == text
    assert hint in remedy
    assert bool(remedy) == bool(hint)


def test_both_files_of_a_move_are_named() -> None:
    exc = OSError(errno.EXDEV, "Invalid cross-device link", "/a", None, "/b")
    assert in_words(exc)[0] == "/a and /b: Invalid cross-device link"


def test_one_without_anything_still_says_what_it_is() -> None:
    assert in_words(TimeoutError()) == ("TimeoutError", "")
