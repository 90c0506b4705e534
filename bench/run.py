"""Run measurements and keep them: ``python bench/run.py [NAME …]``; results go to ``bench/results/NAME.json``.

A scenario is a module of ``bench/scenarios`` with ``def run() -> dict``. Machine, load and commit stand beside every
number.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    with Path("/proc/cpuinfo").open() as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_mib": memory_bytes // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def load(path: Path) -> Any:
    """The scenario module at ``path``."""
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def main(names: list[str]) -> int:
    known = {path.stem: path for path in sorted((ROOT / "scenarios").glob("*.py"))}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or known:
        print(f"{name} …", file=sys.stderr, flush=True)
        facts = machine()
        result = {"scenario": name, "machine": facts, "numbers": load(known[name]).run()}
        (ROOT / "results" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result["numbers"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
