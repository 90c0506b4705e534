"""What probes and hooks do: run a command in the container, ask a port, sleep. Every answer is bounded.

Source: kubernetes pkg/probe/{exec,http,tcp,grpc}, pkg/kubelet/lifecycle/handlers.go (1.36).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from skerry.base.aio.clock import Clock
from skerry.base.net import probe_http
from skerry.base.net.probe_http import HttpProbeFailed
from skerry.base.values import Struct
from skerry.runtime.ports import ContainerIO, EngineError, ExecTimeout

_TEXT_CHARS = 1024
_HOOK_S = 3600.0
"""Longest a command of a hook may take; the kubelet sets no limit at all."""

_AGENT = ("User-Agent", "kube-probe/1.33")


class Aim(Struct, frozen=True):
    """The container that is asked.

    Args:
        ip: the pod's address.
        ports: the container's, for names.
    """

    container_id: str
    ip: str
    ports: Sequence[Mapping[str, Any]] = ()


class Outcome(Struct, frozen=True):
    """``is_good`` is None where the question itself could not be put."""

    is_good: bool | None
    text: str = ""


class HandlerError(Exception):
    """A hook that failed; only the log tells more, since output may hold secrets."""


class Handlers:
    """Runs handlers.

    Args:
        io: of the engine.
        clock: for sleep hooks.
    """

    def __init__(self, io: ContainerIO, clock: Clock) -> None:
        self._io = io
        self._clock = clock

    async def check(self, probe: Mapping[str, Any], aim: Aim, *, timeout_s: float) -> Outcome:
        """One probe of a container."""
        if exec_ := probe.get("exec"):
            return await self._command(exec_, aim, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                if http := probe.get("httpGet"):
                    return await _http(http, aim)
                if tcp := probe.get("tcpSocket"):
                    return await _tcp(tcp, aim)
                if (grpc := probe.get("grpc")) is not None:
                    return await _grpc(grpc, aim, timeout_s)
        except TimeoutError:
            return Outcome(False, f"no answer within {timeout_s:g}s (context deadline exceeded)")
        except ValueError as exc:
            return Outcome(None, str(exc))
        return Outcome(None, "the probe names no handler that this node knows")

    async def hook(self, handler: Mapping[str, Any], aim: Aim) -> None:
        """One postStart or preStop hook; the caller sets the time limit.

        Raises:
            HandlerError: it failed.
        """
        if exec_ := handler.get("exec"):
            outcome = await self._command(exec_, aim, _HOOK_S)
        elif http := handler.get("httpGet"):
            try:
                outcome = await _http(http, aim)
            except ValueError as exc:
                outcome = Outcome(False, str(exc))
        elif handler.get("sleep") is not None:
            await self._clock.sleep(float(handler["sleep"].get("seconds") or 0))
            return
        else:
            outcome = Outcome(False, f"no handler that this node knows: {', '.join(handler)}")
        if not outcome.is_good:
            raise HandlerError(outcome.text)

    async def _command(self, exec_: Mapping[str, Any], aim: Aim, timeout_s: float) -> Outcome:
        command = [str(word) for word in exec_.get("command") or []]
        if not command:
            return Outcome(None, "exec without a command")
        try:
            exit_code, output = await self._io.exec_sync(aim.container_id, command, timeout_s=timeout_s)
        except ExecTimeout as exc:
            return Outcome(False, str(exc))
        except EngineError as exc:
            # Also no such program: as on any node, that tells nothing about the container, which is not restarted.
            return Outcome(None, str(exc))
        text = output.decode(errors="replace")[:_TEXT_CHARS]
        return Outcome(exit_code == 0, text or f"the command ended with exit code {exit_code}")


def port_number(port: Any, ports: Sequence[Mapping[str, Any]]) -> int:
    """The number of a port that is given by number or by the name that the container gives it.

    Raises:
        ValueError: no such port.
    """
    text = str(port)
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not number:
        number = next((int(p.get("containerPort") or 0) for p in ports if p.get("name") == text), 0)
    if not 0 < number < 65536:
        raise ValueError(f"the container has no port {text!r}")
    return number


async def _http(http: Mapping[str, Any], aim: Aim) -> Outcome:
    scheme = str(http.get("scheme") or "HTTP").upper()
    given = [(str(h.get("name", "")), str(h.get("value", ""))) for h in http.get("httpHeaders") or []]
    names = {name.lower() for name, _ in given}
    headers = [pair for pair in (_AGENT, ("Accept", "*/*")) if pair[0].lower() not in names] + given
    headers = [pair for pair in headers if pair[0].lower() != "accept" or pair[1]]
    target = str(http.get("path") or "/")
    host, port = str(http.get("host") or aim.ip), port_number(http.get("port"), aim.ports)
    try:
        status, body = await probe_http.get(
            host, port, target if target.startswith("/") else f"/{target}", is_tls=scheme == "HTTPS", headers=headers
        )
    except HttpProbeFailed as exc:
        return Outcome(False, f"Get {scheme.lower()}://{host}:{port}{target}: {exc}")
    if 200 <= status < 400:
        return Outcome(True, body[:_TEXT_CHARS])
    return Outcome(False, f"HTTP probe failed with statuscode: {status}")


async def _tcp(tcp: Mapping[str, Any], aim: Aim) -> Outcome:
    host, port = str(tcp.get("host") or aim.ip), port_number(tcp.get("port"), aim.ports)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as exc:
        return Outcome(False, f"dial tcp {host}:{port}: {exc.strerror or exc}")
    writer.transport.abort()
    return Outcome(True)


async def _grpc(grpc: Mapping[str, Any], aim: Aim, timeout_s: float) -> Outcome:
    from skerry.edge.pods.probe_grpc import ask  # costs 6 MB: only where a pod has such a probe

    service = str(grpc.get("service") or "")
    return Outcome(*await ask(aim.ip, port_number(grpc.get("port"), aim.ports), service, timeout_s=timeout_s))
