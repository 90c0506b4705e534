"""``Certifier`` as a process of its own, started at the first order and ended when none has come for a while.

Its library would cost a process that serves for months 11 MB for a few orders a day; and what parses requests of
others is not the process that holds everything else. Orders go through one at a time (0.5 ms each); an order over
which the process ends is given to a new one once: all of them are functions of what they are given.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from skerry.base import json
from skerry.base.certificates import (
    CLIENT_DAYS,
    CertificateInfo,
    CertifierFailed,
    Credential,
    RequestInfo,
    X509Error,
)
from skerry.base.obs.log import get_log

log = get_log(__name__)

IDLE_S = 10.0
PROGRAM = (sys.executable, "-P", "-m", "skerry.base.x509_service")
_TIMEOUT_S = 60.0
_END_S = 5.0
_LINE_BYTES = 16 << 20
_TRIES = 2


class _Gone(Exception):
    """The process ended, or speaks no more."""


class ChildCertifier:
    """Makes and reads certificates in a child process.

    Args:
        idle_s: so long after the last order the process ends.
        program: what is run; see ``base.x509_service`` for what it must do.
    """

    def __init__(self, *, idle_s: float = IDLE_S, program: Sequence[str] = PROGRAM) -> None:
        self._idle_s = idle_s
        self._program = tuple(program)
        self._lock = asyncio.Lock()
        self._child: asyncio.subprocess.Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = itertools.count(1)

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._child.pid if self._child is not None and self._child.returncode is None else 0

    async def start(self) -> None:
        """Begin to start the process: who knows that an order comes soon waits less for it."""
        async with self._lock:
            await self._running()
            self._rest_later()

    async def aclose(self) -> None:
        """End the process, after the order that it works on."""
        async with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            child, self._child = self._child, None
            if child is not None:
                await _end(child)

    async def new_ca(self, common_name: str, *, serial: int | None = None, now_s: float | None = None) -> Credential:
        """See ``Certifier``."""
        return _credential(await self._ask("new_ca", common_name=common_name, serial=serial, now_s=now_s))

    async def cross_sign(self, issuer: Credential, ca_cert: bytes, *, now_s: float | None = None) -> bytes:
        """See ``Certifier``."""
        return _binary(await self._ask("cross_sign", issuer=issuer, ca_cert=ca_cert, now_s=now_s))

    async def issue_server(
        self, ca: Credential, hosts: Iterable[str], *, common_name: str = "KubeEdge",
        organizations: Sequence[str] = ("KubeEdge",), now_s: float | None = None,
    ) -> Credential:  # fmt: skip
        """See ``Certifier``."""
        return _credential(
            await self._ask(
                "issue_server", ca=ca, hosts=list(hosts), common_name=common_name,
                organizations=list(organizations), now_s=now_s,
            )
        )  # fmt: skip

    async def issue_client(
        self, ca: Credential, common_name: str, *, organizations: Sequence[str] = (), now_s: float | None = None
    ) -> Credential:
        """See ``Certifier``."""
        order = {"ca": ca, "common_name": common_name, "organizations": list(organizations), "now_s": now_s}
        return _credential(await self._ask("issue_client", **order))

    async def sign_csr(
        self, ca: Credential, csr_der: bytes, *, common_name: str, organizations: Sequence[str] = (),
        days: int = CLIENT_DAYS, now_s: float | None = None,
    ) -> bytes:  # fmt: skip
        """See ``Certifier``."""
        return _binary(
            await self._ask(
                "sign_csr", ca=ca, csr_der=csr_der, common_name=common_name, organizations=list(organizations),
                days=days, now_s=now_s,
            )
        )  # fmt: skip

    async def sign_request(
        self, ca: Credential, csr_der: bytes, *, usages: Collection[str], valid_s: float, now_s: float | None = None
    ) -> bytes:
        """See ``Certifier``."""
        order = {"ca": ca, "csr_der": csr_der, "usages": list(usages), "valid_s": valid_s, "now_s": now_s}
        return _binary(await self._ask("sign_request", **order))

    async def read_csr(self, csr_der: bytes) -> RequestInfo:
        """See ``Certifier``."""
        return RequestInfo(**_with_tuples(await self._ask("read_csr", csr_der=csr_der)))

    async def read_certificate(self, cert: bytes) -> CertificateInfo:
        """See ``Certifier``."""
        found = _with_tuples(await self._ask("read_certificate", cert=cert))
        return CertificateInfo(**{**found, "serial": int(found["serial"])})

    async def pair(self, cert: bytes, key: bytes) -> Credential:
        """See ``Certifier``."""
        return _credential(await self._ask("pair", cert=cert, key=key))

    async def is_issued_by(self, cert: bytes, ca_cert: bytes) -> bool:
        """See ``Certifier``."""
        return bool(await self._ask("is_issued_by", cert=cert, ca_cert=ca_cert))

    async def is_of_same_key(self, cert: bytes, other: bytes) -> bool:
        """See ``Certifier``."""
        return bool(await self._ask("is_of_same_key", cert=cert, other=other))

    async def _ask(self, do: str, **order: Any) -> Any:
        number = next(self._numbers)
        line = json.dumps({"id": number, "do": do} | {name: _told(value) for name, value in order.items()}) + b"\n"
        async with self._lock:
            try:
                answer = await self._answer(number, line, do)
            finally:
                self._rest_later()
        if "error" in answer:
            raise X509Error(str(answer["error"]), hint=str(answer.get("hint") or ""))
        return answer["is"]

    async def _answer(self, number: int, line: bytes, do: str) -> dict[str, Any]:
        for _ in range(_TRIES):
            child = await self._running()
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    return await _exchange(child, number, line)
            except (_Gone, TimeoutError) as exc:
                log.warning("certifier.lost", order=do, pid=child.pid, error=str(exc) or "no answer in time")
                self._child = None
                await _end(child, kill=True)
        raise CertifierFailed(f"the process for certificates ended over {do!r}", hint="its last words are in our log")

    async def _running(self) -> asyncio.subprocess.Process:
        if self._timer is not None:
            self._timer.cancel()
        if self._child is None or self._child.returncode is not None:
            try:
                self._child = await asyncio.create_subprocess_exec(
                    *self._program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    start_new_session=True, limit=_LINE_BYTES,
                )  # fmt: skip
            except OSError as exc:
                raise CertifierFailed(f"cannot start the process for certificates: {exc}") from exc
        return self._child

    def _rest_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._rest)

    def _rest(self) -> None:
        """It ends by itself at the end of its orders."""
        if self._lock.locked():
            return
        child, self._child = self._child, None
        if child is not None and child.stdin is not None:
            child.stdin.close()


async def _exchange(child: asyncio.subprocess.Process, number: int, line: bytes) -> dict[str, Any]:
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(line)
        await child.stdin.drain()
        while True:
            found = await child.stdout.readline()
            if not found:
                raise _Gone("it ended")
            answer: dict[str, Any] = json.loads(found)
            if answer["id"] == number:  # else it is that of an order that nobody waits for any more
                return answer
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise _Gone(str(exc)) from exc


async def _end(child: asyncio.subprocess.Process, *, kill: bool = False) -> None:
    if child.stdin is not None:
        child.stdin.close()
    if not kill:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await child.wait()
                return
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()


def _told(value: Any) -> Any:
    if isinstance(value, Credential):
        return {"cert": _told(value.cert_der), "key": _told(value.key_der)}
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _binary(found: str) -> bytes:
    return base64.b64decode(found)


def _credential(found: dict[str, str]) -> Credential:
    return Credential(_binary(found["cert"]), _binary(found["key"]))


def _with_tuples(found: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
