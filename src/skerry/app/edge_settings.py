"""The agent's settings and what its join wrote, read and checked: also by commands that need no agent."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.api.config import edge as kind
from skerry.api.config import edgecore
from skerry.api.config.edge import EdgeConfig
from skerry.app.config_files import read_any
from skerry.app.places import edge_data
from skerry.base import conf, json
from skerry.base.errors import ConfigError

NODE_FILE = "node.json"


def load_config(config_file: Path | None, flags: Mapping[str, Any]) -> EdgeConfig:
    """Defaults, the file (or the one that the join wrote), the environment, the flags."""
    file = config_file or edge_data(flags.get("data")) / "edge.yaml"
    found: dict[str, Any] = {}
    if config_file or file.exists():
        found = read_any(file, kind=kind.KIND, api_version=kind.API_VERSION, table=edgecore)
    found.setdefault("data", str(edge_data(flags.get("data"))))
    config = conf.build(
        EdgeConfig, file=found, file_name=str(file), environment=os.environ, prefix=kind.ENVIRONMENT_PREFIX, flags=flags
    )
    if wrong := contradictions(config):
        raise ConfigError(f"{file}: {wrong[0]}", hint=f"see: skerry config check {file}")
    return config


def read_node(data: Path) -> dict[str, Any]:
    """What the join wrote: node, hubs, tunnels, join.

    Raises:
        ConfigError: this directory has not joined, or the file is damaged.
    """
    try:
        found = json.loads((data / NODE_FILE).read_bytes())
    except json.JsonError as exc:
        raise _damaged(data / NODE_FILE, str(exc)) from exc
    except FileNotFoundError as exc:
        raise ConfigError(
            f"{data} has not joined a cloud",
            hint="on the cloud: skerry token create --node NAME; then run the printed line here",
        ) from exc
    if not isinstance(found, dict):
        raise _damaged(data / NODE_FILE, "it holds no mapping")
    missing = [key for key in ("node", "join", "hubs", "tunnels") if not found.get(key)]
    if missing:
        raise _damaged(data / NODE_FILE, f"it does not say {', '.join(missing)}")
    return found


def _damaged(file: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{file} is damaged: {why}", hint="put it back from a copy; else `skerry reset`, and join again: pods come back"
    )


def contradictions(config: EdgeConfig) -> list[str]:
    """What is wrong between settings, or within one that is more than a word or a number; in words."""
    found = []
    if config.image_gc_low_percent > config.image_gc_high_percent:
        found.append(
            f"imageGcLowPercent ({config.image_gc_low_percent}) is above imageGcHighPercent"
            f" ({config.image_gc_high_percent})"
        )
    for key, addresses in (("clusterDns", config.cluster_dns), ("nodeIp", [config.node_ip] if config.node_ip else [])):
        found += [f"{key}: {text!r} is no IP address" for text in addresses if not _is_address(text)]
    return found


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        return False
    return True
