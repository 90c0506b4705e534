"""The control group that each pod's sandbox and containers are made in, and what a killed engine forgets in it.

An engine that is killed while it makes or ends a container may not know that container any more, which then runs on, or
whose group stays. Groups of this node hold nothing but this node's pods, so whatever the engine does not know in them
is lost, and ours to end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any

from skerry.base import json
from skerry.base.obs.log import get_log
from skerry.runtime.cgroups import Cgroups, GroupLimits
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.supervisors import supervisors_of
from skerry.runtime.podlimits import cpu_shares, pod_limits
from skerry.runtime.ports import EngineError, EngineRefused, SandboxSpec

log = get_log(__name__)

SLICE = "skerry.slice"
"""Where the pods of this machine are when systemd keeps the groups: it removes those that are empty itself."""
_POD = "pod"
_SYSTEMD, _CGROUPFS = "systemd", "cgroupfs"


class PodGroups:
    """Groups for the pods of one engine.

    Args:
        cgroups: of this node.
        cpu_count: of the machine: what all pods together weigh against its services.
        process_count: what a pod may have at most; 0 for any number.
    """

    def __init__(self, client: CriClient, cgroups: Cgroups, *, cpu_count: int, process_count: int = 0) -> None:
        self._client = client
        self._cgroups = cgroups
        self._cpu_count = cpu_count
        self._process_count = process_count
        self._driver: str | None = None

    async def make(self, spec: SandboxSpec) -> str:
        """Make a pod's group; what the engine is told as its ``cgroup_parent``, empty for its own choice.

        Raises:
            EngineError: the engine does not answer, or the group cannot be made.
        """
        if await self._driven_by() == _CGROUPFS:
            pod: Any = spec.pod.get("spec") or {}
            limits = pod_limits(pod, process_count=self._process_count).within(self._cgroups.controllers())
            try:
                self._cgroups.make(f"{_POD}{spec.uid}", limits)
            except OSError as exc:
                raise EngineError(
                    f"cannot make the control group of the pod: {exc}", reason="FailedCreatePodSandBox"
                ) from exc
        return await self.parent(spec.uid)

    async def parent(self, uid: str) -> str:
        """As ``make``, of a pod that has its group. Raises ``EngineError``."""
        driver = await self._driven_by()
        if driver == _SYSTEMD:
            return SLICE
        return self._cgroups.path_of(f"{_POD}{uid}") if driver == _CGROUPFS else ""

    def member_resources(self, memory_bytes: int) -> dict[str, Any]:
        """What a container is given beside its limits, as fields of LinuxContainerResources.

        Args:
            memory_bytes: its limit; 0 for none.
        """
        files = self._cgroups.member_files(memory_bytes)
        if not files:
            return {}
        return {"unified": files} if self._cgroups.is_unified else {"memory_swap_limit_in_bytes": memory_bytes}

    def uids(self) -> set[str]:
        """Pods of this node that have a group."""
        return {name.removeprefix(_POD) for name in self._cgroups.groups() if name.startswith(_POD)}

    def has(self, uid: str) -> bool:
        """Whether a pod has a group."""
        return uid in self.uids()

    async def end_lost(self, uid: str, *, known: Collection[str], whole: bool) -> None:
        """End what runs in a pod's group and is none of the engine's containers ``known``.

        Args:
            whole: remove the group itself, too.

        Raises:
            EngineError: it does not end.
        """
        group = f"{_POD}{uid}"
        members = self._cgroups.members(group)
        lost = [name for name in members if not any(container in name for container in known)]
        with supervisors_of({pid for name in lost for pid in members[name]}, known=known) as supervisors:
            try:
                await self._cgroups.end(group, lost)
                if whole:
                    await self._cgroups.remove(group)
            except OSError as exc:
                raise EngineError(f"what the engine lost of a pod does not end: {exc}") from exc
            supervisors.end()
        if lost:
            log.warning(
                "engine.lost_containers_ended", uid=uid, count=len(lost), supervisors=supervisors.count,
                hint="the container engine was killed while it made or ended them",
            )  # fmt: skip

    def close(self) -> None:
        """Remove the node's own group where no pod is left."""
        self._cgroups.remove_empty()

    async def _driven_by(self) -> str:
        """Who keeps the engine's groups; empty where that is not told, or where we cannot make any ourselves."""
        if self._driver is None:
            driver = await cgroup_driver(self._client)
            if driver == _CGROUPFS and not self._cgroups.is_writable():
                log.warning("cgroups.not_ours", hint="pods have the engine's own groups: the agent may not make any")
                driver = ""
            elif driver == _CGROUPFS:
                with contextlib.suppress(OSError):
                    self._cgroups.make("", GroupLimits(cpu_shares=cpu_shares(self._cpu_count * 1000)))
            self._driver = driver
        return self._driver


async def cgroup_driver(client: CriClient) -> str:
    """``systemd`` or ``cgroupfs``; empty when the engine does not say.

    Raises:
        EngineError: it does not answer.
    """
    try:
        answer = await client.call("RuntimeConfig", {})
    except EngineRefused:  # containerd before 2.0
        return configured_driver((await client.call("Status", {"verbose": True})).get("info", {}))
    linux = answer.get("linux")
    if linux is None:
        return ""
    return _CGROUPFS if linux.get("cgroup_driver", 0) == 1 else _SYSTEMD


def configured_driver(info: dict[str, str]) -> str:
    """``cgroup_driver`` by containerd's verbose status, which has its whole configuration as JSON. Pure."""
    try:
        engine = json.loads(info.get("config", "").encode())["containerd"]
        runtime = engine["runtimes"][engine["defaultRuntimeName"]]
    except (json.JsonError, KeyError, TypeError):
        return ""
    return _SYSTEMD if (runtime.get("options") or {}).get("SystemdCgroup") else _CGROUPFS
