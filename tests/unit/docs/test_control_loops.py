"""The how-to about control loops names every one of them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_loop_is_described() -> None:
    source = (ROOT / "src/skerry/app/cloud_controllers.py").read_text()
    known = set(re.findall(r'^        "([a-z-]+)": lambda', source, re.M))
    page = (ROOT / "docs/howto/choose-the-control-loops.md").read_text()
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    described = {name for cell in cells for name in re.findall(r"`([a-z-]+)`", cell)}
    assert described == known and "scheduler" in known
