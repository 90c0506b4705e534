"""The tour as a new user meets it: seconds to ready, each step, memory of cloud and agent (process runtime)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def run() -> dict[str, Any]:
    """Run ``skerry demo`` once in a fresh directory."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "demo"
        command = [
            sys.executable,
            "-m",
            "skerry.cli.main",
            "demo",
            "--data",
            str(data),
            "--exit-when-ready",
            "-o",
            "json",
        ]
        facts = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        "ready_s": facts["took_s"],
        "steps_s": {step["step"]: step["took_s"] for step in facts["steps"]},
        "memory_mib": facts["memory_mib"],
        "plug": {
            name: facts["plug"][name] for name in ("seconds", "back_s", "restarts", "readings_out", "readings_in")
        },
    }
