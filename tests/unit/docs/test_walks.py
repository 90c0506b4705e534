"""The walks name files that exist, and every one of the four walks is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WALKS = (ROOT / "docs/explain/walks.md").read_text()


def test_every_named_file_exists() -> None:
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+\.py)`", WALKS))
    assert len(named) > 50
    assert sorted(name for name in named if not (ROOT / "src/skerry" / name).exists()) == []


def test_every_walk_is_told() -> None:
    assert len(re.findall(r"^## \d\. I am a ", WALKS, re.MULTILINE)) == 4
