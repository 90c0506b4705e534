"""Gives devices to pods: counts at the door, allots before a pod starts, frees when it has ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from skerry.api.gvk import Object
from skerry.base.obs.log import get_log
from skerry.edge.plugins.allot import Ask, asks_of, pick, total_of
from skerry.edge.plugins.ports import Allotted, Plugin, PluginAway, PluginRefused, Plugins
from skerry.edge.store.allotments import Allotment
from skerry.runtime.ports import DeviceGrant, DeviceNode, EngineError, EngineUnavailable, Mount, PodUnfit

log = get_log(__name__)

REASON = "UnexpectedAdmissionError"


class Book(Protocol):
    """Who has what: ``edge.store.allotments.Allotments`` as it is."""

    def of(self, pod: str, container: str) -> Sequence[Allotted]:
        """What one container has."""

    def pods(self) -> Collection[str]:
        """Uids of all pods that have devices."""

    def resources(self) -> Collection[str]:
        """All resources of which somebody has devices."""

    def taken(self, resource: str, *, by: Collection[str]) -> Collection[str]:
        """Devices of a resource that these pods have."""

    async def add(self, found: Collection[Allotment]) -> None:
        """Keep, all or none."""

    async def forget(self, pods: Iterable[str]) -> None:
        """Free the devices of pods."""


class DeviceDesk:
    """Devices of this node for its pods.

    Args:
        live: uids of the pods that may still use devices; those of others are free.
    """

    def __init__(self, plugins: Plugins, book: Book, *, live: Callable[[], Collection[str]]) -> None:
        self._plugins = plugins
        self._book = book
        self._live = live
        self._promised: dict[str, Counter[str]] = {}
        self._lock = asyncio.Lock()

    def shortage(self, pod: Object) -> str:
        """Why a new pod cannot have the devices that it asks for; empty, and they are promised to it, when it can."""
        total = total_of(pod, self._plugins.names())
        uid = str((pod.get("metadata") or {}).get("uid"))
        live = set(self._live()) | {uid}
        self._promised = {key: value for key, value in self._promised.items() if key in live and key != uid}
        for resource, count in total.items():
            if self._plugins.get(resource) is None:
                continue  # after a boot the plugin may come later than the pod, which waits for it
            left = len(self._free(resource, live)) - sum(each[resource] for each in self._promised.values())
            if count > left:
                return _too_few(resource, count, max(0, left))
        if total:
            self._promised[uid] = total
        return ""

    async def allot(self, pod: Object) -> None:
        """Choose devices for every container of a pod that has none yet, and write it down.

        Raises:
            PodUnfit: there are too few, or the plugin refuses.
            EngineUnavailable: a plugin does not answer now.
            StoreError: it could not be written.
        """
        uid = str(pod["metadata"]["uid"])
        async with self._lock:
            await self._book.forget(set(self._book.pods()) - set(self._live()) - {uid})
            names = {*self._plugins.names(), *self._book.resources()}
            lent: dict[str, set[str]] = {}
            found: list[Allotment] = []
            for ask in asks_of(pod, names):
                held = next((a for a in self._book.of(uid, ask.container) if a.resource == ask.resource), None)
                if held is None:
                    taken = {d for each in found if each.resource == ask.resource for d in each.devices}
                    held = await self._one(uid, ask, taken, lent.get(ask.resource, set()))
                    found.append(held)
                mine = lent.setdefault(ask.resource, set())
                mine.update(held.devices) if ask.lends else mine.difference_update(held.devices)
            if found:
                await self._book.add(found)
                for each in found:
                    log.info("devices.allotted", pod=uid, container=each.container, resource=each.resource,
                             devices=list(each.devices))  # fmt: skip
            self._promised.pop(uid, None)

    async def grant(self, pod: Object, container: str) -> DeviceGrant:
        """What a container that is about to start gets.

        Raises:
            EngineError: as ``allot``; or the plugin refuses the start (``PreStartContainerError``).
        """
        await self.allot(pod)
        held = self._book.of(str(pod["metadata"]["uid"]), container)
        for each in held:
            plugin = self._plugins.get(each.resource)
            if plugin is not None and plugin.wants_pre_start:
                await self._pre_start(plugin, each)
        return granted([each.answer for each in held])

    async def forget(self, uid: str) -> None:
        """Free the devices of a pod that is gone."""
        self._promised.pop(uid, None)
        await self._book.forget([uid])

    def _free(self, resource: str, live: Collection[str]) -> list[str]:
        plugin = self._plugins.get(resource)
        if plugin is None:
            return []
        taken = self._book.taken(resource, by=live)
        return [device for device, is_healthy in plugin.devices.items() if is_healthy and device not in taken]

    async def _one(self, uid: str, ask: Ask, taken: Collection[str], lent: Collection[str]) -> Allotment:
        plugin = self._plugins.get(ask.resource)
        if plugin is None:
            raise EngineUnavailable(f"the device plugin of {ask.resource} is not there", hint="it has to register")
        free = [device for device in self._free(ask.resource, {uid, *self._live()}) if device not in taken]
        chosen = pick(ask, free, lent)
        if chosen is None:
            raise PodUnfit(_unexpected(_too_few(ask.resource, ask.count, len(free) + len(lent))), reason=REASON)
        try:
            preferred = await plugin.prefer(chosen.offered, chosen.sure, chosen.wanted)
            devices = chosen.take(preferred)
            answer = await plugin.allocate(devices)
        except PluginAway as exc:
            raise EngineUnavailable(str(exc)) from exc
        except PluginRefused as exc:
            raise PodUnfit(_unexpected(str(exc)), reason=REASON) from exc
        return Allotment(uid, ask.container, ask.resource, devices, answer)

    async def _pre_start(self, plugin: Plugin, held: Allotted) -> None:
        try:
            await plugin.pre_start(held.devices)
        except PluginAway as exc:
            raise EngineUnavailable(str(exc)) from exc
        except PluginRefused as exc:
            raise EngineError(str(exc), reason="PreStartContainerError") from exc


def granted(answers: Sequence[Mapping[str, Any]]) -> DeviceGrant:
    """What the answers of plugins amount to; where two name the same variable or annotation the later one counts."""
    envs: dict[str, str] = {}
    annotations: dict[str, str] = {}
    for answer in answers:
        envs |= answer.get("envs") or {}
        annotations |= answer.get("annotations") or {}
    return DeviceGrant(
        envs=envs,
        annotations=annotations,
        mounts=tuple(
            Mount(Path(mount["host_path"]), mount["container_path"], bool(mount.get("read_only")))
            for answer in answers
            for mount in answer.get("mounts") or ()
        ),
        nodes=tuple(
            DeviceNode(node["host_path"], node.get("container_path") or node["host_path"], node.get("permissions", ""))
            for answer in answers
            for node in answer.get("devices") or ()
        ),
        cdi_names=tuple(device["name"] for answer in answers for device in answer.get("cdi_devices") or ()),
    )


def _too_few(resource: str, asked: int, left: int) -> str:
    return f"requested number of devices unavailable for {resource}. Requested: {asked}, Available: {left}"


def _unexpected(text: str) -> str:
    return f"Allocate failed due to {text}, which is unexpected"
