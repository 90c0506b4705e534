"""``skerry edge logs`` and ``skerry edge restart``: straight to log files and engine, so that they work with the cloud
gone and with the agent stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from skerry.api.status import NotFound
from skerry.app import output
from skerry.app.edge_settings import load_config, read_node
from skerry.app.runtimes import open_runtime
from skerry.base.errors import ConfigError
from skerry.runtime.logs import read_log
from skerry.runtime.ports import ContainerState, ObservedPod


def logs(
    *, target: str, container: str | None, follow: bool, tail: int | None, previous: bool, timestamps: bool,
    data: Path | None, config_file: Path | None,
) -> int:  # fmt: skip
    """Print a container's log.

    Raises:
        NotFound: no such pod or container on this node.
        ConfigError: the pod has several containers and none was named.
    """
    config = load_config(config_file, {"data": data})
    read_node(config.data)
    path = _log_file(config.data / "pod-logs", target, container, is_previous=previous)

    async def goes_on() -> bool:
        return follow

    async def show() -> None:
        pieces = read_log(
            path, follow=follow, is_running=goes_on, tail_lines=tail, since_s=None, timestamps=timestamps,
            limit_bytes=None,
        )  # fmt: skip
        async for piece in pieces:
            output.write(piece.decode(errors="replace"))

    asyncio.run(show())
    return 0


def restart(*, target: str, container: str | None, data: Path | None, config_file: Path | None, as_json: bool) -> int:
    """End the containers of a pod; the agent starts them again as the pod's restart policy says.

    Raises:
        NotFound: no such pod on this node, or none of its containers runs.
        EngineError: the engine does not answer.
    """
    config = load_config(config_file, {"data": data})
    joined = read_node(config.data)

    async def work() -> list[str]:
        runtime = await open_runtime(config, joined)
        try:
            pod = _pod(await runtime.pods.observe(), target)
            running = [c for c in pod.containers if c.state is ContainerState.RUNNING and container in (None, c.name)]
            if not running:
                raise NotFound(f"no container {container or ''} of pod {target} runs on this node".replace("  ", " "))
            await asyncio.gather(*(runtime.pods.stop_container(each.id, grace_s=10.0) for each in running))
            return sorted(each.name for each in running)
        finally:
            await runtime.pods.aclose()

    ended = asyncio.run(work())
    text = f"pod {target}: ended {', '.join(ended)}; the agent starts them again by the pod's restart policy"
    output.emit({"pod": target, "ended": ended}, as_json=as_json, text=text)
    return 0


def _pod(observed: dict[str, ObservedPod], target: str) -> ObservedPod:
    namespace, _, name = target.rpartition("/")
    found = [pod for pod in observed.values() if pod.name == name and namespace in ("", pod.namespace)]
    only: ObservedPod = _only(found, target, [f"{pod.namespace}/{pod.name}" for pod in observed.values()])
    return only


def _only(found: list[Any], target: str, there: list[str]) -> Any:
    if not found:
        raise NotFound(f"pod {target} is not on this node; here are: {', '.join(sorted(there)) or 'none'}")
    if len(found) > 1:
        raise ConfigError(f"several pods are called {target}", hint="write NAMESPACE/NAME")
    return found[0]


def _log_file(logs_: Path, target: str, container: str | None, *, is_previous: bool) -> Path:
    """The newest log file of a container, or the one before; pod directories are ``<namespace>_<name>_<uid>``."""
    namespace, _, name = target.rpartition("/")
    places = [path for path in logs_.glob("*_*_*") if path.is_dir()]
    parts = {path: path.name.split("_") for path in places}
    found = [path for path in places if parts[path][1] == name and namespace in ("", parts[path][0])]
    found.sort(key=lambda path: path.stat().st_mtime)  # a pod that was made anew under its name: the newer one
    by_name = {"/".join(parts[path][:2]): path for path in found}
    place: Path = _only(list(by_name.values()), target, ["/".join(part[:2]) for part in parts.values()])
    names = sorted(path.name for path in place.iterdir() if path.is_dir())
    if container is None and len(names) > 1:
        raise ConfigError(f"pod {target} has several containers: {', '.join(names)}", hint="name one with -c")
    chosen = container or next(iter(names), "")
    attempts = sorted((path for path in (place / chosen).glob("*.log") if path.stem.isdecimal()), key=_attempt)
    if len(attempts) <= int(is_previous):
        what = "has not run before" if attempts else "has written no log"
        raise NotFound(f"container {chosen or 'of any name'} of pod {target} {what}")
    return attempts[-1 - int(is_previous)]


def _attempt(path: Path) -> int:
    return int(path.stem)
