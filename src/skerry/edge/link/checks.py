"""What is verified before a join touches the machine: each hop to the cloud, then this machine.

A check that fails says what is wrong and how to mend it; the checks behind it that need it are left out.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from skerry import __version__
from skerry.base import json
from skerry.base.errors import SkerryError
from skerry.base.net import https_client
from skerry.base.net.edge_tls import client_context
from skerry.base.values import Struct
from skerry.edge.link.enrol import fetch_authority
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import join, peers

_MAX_SKEW_S = 120.0
_MIN_FREE_BYTES = 200 * 1024 * 1024


class CheckFailed(SkerryError):
    """One check did not pass."""


class Check(Struct, frozen=True):
    """One line of the report."""

    name: str
    is_ok: bool
    detail: str
    remedy: str
    took_s: float

    def to_json(self) -> dict[str, Any]:
        """The form of ``-o json``."""
        return {
            "check": self.name,
            "ok": self.is_ok,
            "detail": self.detail,
            "remedy": self.remedy,
            "took_s": self.took_s,
        }


class JoinChecks:
    """Runs the checks in order and tells of each.

    Args:
        host, port: of the join server.
        token: as given.
        node: wanted name; empty takes the token's.
        data: where the agent will live.
        probe_runtime: names the runtime that will be used; raises ``CheckFailed``.
        probe_key: says what will keep the store's key; raises ``VaultError``.
        tell: called with each check when it is done.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str,
        node: str,
        data: Path,
        probe_runtime: Callable[[], Awaitable[str]],
        probe_key: Callable[[], Awaitable[str]],
        tell: Callable[[Check], None],
    ) -> None:
        self._host = host
        self._port = port
        self._token_text = token
        self._node = node
        self._data = data
        self._probe_runtime = probe_runtime
        self._probe_key = probe_key
        self._tell = tell
        self.checks: list[Check] = []
        self.hello: dict[str, Any] = {}
        self.token: join.JoinToken | None = None
        self.node = node
        self.runtime = ""
        self._tls = client_context(None, None)

    async def run(self) -> bool:
        """Every check; whether all passed."""
        hops = [
            ("token", self._check_token), ("name resolution", self._check_dns), ("TCP", self._check_tcp),
            ("authority and TLS", self._check_authority), ("join server", self._check_hello),
            ("token use", self._check_use), ("version", self._check_version), ("clock", self._check_clock),
            ("node name", self._check_name),
        ]  # fmt: skip
        reachable = True
        for name, check in hops:
            reachable = reachable and await self._one(name, check)
        mine = [
            ("data directory", self._check_data), ("runtime", self._check_runtime), ("store key", self._probe_key),
        ]  # fmt: skip
        results = [await self._one(name, check) for name, check in mine]
        return reachable and all(results)

    async def _one(self, name: str, check: Callable[[], Awaitable[str]]) -> bool:
        started_s = time.monotonic()
        try:
            detail, remedy, is_ok = await check(), "", True
        except (SkerryError, ProtocolError) as exc:
            detail, remedy, is_ok = str(exc), exc.hint, False
        done = Check(name, is_ok, detail, remedy, round(time.monotonic() - started_s, 3))
        self.checks.append(done)
        self._tell(done)
        return is_ok

    async def _check_token(self) -> str:
        self.token = join.parse_token(self._token_text)
        claims = join.unverified_claims(self.token.jwt)
        left_s = float(claims.get("exp", 0)) - time.time()
        bound = str(claims.get("node") or "")
        self.node = self._node or bound or _machine_name()
        join.check_node_name(self.node)
        if bound and self._node and bound != self._node:
            raise CheckFailed(
                f'the token is bound to node "{bound}", not to "{self._node}"',
                hint=f"leave --node out, or make a token with: skerry token create --node {self._node}",
            )
        if left_s <= 0:
            raise CheckFailed(
                f"the token ended {-left_s / 60:.0f} minutes ago by this machine's clock",
                hint="check the clock here; otherwise make a new token",
            )
        return f"for node {self.node}, good for {left_s / 3600:.1f} h"

    async def _check_dns(self) -> str:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as exc:
            raise CheckFailed(
                f"cannot resolve {self._host}: {exc.strerror or exc}", hint="check DNS, or use an address"
            ) from exc
        return ", ".join(dict.fromkeys(str(item[4][0]) for item in found))

    async def _check_tcp(self) -> str:
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(10):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except TimeoutError as exc:
            raise CheckFailed(f"{where} did not answer within 10 s", hint="a firewall may drop it") from exc
        except OSError as exc:
            raise CheckFailed(
                f"{where} cannot be reached: {exc.strerror or exc}",
                hint="is the cloud running, and the port the right one?",
            ) from exc
        writer.close()
        return f"{where} answers"

    async def _check_authority(self) -> str:
        assert self.token is not None
        ca_der = await fetch_authority(self._host, self._port, self.token)
        self._tls = client_context(None, None, ca_der=ca_der)
        return f"authority {join.ca_hash(ca_der)[:16]}… is the token's"

    async def _check_hello(self) -> str:
        assert self.token is not None
        headers = join.request_headers(self.node, jwt=self.token.jwt)
        answer = await https_client.get(self._host, self._port, join.PATH_HELLO, tls=self._tls, headers=headers)
        if answer.status != 200:
            return "a KubeEdge cloud (no Skerry greeting)"
        try:
            self.hello = json.loads(answer.body)
        except json.JsonError as exc:
            raise CheckFailed(f"the join server's greeting is not JSON: {exc}") from exc
        return f"Skerry {self.hello.get('version', '?')}"

    async def _check_use(self) -> str:
        told = self.hello.get("token")
        if not isinstance(told, dict):
            return "the cloud tells at the join"
        if cause := str(told.get("cause") or ""):
            raise CheckFailed(
                f"the cloud refuses it: {cause[:300]}",
                hint=str(told.get("hint") or "")[:300] or f"make a new one: skerry token create --node {self.node}",
            )
        return f"good for {self.node}"

    async def _check_version(self) -> str:
        theirs = self.hello.get("version")
        if not isinstance(theirs, str):
            return "the cloud tells no version"
        if peers.version_problem(__version__, theirs):
            raise CheckFailed(
                f"this machine has Skerry {__version__}, the cloud {theirs[:40]}; these do not work together",
                hint=f"install Skerry {theirs[:40]} here (up to {peers.OLDER_ACCEPTED} minor versions apart work)",
            )
        return f"{__version__} here, {theirs} in the cloud"

    async def _check_clock(self) -> str:
        told = self.hello.get("time_s")
        if not isinstance(told, int | float):
            return "the cloud tells no time"
        skew_s = time.time() - told
        if abs(skew_s) > _MAX_SKEW_S:
            side = "ahead of" if skew_s > 0 else "behind"
            raise CheckFailed(
                f"this machine's clock is {abs(skew_s):.0f} s {side} the cloud's",
                hint="set it: timedatectl set-ntp true (certificates are judged by it)",
            )
        return f"{skew_s:+.1f} s against the cloud"

    async def _check_name(self) -> str:
        answer = await https_client.get(self._host, self._port, join.PATH_NODE + self.node, tls=self._tls)
        known = answer.status == 200
        return f"{self.node} {'is known to the cloud; this machine takes its place' if known else 'is free'}"

    async def _check_data(self) -> str:
        """Nothing is made: what is there of the path must take a directory."""
        place = self._data.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        why = "" if place.is_dir() else f"{place} is no directory"
        if not why and not os.access(place, os.W_OK | os.X_OK):
            why = f"{place} may not be written by this user"
        try:
            found = os.statvfs(place)
        except OSError as exc:
            why = why or str(exc.strerror)
        if why:
            raise CheckFailed(f"cannot use {self._data}: {why}", hint="run as root, or choose another --data")
        free = found.f_bavail * found.f_frsize
        if free < _MIN_FREE_BYTES:
            raise CheckFailed(f"only {free // 2**20} MiB free where {self._data} lies", hint="free at least 200 MiB")
        return f"{self._data}, {free // 2**20} MiB free"

    async def _check_runtime(self) -> str:
        self.runtime = await self._probe_runtime()
        return self.runtime


def _machine_name() -> str:
    name = "".join(c if c.isalnum() or c in ".-" else "-" for c in socket.gethostname().lower()).strip("-.")
    return name or "edge"
