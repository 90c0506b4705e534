"""Recorded traffic of upstream programs, for conformance tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from skerry.base import json
from skerry.base.values import Struct

Direction = Literal["E>C", "C>E"]


class Frame(Struct, frozen=True):
    """One recorded frame of the cloud-edge link: edge to cloud (``E>C``) or back, decoded."""

    direction: Direction
    message: dict[str, Any]

    @property
    def data(self) -> bytes:
        """The frame as it crosses the wire."""
        return json.dumps(self.message) + b"\n"

    @property
    def operation(self) -> str:
        """Route operation; empty in the shutdown message."""
        return str(self.message["route"].get("operation", ""))


def hub_frames(path: Path) -> list[Frame]:
    """Read ``kubeedge-hub-frames.jsonl``: lines ``{"dir", "frame", "newline", "msg"}`` after the handshake line."""
    return [Frame(line["dir"], line["msg"]) for line in _lines(path) if "msg" in line]


def hub_handshake(path: Path) -> dict[str, Any]:
    """The first line: request path and headers of the upgrade."""
    return next(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        yield json.loads(line)
