"""The agent as a service of systemd, and its configuration file: what a join and an adoption install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.base import json
from skerry.base.errors import SkerryError
from skerry.base.files import write_atomic
from skerry.edge.link.manifest import Manifest

AGENT_ENVIRONMENT = {"PYTHONOPTIMIZE": "2", "MALLOC_ARENA_MAX": "1"}
"""Of the installed agent: without docstrings and with one heap it takes 1.5 MB less."""
UNIT = Path("/etc/systemd/system/skerry-edge.service")


def can_install() -> bool:
    """Whether this machine has a systemd that we may tell."""
    return os.geteuid() == 0 and shutil.which("systemctl") is not None and Path("/run/systemd/system").is_dir()


def install(data: Path) -> None:
    """Write the unit, enable and start it. The manifest in ``data`` lists it.

    Raises:
        SkerryError: systemd refuses.
    """
    unit = (
        "[Unit]\nDescription=Skerry edge agent\nWants=network-online.target\nAfter=network-online.target\n\n"
        f"[Service]\nExecStart={sys.executable} -m skerry.cli.main edge run --data {data} --config {data}/edge.yaml\n"
        f"{_unit_environment()}"
        "Restart=always\nRestartSec=2\nKillMode=process\nOOMScoreAdjust=-999\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    Manifest(data).add("unit", str(UNIT))
    write_atomic(UNIT, unit.encode())
    for command in (("daemon-reload",), ("enable", "--now", UNIT.name)):
        systemctl(*command)


def systemctl(*arguments: str) -> str:
    """Run systemctl; its output.

    Raises:
        SkerryError: with what it says.
    """
    try:
        done = subprocess.run(["systemctl", *arguments], check=True, capture_output=True, text=True, timeout=60)
    except subprocess.CalledProcessError as exc:
        raise SkerryError(f"systemctl {' '.join(arguments)}: {exc.stderr.strip()}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise SkerryError(f"systemctl {' '.join(arguments)}: {exc}") from exc
    return done.stdout


def settings_file(config: Mapping[str, Any]) -> bytes:
    """A configuration file, one setting a line. JSON is YAML, and costs the agent less memory to read."""
    lines = (json.dumps(key) + b": " + json.dumps(value) for key, value in config.items())
    return b"{\n  " + b",\n  ".join(lines) + b"\n}\n"


def _unit_environment() -> str:
    return "".join(f"Environment={name}={value}\n" for name, value in AGENT_ENVIRONMENT.items())
