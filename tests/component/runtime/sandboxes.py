"""Sandboxes for tests of what engines lose."""

from __future__ import annotations

import uuid
from pathlib import Path

from skerry.runtime.ports import SandboxSpec


def bare_sandbox(directory: Path) -> SandboxSpec:
    """One of a fresh pod without containers; its logs are below ``directory``."""
    uid = str(uuid.uuid4())
    return SandboxSpec(
        namespace="default",
        name=f"pod-{uid[:8]}",
        uid=uid,
        attempt=0,
        hostname="pod",
        log_directory=directory / "pod-logs" / f"default_pod_{uid}",
        pod={"spec": {"containers": []}},
    )
