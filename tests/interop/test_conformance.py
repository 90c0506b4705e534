"""Upstream's conformance tests, a list each; ``SKERRY_E2E_TEST`` and ``SKERRY_AGNHOST`` name upstream's programs.

With ``SKERRY_CONFORMANCE_RECORD`` the page of results is brought up to date. Each list has a process and a network
namespace of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from tests.interop.conformance import GROUPS, listed
from tests.interop.goedge import binary

pytestmark = [pytest.mark.interop, pytest.mark.timeout(3 * 3600)]

PAGE = Path(__file__).parents[2] / "docs/reference/conformance.md"
COUNTS = {"A": 140, "B": 34, "C": 39, "D": 29}


@pytest.mark.parametrize("group", sorted(GROUPS))
async def test_every_failure_has_a_known_cause(group: str, tmp_path: Path) -> None:
    binary("SKERRY_E2E_TEST")
    if group != "B":
        binary("SKERRY_AGNHOST")
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    assert len(listed([group])) == COUNTS[group]
    record = ["--record", str(PAGE)] if os.environ.get("SKERRY_CONFORMANCE_RECORD") else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.interop.conformance", "--group", group, "--work", str(tmp_path), *record,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
