"""``skerry edge status`` and ``skerry edge pods``: on the node itself, also with the cloud gone."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from skerry.app import output
from skerry.app.edge_settings import load_config, read_node
from skerry.app.places import edge_data
from skerry.app.status_file import STATUS_FILE
from skerry.base import json

_NEEDED = {"pid", "written_s", "link_up", "down_since_s", "why", "waiting", "pods", "runtime"}


def status(*, data: Path | None, config_file: Path | None, as_json: bool) -> int:
    """Link, backlog and pods. Exit code 1 when the agent does not run."""
    directory = load_config(config_file, {"data": data}).data
    facts = read_status(directory)
    flag = "" if directory == edge_data(None) else f" --data {directory}"
    output.emit(facts, as_json=as_json, text=_text(facts, start=f"skerry edge run{flag}"))
    return 0 if facts["running"] else 1


def pods(*, data: Path | None, config_file: Path | None, as_json: bool) -> int:
    """The pods of this node as the agent last saw them."""
    directory = load_config(config_file, {"data": data}).data
    facts = read_status(directory)
    found = facts.get("pods", [])
    rows = [(p["namespace"], p["name"], p["phase"], p["ready"], p["restarts"], p.get("why", "")) for p in found]
    head = ("NAMESPACE", "NAME", "PHASE", "READY", "RESTARTS", "WHY")
    text = output.table(head, rows) if rows else "no pods on this node"
    output.emit({"items": found}, as_json=as_json, text=text)
    return 0


def read_status(directory: Path) -> dict[str, Any]:
    """What the agent wrote last, and whether it runs.

    Raises:
        ConfigError: the directory has not joined a cloud.
    """
    joined = read_node(directory)
    try:
        found = json.loads((directory / STATUS_FILE).read_bytes())
    except (OSError, json.JsonError):
        found = None
    if not isinstance(found, dict) or not found.keys() >= _NEEDED:
        found = {"node": joined["node"], "pid": 0, "written_s": 0.0}
    found["running"] = _is_alive(int(found["pid"])) and time.time() - float(found["written_s"]) < 30
    return found


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _text(facts: dict[str, Any], *, start: str) -> str:
    if not facts["running"]:
        return f"node {facts['node']}: the agent does not run; start it with: {start} (pods go on meanwhile)"
    if facts["link_up"]:
        link = "connected to the cloud"
    else:
        link = f"OFFLINE for {output.age(time.time() - facts['down_since_s'])}: {facts['why']}"
    waiting = f"{facts['waiting']} reports wait to be sent"
    if facts.get("oldest_waiting_s"):
        waiting += f", the oldest for {output.age(time.time() - facts['oldest_waiting_s'])}"
    count = len(facts["pods"])
    return f"node {facts['node']}: {link}\n{waiting}\n{count} pods on the {facts['runtime']} runtime"
