"""``skerry up``: children that end are started again, and the whole ends when told, also while it rests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(180)

_LIMIT_S = 60


def command(name: str, data: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "skerry.cli.main", name, "--data", str(data), *more, "-o", "json"]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """One that serves from ``up`` in the test's directory, and rests."""
    words = command("up", tmp_path / "up", "--ports", "any", "--runtime", "process", "--node", "here")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ready"]
        try:
            reach(lambda: b"waiter.py" in Path(f"/proc/{process.pid}/cmdline").read_bytes(), "it never rests")
            yield process
        finally:
            process.kill()


def reach(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _LIMIT_S
    while not holds():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)


def pids(data: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((data / "run.json").read_bytes())["pids"]
    return found


def has_another(data: Path, name: str, before: int) -> bool:
    return pids(data)[name] not in (0, before)


def status(data: Path) -> dict[str, Any]:
    told = subprocess.run(command("status", data), capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def is_gone(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


def test_a_child_that_ends_is_started_again_and_down_ends_all(group: subprocess.Popen[str], tmp_path: Path) -> None:
    data = tmp_path / "up"
    first = pids(data)
    assert first["group"] == group.pid
    for name in ("cloud", "edge"):  # a node has joined: certificates were made, read and signed
        assert "/cryptography/" not in Path(f"/proc/{first[name]}/maps").read_text(), name
    for name, other in (("cloud", "edge"), ("edge", "cloud")):
        before = pids(data)
        os.kill(before[name], signal.SIGKILL)
        reach(partial(has_another, data, name, before[name]), f"{name} stays away")
        assert pids(data)[other] == before[other], "its neighbour had to go with it"
    now = status(data)
    assert now["running"] and now["pids"] == pids(data) and now["node"] == "here"
    second = subprocess.run(
        command("up", data, "--ports", "any"), capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    assert second.returncode == 2
    assert f"(pid {group.pid})" in second.stderr
    ended = subprocess.run(command("down", data), capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    assert group.wait(_LIMIT_S) == 0
    assert all(map(is_gone, now["pids"].values()))
    assert status(data) == {"running": False, "data": str(data)}


def test_an_interrupt_ends_it_while_it_rests(group: subprocess.Popen[str], tmp_path: Path) -> None:
    children = pids(tmp_path / "up")
    group.send_signal(signal.SIGINT)
    assert group.wait(_LIMIT_S) == 0
    assert all(map(is_gone, children.values()))


def test_its_children_go_with_it_when_it_is_killed(group: subprocess.Popen[str], tmp_path: Path) -> None:
    children = pids(tmp_path / "up")
    group.kill()
    reach(lambda: all(is_gone(pid) for name, pid in children.items() if name != "group"), "children outlive it")
