"""What is said about an engine's errors that we know."""

import pytest

from skerry.runtime.cri.client import remedy

_RUNC = (
    "runc create failed: unable to start container process: error during container init: error setting cgroup config "
    "for procHooks process: openat2 /sys/fs/cgroup/skerry-n/podu/c/memory.max: no such file or directory: unknown"
)
"""runc 1.1.5 on Linux 6.1 with cgroup_disable=memory on its command line."""


@pytest.mark.parametrize(("text", "code", "word"), [
    ("cni plugin not initialized", "SK-E006", "conflist"),
    (_RUNC, "", "cgroup_enable=memory"),
])  # fmt: skip
def test_a_known_error_has_a_remedy(text: str, code: str, word: str) -> None:
    found = remedy(text)
    assert found[0] == code and word in found[1]


def test_another_error_has_none() -> None:
    assert remedy("something else") == ("", "")
