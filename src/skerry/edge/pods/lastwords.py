"""Why a container ended, in its own words: ``terminationMessagePath`` and ``terminationMessagePolicy``.

Reads are bounded, and a link in the place of the file is not followed: the file is written by the container. The log
is the engine's, and may be a link to the engine's own file (Docker's).
Source: kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go:getTerminationMessage (1.36).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.runtime.ports import ObservedContainer
from skerry.wire.errors import ProtocolError
from skerry.wire.kubelet import crilog

FILE_BYTES = 4096
LOG_BYTES, LOG_LINES = 2048, 80
_READ_BYTES = 64 * 1024


def read_last_words(container: Mapping[str, Any], ended: ObservedContainer, path: Path) -> str:
    """The message of an ended container: the engine's, then the container's.

    Args:
        container: its definition.
        ended: with exit code and log.
        path: the file on the node.
    """
    text = _read(path, FILE_BYTES, os.O_NOFOLLOW).decode(errors="replace")
    uses_log = container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
    if not text and uses_log and ended.exit_code and ended.log_path is not None:
        text = _last_lines(ended.log_path)
    return f"{ended.message}{text}"[:FILE_BYTES]


def _last_lines(path: Path) -> str:
    lines: list[bytes] = []
    for raw in _read(path, _READ_BYTES, from_end=True).splitlines(keepends=True)[-LOG_LINES - 1 :]:
        with contextlib.suppress(ProtocolError):
            entry = crilog.decode(raw)
            lines.append(entry.content + (b"" if entry.is_partial else b"\n"))
    return b"".join(lines[-LOG_LINES:])[-LOG_BYTES:].decode(errors="replace")


def _read(path: Path, limit_bytes: int, flags: int = 0, *, from_end: bool = False) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    except OSError:
        return b""
    try:
        if from_end:
            os.lseek(fd, max(0, os.fstat(fd).st_size - limit_bytes), os.SEEK_SET)
        return os.read(fd, limit_bytes)
    except OSError:
        return b""
    finally:
        os.close(fd)
