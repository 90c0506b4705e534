"""Where data lies: as root in ``/var/lib/skerry``, otherwise below ``$XDG_DATA_HOME``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def data_root(environment: Mapping[str, str] = os.environ) -> Path:
    """The directory of this user's Skerry data."""
    if os.geteuid() == 0:
        return Path("/var/lib/skerry")
    base = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return Path(base) / "skerry"


def cloud_data(data: Path | None) -> Path:
    """The cloud's directory: as given, else the default."""
    return data or data_root() / "cloud"


def edge_data(data: Path | None) -> Path:
    """The agent's directory: as given, else the default."""
    return data or data_root() / "edge"
