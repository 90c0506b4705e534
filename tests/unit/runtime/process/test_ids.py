"""Ids that the pods of an agent without root have anyway."""

from __future__ import annotations

import os

from skerry.runtime.process.permits import has_already


def test_only_ids_of_the_agent_itself_are_had() -> None:
    other = max(os.geteuid(), os.getegid(), *os.getgroups(), 0) + 1
    assert has_already("runAsUser", os.geteuid()) and not has_already("runAsUser", other)
    assert has_already("runAsGroup", os.getegid()) and not has_already("runAsGroup", other)
    assert has_already("supplementalGroups", [os.getegid(), *os.getgroups()])
    assert not has_already("supplementalGroups", [os.getegid(), other])
    assert has_already("fsGroup", os.getegid()) and not has_already("fsGroup", other)
