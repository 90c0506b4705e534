"""Which pods end when."""

from __future__ import annotations

from typing import Any

from skerry.edge.node.shutdown import Turn, turns


def pod(name: str, priority: int = 0, phase: str = "Running") -> dict[str, Any]:
    return {"metadata": {"uid": name}, "spec": {"priority": priority}, "status": {"phase": phase}}


def test_critical_pods_have_the_last_part_of_the_time() -> None:
    web, dns, done = pod("web"), pod("dns", 2_000_001_000), pod("done", phase="Succeeded")
    assert turns([dns, done, web], grace_s=30, critical_s=10) == [Turn((web,), 20), Turn((dns,), 10)]


def test_a_turn_without_pods_takes_no_time() -> None:
    assert turns([pod("done", phase="Failed")], grace_s=30, critical_s=10) == []
    dns = pod("dns", 2_000_000_000)
    assert turns([dns], grace_s=30, critical_s=0) == [Turn((dns,), 0)]
