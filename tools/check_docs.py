"""Check the documentation: relative links lead somewhere, and every source file that a page names exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
SOURCE = re.compile(
    r"`((?:base|wire|api|kube|runtime|apiserver|controllers|cloud|edge|sdk|testing|app|cli)/[\w/]+\.py)`"
)


def problems(page: Path) -> list[str]:
    """What is wrong with one page."""
    text = page.read_text()
    found = []
    for target in LINK.findall(text):
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists():
            found.append(f"{page.relative_to(ROOT)}: link leads nowhere: {target}")
    for source in SOURCE.findall(text):
        if not (ROOT / "src/skerry" / source).exists():
            found.append(f"{page.relative_to(ROOT)}: no such file: src/skerry/{source}")
    return found


def main() -> int:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").rglob("*.md")]
    found = [problem for page in sorted(pages) for problem in problems(page)]
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
