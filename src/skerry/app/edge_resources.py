"""The resource parts of the agent: what pods may have, what they use, and what happens when the node runs short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from skerry.api.config.edge import EdgeConfig
from skerry.api.gvk import Object
from skerry.app.runtimes import OpenRuntime
from skerry.base.aio.clock import Clock
from skerry.base.errors import ConfigError
from skerry.edge.images.collector import ImageCollector
from skerry.edge.kubelet.stats import Filesystem, NodeUsage
from skerry.edge.node import machine
from skerry.edge.resources.admission import Refusal, admit, refused_under_pressure
from skerry.edge.resources.amounts import Amounts, allocatable, threshold
from skerry.edge.resources.budget import DiskBudget
from skerry.edge.resources.pressure import DEFAULTS, DISK, SIGNALS, Amount
from skerry.edge.resources.ranking import Usage, is_critical
from skerry.edge.resources.signals import read_signals
from skerry.edge.resources.warden import Warden
from skerry.edge.sync.events import Tell
from skerry.runtime.trees import tree_bytes

_LEAST_BUDGET = 256 << 20
_LOOK_AT_DISK_S = 60.0


class RosterPods(Protocol):
    """What is asked of the roster."""

    def pods(self) -> Sequence[Object]:
        """Every pod with its newest status."""

    def evict(self, uid: str, message: str) -> None:
        """End a pod for good."""

    def is_reclaimed(self, uid: str) -> bool:
        """Whether nothing of an ended pod takes memory or disk any more."""


class ResourceParts:
    """Builds the warden and answers what the node can give.

    Args:
        node: as the cloud has it; None where that is not known.

    Raises:
        ConfigError: an amount in the configuration is no quantity.
    """

    def __init__(
        self, config: EdgeConfig, *, runtime: OpenRuntime, collector: ImageCollector,
        node: Callable[[], Object | None], clock: Clock,
    ) -> None:  # fmt: skip
        self._config = config
        self._runtime = runtime
        self._collector = collector
        self._node = node
        self._clock = clock
        self._images_at: Path | None = None
        self._biggest = ""
        self._biggest_at_s = -_LOOK_AT_DISK_S
        self._pods: Callable[[], Sequence[Object]] = list
        if config.max_pods < 1:
            raise ConfigError(f"maxPods is {config.max_pods}", hint="a node takes one pod or more")
        self.capacity = _capacity(config.data, config.max_pods)
        self._thresholds = DEFAULTS | dict(config.eviction_hard)
        self.allocatable = _checked(self.capacity, config.system_reserved, self._thresholds)
        limit = config.disk_budget_bytes or max(_LEAST_BUDGET, self.capacity["ephemeral-storage"] // 10)
        self.budget = DiskBudget(config.data, limit_bytes=limit, clock=clock)
        self.is_shutting_down: Callable[[], bool] = lambda: False
        self.device_shortage: Callable[[Object], str] = lambda pod: ""
        self.pressure_changed: Callable[[], None] = lambda: None

    def watch(self, pods: RosterPods, *, tell: Tell) -> Warden:
        """The warden over the roster's pods; run it. ``tell`` makes Events about the node."""
        self._pods = pods.pods
        self.warden = Warden(
            pods, read=self._read, usage=self._usage, make_room=self._collector.collect,
            tell=tell, thresholds=self._thresholds, clock=self._clock, settle_s=self._config.eviction_settle_s,
            changed=lambda: self.pressure_changed(),
        )  # fmt: skip
        return self.warden

    def admit(self, pod: Object, others: Sequence[Object]) -> Refusal | None:
        """Whether the node takes a new pod."""
        if self.is_shutting_down():
            return Refusal("NodeShutdown", "Pod was rejected as the node is shutting down.")
        held = self.warden.pressures.last_s.keys()
        if not is_critical(pod) and (refused := refused_under_pressure(pod, held)) is not None:
            return refused
        if (refused := admit(pod, others, amounts=self.allocatable, node=self._node())) is not None:
            return refused
        if why := self.device_shortage(pod):
            return Refusal("UnexpectedAdmissionError", f"Allocate failed due to {why}, which is unexpected")
        return None

    async def usage(self) -> NodeUsage:
        """What the machine uses, for the statistics.

        Raises:
            EngineError, OSError: it cannot be read.
        """
        amounts = await self._read()
        memory = amounts["memory.available"]
        disks = {
            name: Filesystem(found.available, found.total)
            for name in ("nodefs", "imagefs")
            if (found := amounts.get(f"{name}.available")) is not None
        }
        return NodeUsage(machine.cpu_ns(), memory.total - memory.available, memory.available, disks)

    async def pressures(self) -> Mapping[str, str]:
        """The pressures that hold, each with its evidence."""
        found = {}
        for kind in self.warden.pressures.last_s:
            short = [s for s in self.warden.pressures.shortages if s.kind == kind]
            text = "; ".join(f"{s.signal} is {_human(s.available)}, below {_human(s.threshold)}" for s in short)
            text = text or "it was short a short time ago"
            found[kind] = f"{text}; biggest here: {await self._consumers()}" if kind == DISK else text
        return found

    async def _read(self) -> Mapping[str, Amount]:
        if self._images_at is None:
            self._images_at = await self._runtime.images.filesystem()
        return read_signals(self._config.data, self._images_at)

    async def _usage(self) -> Mapping[str, Usage]:
        """What each pod uses; its files are counted, so ask only when a pod has to go."""
        stats = await self._runtime.pods.stats()
        found = {}
        for uid, pod in (await self._runtime.pods.observe()).items():
            own = [(c.name, stats[c.id]) for c in pod.containers if c.id in stats]
            logs = await self._logs_of(uid)
            on_disk = await asyncio.to_thread(tree_bytes, self._config.data / "pods" / uid)
            found[uid] = Usage(
                memory_bytes=sum(each.memory_bytes for _, each in own),
                disk_bytes=on_disk + sum(logs.values()) + sum(each.disk_bytes for _, each in own),
                process_count=sum(each.process_count for _, each in own),
                containers={name: (each.memory_bytes, each.disk_bytes + logs.get(name, 0)) for name, each in own},
            )
        return found

    async def _logs_of(self, uid: str) -> dict[str, int]:
        """Bytes of the logs of a pod by container."""
        places = (self._config.data / "pod-logs").glob(f"*_{uid}/*")
        return {place.name: await asyncio.to_thread(tree_bytes, place) for place in places}

    async def _consumers(self) -> str:
        """The three biggest consumers of the disk that we know, looked at once a minute at most."""
        now_s = self._clock.monotonic_s()
        if now_s - self._biggest_at_s >= _LOOK_AT_DISK_S:
            self._biggest_at_s = now_s
            data = self._config.data
            found = {
                "images": sum(image.size_bytes for image in await self._runtime.images.list()),
                "container logs": await asyncio.to_thread(tree_bytes, data / "pod-logs"),
                "pod volumes": await asyncio.to_thread(tree_bytes, data / "pods"),
                "store": sum(path.stat().st_size for path in data.glob("edge.db*")),
            }
            biggest = sorted(found.items(), key=lambda item: -item[1])[:3]
            self._biggest = ", ".join(f"{name} {_human(size)}" for name, size in biggest)
        return self._biggest


def _checked(capacity: Amounts, reserved: Mapping[str, str], thresholds: Mapping[str, str]) -> Amounts:
    unknown = sorted(set(thresholds) - set(SIGNALS))
    if unknown:
        raise ConfigError(f"evictionHard: unknown signal {unknown[0]}", hint=f"there are: {', '.join(SIGNALS)}")
    try:
        for text in thresholds.values():
            threshold(text, 0)
        return allocatable(capacity, reserved, thresholds)
    except ValueError as exc:
        raise ConfigError(f"systemReserved or evictionHard: {exc}", hint="write for example 100m, 256Mi or 5%") from exc


def _capacity(data: Path, max_pods: int) -> Amounts:
    return {
        "cpu": machine.cpu_count() * 1000,
        "memory": machine.memory()["MemTotal"],
        "ephemeral-storage": machine.disk(data)[0],
        "pods": max_pods,
    }


def _human(size: int) -> str:
    value = float(size)
    for unit in ("", "Ki", "Mi", "Gi", "Ti"):
        if value < 1024 or unit == "Ti":
            return f"{value:.1f}{unit}".replace(".0", "")
        value /= 1024
    return ""
