"""The agent as a service of systemd, and its configuration file: what a join and an adoption install."""

from __future__ import annotations

import os
import re
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


def install(data: Path, *, config_file: Path | None = None) -> None:
    """Write the unit, enable and start it. The manifest in ``data`` lists it.

    Args:
        config_file: of the operator; None for the one that the join or the adoption writes.

    Raises:
        SkerryError: systemd refuses.
    """
    Manifest(data).add("unit", str(UNIT))
    write_atomic(UNIT, unit_text(data, config_file).encode())
    for command in (("daemon-reload",), ("enable", "--now", UNIT.name)):
        systemctl(*command)


def unit_text(data: Path, config_file: Path | None) -> str:
    """The unit, with paths as systemd reads them whatever characters they have."""
    words = (sys.executable, "-m", "skerry.cli.main", "edge", "run", "--data", str(data))
    command = " ".join(_word(word) for word in (*words, "--config", str(config_file or data / "edge.yaml")))
    return (
        "[Unit]\nDescription=Skerry edge agent\nWants=network-online.target\nAfter=network-online.target\n\n"
        f"[Service]\nExecStart={command}\n"
        f"{_unit_environment()}"
        "Restart=always\nRestartSec=2\nKillMode=process\nOOMScoreAdjust=-999\n\n[Install]\nWantedBy=multi-user.target\n"
    )


def _word(text: str) -> str:
    """One word of a command line; source: systemd.service(5), command lines."""
    text = text.replace("%", "%%").replace("$", "$$")
    if not re.search(r"[\s\"';\\]", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


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
