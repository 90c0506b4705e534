"""The audit log: one JSON line for each write over HTTPS, with who, what, outcome and how long it took.

Bodies and queries are never written, so no Secret and no token can be in it. Lines wait in memory until a thread has
appended them. Bound: 10,000 waiting lines. Overflow rule: the newest are dropped, and a line says how many. The file is
private (0600); at its limit it becomes ``.1``, the older ones move on, and the oldest goes.

A line::

    {"time": "2030-01-31T10:20:30.123456Z", "verb": "patch", "user": "jane", "groups": [...], "as": "root",
     "from": "10.0.0.7", "agent": "kubectl/v1.33.0", "resource": "apps/v1/deployments", "subresource": "scale",
     "namespace": "default", "name": "web", "dryRun": true,
     "annotations": {"policy/key": "…"}, "status": 409, "reason": "Conflict", "took_ms": 1.9}
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.apiserver.auth.authn import User
from skerry.apiserver.request_info import RequestInfo
from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, field

log = get_log(__name__)

WAITING_LINES = 10_000
_WRITES = ("create", "update", "patch", "delete", "deletecollection")
_REVIEWS = ("authentication.k8s.io", "authorization.k8s.io")
_CONNECTIONS = ("exec", "attach", "portforward", "proxy")
_LONGEST = 256
_MOST_NOTES, _LONGEST_NOTE = 32, 2048


class Trace(Struct):
    """What is known of one request; filled while it is answered.

    Args:
        caller: who sent it.
        user: on whose behalf.
        name: of the object that was written, when the server made the name.
        annotations: what admission noted: Pod Security, policies, webhooks.
    """

    info: RequestInfo | None = None
    caller: User | None = None
    user: User | None = None
    name: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_audited(self) -> bool:
        """Whether the request would change something, or reach into a pod."""
        info = self.info
        if info is None or not info.is_resource or info.group in _REVIEWS:
            return False
        return info.verb in _WRITES or info.subresource in _CONNECTIONS


class AuditLog:
    """Appends to one file.

    Args:
        path: of the file; its directory exists.
        clock: time of lines.
        max_bytes: when the file is put aside.
        keep: how many files are kept besides the one that is written.
    """

    def __init__(self, path: Path, *, clock: Clock, max_bytes: int = 64 << 20, keep: int = 8) -> None:
        self._path = path
        self._clock = clock
        self._max_bytes = max_bytes
        self._keep = keep
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._has_lines = asyncio.Event()
        self._supervisor = Supervisor("audit", clock=clock)

    def start(self) -> None:
        """Begin to write."""
        self._supervisor.keep("write", self._run)

    async def aclose(self) -> None:
        """Write what waits, and stop."""
        await self._supervisor.aclose()
        await asyncio.to_thread(self._append, self._taken())

    @property
    def waiting(self) -> int:
        """Lines that no thread has taken yet."""
        return len(self._waiting)

    def note(self, trace: Trace, *, address: str, agent: str, status: int, reason: str, took_s: float) -> None:
        """Write a line about one request."""
        if len(self._waiting) >= WAITING_LINES:
            self._dropped += 1
            return
        line = self._line(trace) | {"from": address, "agent": agent[:_LONGEST], "status": status}
        if reason:
            line["reason"] = reason
        line["took_ms"] = round(took_s * 1000, 1)
        self._waiting.append(json.dumps(line))
        self._has_lines.set()

    def _line(self, trace: Trace) -> dict[str, Any]:
        info, caller, user = trace.info, trace.caller, trace.user
        assert info is not None
        moment = datetime.datetime.fromtimestamp(self._clock.now_s(), datetime.UTC)
        line: dict[str, Any] = {"time": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "verb": info.verb}
        if caller is not None:
            line |= {"user": caller.name, "groups": list(caller.groups)}
        if user is not None and user is not caller:
            line["as"] = user.name
        version = f"{info.group}/{info.version}" if info.group else info.version
        line["resource"] = f"{version}/{info.resource}"
        for name, value in (
            ("subresource", info.subresource), ("namespace", info.namespace), ("name", trace.name or info.name),
        ):  # fmt: skip
            if value:
                line[name] = value[:_LONGEST]
        if info.query.get("dryRun"):
            line["dryRun"] = True
        notes = list(trace.annotations.items())[:_MOST_NOTES]
        if notes:
            line["annotations"] = {name[:_LONGEST]: text[:_LONGEST_NOTE] for name, text in notes}
        return line

    async def _run(self) -> None:
        while True:
            await self._has_lines.wait()
            self._has_lines.clear()
            lines = self._taken()
            try:
                await asyncio.to_thread(self._append, lines)
            except OSError as exc:
                hint = f"make room on the disk of {self._path}, or set audit_max_mb to 0"
                log.error("audit.write_failed", lines=len(lines), error=str(exc), hint=hint)

    def _taken(self) -> Sequence[bytes]:
        lines, self._waiting = list(self._waiting), deque()
        if self._dropped:
            lines.append(json.dumps({"dropped": self._dropped}))
            self._dropped = 0
        return lines

    def _append(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        data = b"\n".join(lines) + b"\n"
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size + len(data) > self._max_bytes:
                self._rotate()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(data)

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            with contextlib.suppress(FileNotFoundError):
                older.replace(self._numbered(number))
        if self._keep == 0:
            self._path.unlink()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
