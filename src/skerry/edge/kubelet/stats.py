"""``/stats/summary``: what the node and its containers use, in the kubelet's shape.

Rates are between two questions: the first answer has totals only.
Source: kubernetes staging/src/k8s.io/kubelet/pkg/apis/stats/v1alpha1/types.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from skerry.api.meta import rfc3339
from skerry.base.aio.clock import Clock
from skerry.base.values import Struct
from skerry.runtime.ports import ContainerState, ContainerUsage, ObservedPod

_LEAST_S = 0.5


class Filesystem(Struct, frozen=True):
    """Of the node's data, or of its images."""

    available_bytes: int
    capacity_bytes: int


class NodeUsage(Struct, frozen=True):
    """What the machine uses: CPU of all processors since the boot, memory without what can be had back."""

    cpu_ns: int
    memory_bytes: int
    memory_available_bytes: int
    filesystems: Mapping[str, Filesystem]


class Summary:
    """Answers with a summary.

    Args:
        read_node, observe, stats: the machine, and the engine's containers with their usage.
    """

    def __init__(
        self,
        node: str,
        *,
        read_node: Callable[[], Awaitable[NodeUsage]],
        observe: Callable[[], Awaitable[Mapping[str, ObservedPod]]],
        stats: Callable[[], Awaitable[Mapping[str, ContainerUsage]]],
        clock: Clock,
    ) -> None:
        self._node = node
        self._read_node = read_node
        self._observe = observe
        self._stats = stats
        self._clock = clock
        self._before: dict[str, tuple[float, int, int]] = {}

    async def __call__(self) -> dict[str, Any]:
        """The document.

        Raises:
            EngineError: the engine does not answer.
            OSError: the machine cannot be read.
        """
        machine, pods, stats = await self._read_node(), await self._observe(), await self._stats()
        now = rfc3339(self._clock.now_s())
        seen: dict[str, tuple[float, int, int]] = {}

        def cpu(key: str, total_ns: int) -> dict[str, Any]:
            rate, seen[key] = self._rate(key, total_ns)
            found: dict[str, Any] = {"time": now, "usageCoreNanoSeconds": total_ns}
            return found if rate is None else found | {"usageNanoCores": rate}

        document = {
            "node": {"nodeName": self._node, "cpu": cpu("", machine.cpu_ns), **_machine(machine, now)},
            "pods": [_pod(pod, stats, cpu, now) for pod in pods.values()],
        }
        self._before = seen
        return document

    def _rate(self, key: str, total_ns: int) -> tuple[int | None, tuple[float, int, int]]:
        """Nano cores since the last question, and what to remember; a question right after another gets its rate."""
        now_s = self._clock.monotonic_s()
        before = self._before.get(key)
        if before is None or total_ns < before[1]:
            return None, (now_s, total_ns, -1)
        at_s, old_ns, rate = before
        if now_s - at_s < _LEAST_S:
            return (rate if rate >= 0 else None), before
        rate = int((total_ns - old_ns) / (now_s - at_s))
        return rate, (now_s, total_ns, rate)


def _machine(machine: NodeUsage, now: str) -> dict[str, Any]:
    memory = {
        "time": now, "availableBytes": machine.memory_available_bytes, "usageBytes": machine.memory_bytes,
        "workingSetBytes": machine.memory_bytes,
    }  # fmt: skip
    disks = {
        name: {"time": now, "availableBytes": fs.available_bytes, "capacityBytes": fs.capacity_bytes,
               "usedBytes": fs.capacity_bytes - fs.available_bytes}
        for name, fs in machine.filesystems.items()
    }  # fmt: skip
    found: dict[str, Any] = {"memory": memory}
    if "nodefs" in disks:
        found["fs"] = disks["nodefs"]
    if "imagefs" in disks:
        found["runtime"] = {"imageFs": disks["imagefs"]}
    return found


def _pod(
    pod: ObservedPod, stats: Mapping[str, ContainerUsage], cpu: Callable[[str, int], dict[str, Any]], now: str
) -> dict[str, Any]:
    running = [c for c in pod.containers if c.state is ContainerState.RUNNING and c.id in stats]
    containers = [
        {
            "name": c.name,
            "startTime": rfc3339(c.started_at_s),
            "cpu": cpu(c.id, stats[c.id].cpu_ns),
            "memory": _memory([stats[c.id]], now),
            "rootfs": {"time": now, "usedBytes": stats[c.id].disk_bytes},
        }
        for c in running
    ]
    used = [stats[c.id] for c in running]
    return {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": rfc3339(min((sandbox.created_at_s for sandbox in pod.sandboxes), default=0.0)),
        "containers": containers,
        "cpu": cpu(pod.uid, sum(usage.cpu_ns for usage in used)),
        "memory": _memory(used, now),
    }


def _memory(used: Sequence[ContainerUsage], now: str) -> dict[str, Any]:
    total = sum(usage.memory_bytes for usage in used)
    return {"time": now, "usageBytes": total, "workingSetBytes": total}
