"""``skerry up``: the cloud and one local edge agent as two processes in one supervised group.

Two processes, not one: the cloud can be killed without touching the node, which is what the product is about.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.app import output
from skerry.app.children import (
    PIDS,
    Child,
    Keeper,
    await_end,
    end_left_over,
    on_signals,
    process_environment,
)
from skerry.app.places import cloud_data, data_root, edge_data
from skerry.app.resting import Woken, listen_again, rest, woken
from skerry.base import json
from skerry.base.aio.supervise import Supervisor, race
from skerry.base.errors import ConfigError, SkerryError
from skerry.base.files import DirectoryLock, lock_holder, make_private_dir, write_atomic
from skerry.base.obs.log import get_log
from skerry.runtime.process.shim import start_time

log = get_log(__name__)

RUN_FILE = "run.json"
_END_S = 60.0


class Group:
    """The cloud and the edge agent below one data directory.

    Args:
        data: holds ``cloud/``, ``edge/`` and ``logs/``.
        listen, ports: of the cloud.
        node: name of the local node.
        runtime: auto, cri or process.
        environment: further settings of the agent.
    """

    def __init__(
        self, data: Path, *, listen: str, ports: str, node: str, runtime: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.data = data
        self.node = node
        self.runtime = runtime
        environment = process_environment() | dict(environment or {})
        cloud = ["cloud", "run", "--data", str(data / "cloud"), "--listen", listen, "--ports", ports, "-o", "json"]
        edge = ["edge", "run", "--data", str(data / "edge"), "--stop-pods", "-o", "json"]
        log_form = ["--log-format", "text"]
        self.cloud, self.edge = (
            Child(
                name, [*arguments, *log_form], log_file=data / f"logs/{name}.log", environment=environment,
                pid_file=data / PIDS / f"{name}.json",
            )
            for name, arguments in (("cloud", cloud), ("edge", edge))
        )  # fmt: skip

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

    def adopt(self, facts: Mapping[str, Any]) -> None:
        """Take over the processes of which ``facts`` tell, which this process started as another program."""
        self.cloud.adopt({name: facts[name] for name in ("kubeconfig", "endpoints")})
        self.edge.adopt({})

    @property
    def is_running(self) -> bool:
        """Whether both processes run."""
        return self.cloud.is_running and self.edge.is_running

    async def revive(self) -> None:
        """Start again what has ended."""
        for child in (self.cloud, self.edge):
            if not child.is_running:
                log.warning("child.ended", name=child.name)
                await child.start()

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
    before = woken(os.environ)
    with DirectoryLock(directory, held=before.lock if before else -1) as lock:
        if before is None:
            end_left_over(directory)
        return asyncio.run(_serve(group, before, lock=lock.fd, as_json=as_json))


async def _serve(group: Group, before: Woken | None, *, lock: int, as_json: bool) -> int:
    stop = on_signals()
    listen_again()
    try:
        facts = await _begin(group, as_json=as_json) if before is None else _go_on(group)
        if before is not None and before.is_told_to_stop:
            stop.set()
        while not stop.is_set():
            if not group.is_running:
                await race(group.revive(), stop.wait())
                _write_down(group, facts)
            await rest([group.cloud.pid, group.edge.pid], lock=lock, stop=stop)
    finally:
        await group.stop()
        (group.data / RUN_FILE).unlink(missing_ok=True)
    return 0


async def _begin(group: Group, *, as_json: bool) -> dict[str, Any]:
    started_s = asyncio.get_running_loop().time()
    output.progress("starting the cloud and the local edge node")
    await group.start()
    facts = _write_down(group, {"took_s": round(asyncio.get_running_loop().time() - started_s, 2)})
    output.emit(facts, as_json=as_json, text=_text(facts))
    return facts


def _go_on(group: Group) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((group.data / RUN_FILE).read_bytes())
        group.adopt(facts)
    except (OSError, json.JsonError, KeyError, TypeError) as exc:
        raise ConfigError(f"{group.data / RUN_FILE} does not tell what runs: {exc}", hint="start it again") from exc
    return facts


def _write_down(group: Group, facts: Mapping[str, Any]) -> dict[str, Any]:
    now = {**facts, **group.facts()}
    write_atomic(group.data / RUN_FILE, json.dumps(now), mode=0o600)
    return now


async def keep_alive(group: Group, stop: asyncio.Event) -> None:
    """Start children again that end by themselves, until ``stop`` is set or a restart fails."""
    async with Supervisor("group") as supervisor:
        for child in (group.cloud, group.edge):
            supervisor.run(f"keep-{child.name}", Keeper(child).run())
        await race(stop.wait(), supervisor.wait())


def status(*, data: Path | None, as_json: bool) -> int:
    """Tell what runs on this machine: groups of ``up`` and ``demo``, a cloud, an edge agent. Exit code 1 when nothing
    does.

    Args:
        data: look only there: at a group, a cloud or an agent.
    """
    groups = [facts for place in _places(data) if (facts := running(place)) is not None]
    inside = {int(pid) for facts in groups for pid in facts["pids"].values()}
    places = [data] if data else [cloud_data(None), edge_data(None)]
    alone = [facts for place in places if (facts := running_alone(place)) is not None]
    found = groups + [facts for facts in alone if not inside & {int(pid) for pid in facts["pids"].values()}]
    if not found:
        looked = ", ".join(map(str, dict.fromkeys([*_places(data), *places])))
        output.emit({"running": False, "data": looked}, as_json=as_json, text=f"nothing runs from {looked}")
        return 1
    for facts in found:
        output.emit({"running": True, **facts}, as_json=as_json, text=_text(facts))
    return 0


def down(*, data: Path | None, as_json: bool) -> int:
    """Stop what ``skerry up`` started, and wait until it is gone."""
    directory = data or data_root() / "up"
    if not end_group(directory):
        raise ConfigError(f"nothing runs from {directory}", hint="name the directory with --data")
    output.emit({"stopped": True}, as_json=as_json, text="stopped")
    return 0


def running(directory: Path) -> dict[str, Any] | None:
    """The facts of the group that runs and serves from ``directory``, or None."""
    holder = lock_holder(directory)
    try:
        facts: dict[str, Any] = json.loads((directory / RUN_FILE).read_bytes())
        return facts if holder and int(facts["pids"]["group"]) == holder else None
    except (OSError, json.JsonError, KeyError, TypeError, ValueError):
        return None


def running_alone(directory: Path) -> dict[str, Any] | None:
    """The facts of a ``skerry cloud run`` or ``skerry edge run`` that runs and serves from ``directory``, or None."""
    holder = lock_holder(directory)
    try:
        facts: dict[str, Any] = json.loads((directory / RUN_FILE).read_bytes())
        return facts if holder and holder in facts["pids"].values() and "group" not in facts["pids"] else None
    except (OSError, json.JsonError, AttributeError, KeyError, TypeError):
        return None


def end_group(directory: Path) -> bool:
    """Stop the group that runs from ``directory``, also one that does not serve yet. False when there is none.

    Raises:
        SkerryError: it did not end within 60 s.
    """
    pid = lock_holder(directory)
    if not pid:
        return False
    started = start_time(pid)
    os.kill(pid, signal.SIGTERM)
    if not await_end(pid, started, timeout_s=_END_S):
        raise SkerryError(f"process {pid} of {directory} does not end", hint=f"end it with: kill -9 {pid}; then again")
    return True


def _places(data: Path | None) -> list[Path]:
    return [data] if data else [data_root() / "up", data_root() / "demo"]


def default_node_name() -> str:
    """This machine's name as a node name (RFC 1123); ``edge`` when nothing of it can be used."""
    name = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower()).strip("-.")
    return name[:200] or "edge"


def _text(facts: dict[str, Any]) -> str:
    endpoints = "".join(f"\n  {name:<8} {url}" for name, url in (facts.get("endpoints") or {}).items())
    kubeconfig = f"\n  export KUBECONFIG={facts['kubeconfig']}" if facts.get("kubeconfig") else ""
    pids = facts["pids"]
    if "group" in pids:
        head = f"Skerry serves. Node {facts['node']}, data in {facts['data']}, logs in {facts['logs']}"
    elif "cloud" in pids:
        beside = f" beside the cluster {facts['cluster']}" if facts.get("cluster") else ""
        head = f"A cloud serves{beside}. Process {pids['cloud']}, data in {facts['data']}"
    else:
        what = f"process {pids.get('edge')}, {facts.get('runtime')} runtime, data in {facts['data']}"
        head = f"The agent of node {facts['node']} serves: {what}\n  more: skerry edge status --data {facts['data']}"
    return f"{head}{endpoints}{kubeconfig}"
