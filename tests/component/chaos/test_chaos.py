"""Cloud and agents under cuts, black holes, slow lines, lost, doubled and swapped messages, and SIGKILL.

After quiet every node holds exactly what it should, versions of an object never went back, and the last status that
each node left has arrived. A seed repeats the changes and the kind and order of the faults.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.component.chaos.run import KINDS, Chaos, Outcome, Size

SHORT = Size(nodes=10, changes=300, groups=4, most_cloud_kills=2)
LONG = Size(nodes=50, changes=2000, groups=8)
SEEDS = int(os.environ.get("SKERRY_CHAOS_SEEDS", "40"))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(1, 6))
async def test_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path, seed: int) -> None:
    outcome = await Chaos(tmp_path, seed, SHORT).run()
    assert outcome.applied > 100
    assert all(outcome.faults[kind] for kind in KINDS), outcome.faults
    note(outcome)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(1001, 1001 + SEEDS))
async def test_nothing_is_lost_in_a_fleet(tmp_path: Path, seed: int) -> None:
    outcome = await Chaos(tmp_path, seed, LONG).run()
    assert outcome.applied > 1000
    assert all(outcome.faults[kind] for kind in KINDS), outcome.faults
    note(outcome)


def note(outcome: Outcome) -> None:
    """Leave a line of what happened in ``SKERRY_CHAOS_LOG``."""
    if name := os.environ.get("SKERRY_CHAOS_LOG"):
        with Path(name).open("a") as file:
            file.write(json.dumps(asdict(replace(outcome, faults=dict(outcome.faults)))) + "\n")
