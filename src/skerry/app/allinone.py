"""``skerry up``: the cloud and one local edge agent as two processes in one supervised group.

Two processes, not one: the cloud can be killed without touching the node, which is what the product is about.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import socket
from pathlib import Path
from typing import Any

from skerry.app import output
from skerry.app.children import Child, Keeper, on_signals, process_environment
from skerry.app.places import data_root
from skerry.base import json
from skerry.base.aio.supervise import Supervisor
from skerry.base.errors import ConfigError
from skerry.base.files import DirectoryLock, make_private_dir, write_atomic

RUN_FILE = "run.json"


class Group:
    """The cloud and the edge agent below one data directory.

    Args:
        data: holds ``cloud/``, ``edge/`` and ``logs/``.
        listen, ports: of the cloud.
        node: name of the local node.
        runtime: auto, cri or process.
    """

    def __init__(self, data: Path, *, listen: str, ports: str, node: str, runtime: str) -> None:
        self.data = data
        self.node = node
        self.runtime = runtime
        environment = process_environment()
        cloud = ["cloud", "run", "--data", str(data / "cloud"), "--listen", listen, "--ports", ports, "-o", "json"]
        edge = ["edge", "run", "--data", str(data / "edge"), "--stop-pods", "-o", "json"]
        log_form = ["--log-format", "text"]
        self.cloud = Child("cloud", [*cloud, *log_form], log_file=data / "logs/cloud.log", environment=environment)
        self.edge = Child("edge", [*edge, *log_form], log_file=data / "logs/edge.log", environment=environment)

    @property
    def kubeconfig(self) -> Path:
        """Administrator credentials for the embedded API server."""
        return Path(self.cloud.ready["kubeconfig"])

    @property
    def has_joined(self) -> bool:
        """Whether the local node has its certificate already."""
        return (self.data / "edge/node.json").exists()

    async def join(self) -> list[dict[str, Any]]:
        """Make a token for the local node and join with it; returns the checks that were made."""
        token = await self._run(
            "token", "create", "--node", self.node, "--ttl", "10m", "--data", str(self.data / "cloud")
        )
        address = token["join"]["address"]
        answer = await self._run(
            "join", address, "--token", token["token"], "--node", self.node, "--runtime", self.runtime,
            "--data", str(self.data / "edge"), "--no-service",
        )  # fmt: skip
        checks: list[dict[str, Any]] = answer["checks"]
        return checks

    async def start(self) -> None:
        """Start the cloud, join if this is the first time, start the agent."""
        await self.cloud.start()
        if not self.has_joined:
            await self.join()
        await self.edge.start()

    async def stop(self) -> None:
        """Stop the agent with its pods, then the cloud."""
        await self.edge.stop()
        await self.cloud.stop()

    def facts(self) -> dict[str, Any]:
        """The object that says that all serves."""
        return {
            "ready": True,
            "kubeconfig": str(self.kubeconfig),
            "endpoints": self.cloud.ready["endpoints"],
            "pids": {"cloud": self.cloud.pid, "edge": self.edge.pid, "group": os.getpid()},
            "node": self.node,
            "data": str(self.data),
            "logs": str(self.data / "logs"),
        }

    async def _run(self, *arguments: str) -> Any:
        log_file = self.data / f"logs/{arguments[0]}.log"
        child = Child(arguments[0], [*arguments, "-o", "json"], log_file=log_file, environment=process_environment())
        answer = await child.start()
        await child.wait()
        return answer


def main(
    *, data: Path | None, listen: str | None, ports: str | None, node: str | None, runtime: str, as_json: bool
) -> int:
    """Run until a signal comes. Returns the exit code."""
    directory = make_private_dir(data or data_root() / "up")
    group = Group(
        directory,
        listen=listen or "127.0.0.1",
        ports=ports or "default",
        node=node or default_node_name(),
        runtime=runtime,
    )
    with DirectoryLock(directory):
        return asyncio.run(_serve(group, as_json=as_json))


async def _serve(group: Group, *, as_json: bool) -> int:
    stop = on_signals()
    started_s = asyncio.get_running_loop().time()
    try:
        output.progress("starting the cloud and the local edge node")
        await group.start()
        facts = group.facts() | {"took_s": round(asyncio.get_running_loop().time() - started_s, 2)}
        write_atomic(group.data / RUN_FILE, json.dumps(facts), mode=0o600)
        output.emit(facts, as_json=as_json, text=_text(facts))
        await keep_alive(group, stop)
    finally:
        await group.stop()
        (group.data / RUN_FILE).unlink(missing_ok=True)
    return 0


async def keep_alive(group: Group, stop: asyncio.Event) -> None:
    """Start children again that end by themselves, until ``stop`` is set or a restart fails."""
    async with Supervisor("group") as supervisor:
        for child in (group.cloud, group.edge):
            supervisor.run(f"keep-{child.name}", Keeper(child).run())
        waiting = {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(supervisor.wait())}
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()


def status(*, data: Path | None, as_json: bool) -> int:
    """Tell what ``skerry up`` or ``skerry demo`` runs. Exit code 1 when nothing runs."""
    facts = running(data)
    if facts is None:
        where = data or data_root() / "up"
        output.emit({"running": False, "data": str(where)}, as_json=as_json, text=f"nothing runs from {where}")
        return 1
    output.emit({"running": True, **facts}, as_json=as_json, text=_text(facts))
    return 0


def down(*, data: Path | None, as_json: bool) -> int:
    """Stop what ``skerry up`` started, and wait until it is gone."""
    facts = running(data)
    if facts is None:
        raise ConfigError(f"nothing runs from {data or data_root() / 'up'}", hint="name the directory with --data")
    pid = int(facts["pids"]["group"])
    os.kill(pid, signal.SIGTERM)
    wait_for_end(pid)
    output.emit({"stopped": True}, as_json=as_json, text="stopped")
    return 0


def running(data: Path | None) -> dict[str, Any] | None:
    """The facts of the running group, or None."""
    path = (data or data_root() / "up") / RUN_FILE
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        os.kill(int(facts["pids"]["group"]), 0)
    except (OSError, json.JsonError, KeyError, TypeError, ValueError):
        return None
    return facts


def default_node_name() -> str:
    """This machine's name as a node name (RFC 1123); ``edge`` when nothing of it can be used."""
    name = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.")
    return name[:200] or "edge"


def wait_for_end(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([fd], [], [], 30)
    finally:
        os.close(fd)


def _text(facts: dict[str, Any]) -> str:
    endpoints = "\n".join(f"  {name:<8} {url}" for name, url in facts["endpoints"].items())
    return (
        f"Skerry serves. Node {facts['node']}, data in {facts['data']}, logs in {facts['logs']}\n{endpoints}\n"
        f"  export KUBECONFIG={facts['kubeconfig']}"
    )
