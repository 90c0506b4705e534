"""Ending every pod of this node on a runtime: at a reset, and on the one that the node had before its present one."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

from skerry.api.config.edge import EdgeConfig
from skerry.app.runtimes import OpenRuntime, open_runtime
from skerry.base.errors import StoreError
from skerry.base.obs.log import get_log
from skerry.edge.store.objects import EdgeObjects
from skerry.runtime.ports import ContainerState, EngineError

log = get_log(__name__)

_RUNTIME = "runtime"
_GRACE_S = 10.0


async def end_pods(runtime: OpenRuntime, *, grace_s: float = 0.0) -> list[str]:
    """End and remove every pod of this node; gives ``namespace/name`` of each.

    Args:
        grace_s: for containers to end by themselves, all at once.

    Raises:
        EngineError: the engine does not answer; some may be ended.
    """
    pods = list((await runtime.pods.observe()).values())
    if grace_s:
        running = [each.id for pod in pods for each in pod.containers if each.state is ContainerState.RUNNING]
        await asyncio.gather(*(runtime.pods.stop_container(each, grace_s=grace_s) for each in running))
    for sandbox in [sandbox for pod in pods for sandbox in pod.sandboxes]:
        await runtime.pods.stop_sandbox(sandbox.id)
        await runtime.pods.remove_sandbox(sandbox.id)
    for uid in runtime.pods.leftovers():
        await runtime.pods.clear_pod(uid)
    return sorted(f"{pod.namespace}/{pod.name}" for pod in pods)


async def end_former(objects: EdgeObjects, config: EdgeConfig, joined: Mapping[str, Any], runtime: OpenRuntime) -> None:
    """Where this node has another runtime or engine than before: end its pods there, or each would run twice.

    An engine that does not answer is said, and asked again at the next start.

    Args:
        runtime: the present one.
    """
    before, now = objects.fact(_RUNTIME), f"{runtime.kind} {runtime.socket.resolve() if runtime.socket else ''}"
    if before == now:
        return
    if before:
        kind, _, socket = before.partition(" ")
        former_config = dataclasses.replace(config, runtime=kind, cri_socket=socket)
        former = await open_runtime(former_config, joined)
        try:
            ended = await end_pods(former, grace_s=_GRACE_S)
        except EngineError as exc:
            log.error(
                "runtime.former_not_ended", before=before, now=now, why=exc.explained(),
                hint="pods of this node may still run there: start that engine once, and the agent again",
            )  # fmt: skip
            return
        finally:
            await former.pods.aclose()
        log.warning("runtime.changed", before=before, now=now, ended=ended)
    try:
        await objects.remember(_RUNTIME, now)
    except StoreError as exc:  # a full disk; the next start remembers it
        log.warning("runtime.not_remembered", why=str(exc))
