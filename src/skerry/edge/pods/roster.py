"""All pods of this node: the store's change feed → one worker per pod.

At the start the store is the truth, cloud or not: containers that run already are adopted, pods that the store does
not have are ended. Not here: what to do for a pod (``plan``), and doing it (``worker``).
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from skerry.api.gvk import Object
from skerry.api.status import BadRequest, NotFound
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.edge.pods.ports import NodeObjects, ObjectChange
from skerry.edge.pods.static import is_mirror
from skerry.edge.pods.summary import summary
from skerry.edge.pods.view import CONTAINER_LISTS, EVICTED, EVICTION_GRACE_S, PodView, Verdict
from skerry.edge.pods.worker import PodWorker, Tools
from skerry.runtime import volumes
from skerry.runtime.ports import ContainerState, EngineError, ObservedContainer, ObservedPod, PodRuntime
from skerry.runtime.trees import remove_tree

log = get_log(__name__)

_POD, _CONFIGMAP, _SECRET = "pod", "configmap", "secret"
_FIT_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,252})\Z")
_LOOK_S = 60.0
_RETRY_S = 2.0


class Refused(Protocol):
    """Why a pod is not taken."""

    @property
    def reason(self) -> str:
        """Of the pod's status, such as ``OutOfcpu``."""

    @property
    def message(self) -> str:
        """In words."""


Admit = Callable[[Object, Sequence[Object]], Refused | None]


class Observer:
    """Asks the engine once for everybody who asks at the same time."""

    def __init__(self, runtime: PodRuntime) -> None:
        self._runtime = runtime
        self._lock = asyncio.Lock()
        self._begun = 0
        self._seen: dict[str, ObservedPod] = {}

    async def pods(self) -> dict[str, ObservedPod]:
        """What the engine has, no older than this call."""
        wanted = self._begun + 1
        async with self._lock:
            if self._begun < wanted:
                self._begun += 1
                self._seen = await self._runtime.observe()
        return self._seen

    async def pod(self, uid: str) -> ObservedPod | None:
        """One pod."""
        return (await self.pods()).get(uid)


class LogPlace(Struct, frozen=True):
    """Where a container's log lies, and whether more may come."""

    path: Path
    is_running: bool


class Roster:
    """Keeps a worker for each pod of this node.

    Args:
        node: name of this node; pods of other nodes are not ours.
        knows_all: whether the store holds all that belongs to this node. A new store does not until the cloud has
            told it; until then no pod that it does not have is ended.
        objects: the node's store.
        tools: what the workers work with; its ``observe`` is this roster's observer.
        admit: says of a pod that has just been bound to this node, beside those that are here, why it is not taken.
    """

    def __init__(
        self,
        node: str,
        *,
        objects: NodeObjects,
        observer: Observer,
        tools: Tools,
        knows_all: Callable[[], bool] = lambda: True,
        admit: Admit | None = None,
    ) -> None:
        self._node = node
        self._knows_all = knows_all
        self._admit = admit
        self._objects = objects
        self._observer = observer
        self._tools = tools
        self._clock: Clock = tools.clock
        self._supervisor = Supervisor("pods", clock=tools.clock)
        self._probes = Supervisor("probes", clock=tools.clock)
        self._workers: dict[str, PodWorker] = {}
        self._static: set[str] = set()
        self._coming: dict[str, Object] = {}

    async def start(self) -> None:
        """Adopt what runs, end what is not wanted, run what is.

        The engine may be away: then workers wait for it, and orphans are ended when it is back.
        """
        self._objects.subscribe(self._on_change)
        for pod in self._objects.list(_POD).values():
            self._want(pod)
        self._supervisor.keep("changes", self._follow)
        self._supervisor.keep("look", self._look)

    def keep_static(self, pods: Sequence[Object]) -> None:
        """From now on exactly these static pods are wanted. A changed one waits until its former self has ended."""
        wanted = {str(pod["metadata"]["uid"]): pod for pod in pods}
        for uid in self._static - wanted.keys():
            if (worker := self._workers.get(uid)) is not None:
                worker.gone()
        self._static = set(wanted)
        names = {(worker.namespace, worker.name) for worker in self._workers.values()}
        for uid, pod in wanted.items():
            if uid not in self._workers and (pod["metadata"]["namespace"], pod["metadata"]["name"]) not in names:
                self._want(pod, is_new=True)

    def reconnected(self) -> None:
        """The cloud can be asked again: bring what the pods mount up to date, tokens above all."""
        for worker in self._workers.values():
            worker.objects_changed()

    async def aclose(self) -> None:
        """End the workers; pods keep running."""
        await self._supervisor.aclose()
        await self._probes.aclose()

    async def stop_all(self) -> None:
        """End every pod of this node, each with its hooks and its grace."""
        await self._supervisor.aclose()
        await asyncio.gather(*(self._stop(uid, pod) for uid, pod in (await self._observer.pods()).items()))
        await self._probes.aclose()

    # For the kubelet interface

    def pods(self) -> Sequence[Object]:
        """Every pod with its newest status."""
        return [worker.pod() for worker in self._workers.values()]

    def summary(self) -> list[dict[str, Any]]:
        """Name, phase, ready containers, restarts and what is amiss of each pod, for the node's own status."""
        return [summary(pod) for pod in self.pods()]

    def fail(self, uid: str, verdict: Verdict) -> bool:
        """End a pod for good, by decision of this node (eviction, no room); False when there is none such."""
        worker = self._workers.get(uid)
        if worker is not None:
            self._fail(worker, verdict)
        return worker is not None

    def evict(self, uid: str, message: str) -> None:
        """End a pod for good because the node runs short: soon, whatever grace it asks for."""
        self.fail(uid, Verdict(EVICTED, message, EVICTION_GRACE_S))

    def is_reclaimed(self, uid: str) -> bool:
        """Whether a pod that has ended takes neither memory nor disk any more, but for its logs."""
        worker = self._workers.get(uid)
        return worker is None or worker.is_reclaimed

    async def end(self, uids: Sequence[str], *, within_s: float) -> None:
        """End what runs of these pods, because the machine shuts down; nothing of them starts until ``go_on``."""
        workers = [self._workers[uid] for uid in uids if uid in self._workers]
        await asyncio.gather(*(worker.end(within_s=within_s) for worker in workers))

    def fail_ended(self, uid: str, reason: str, message: str) -> None:
        """A pod that was ended has failed for good."""
        if self.fail(uid, Verdict(reason, message)):
            self._workers[uid].go_on()

    def go_on(self) -> None:
        """The machine does not shut down after all."""
        for worker in self._workers.values():
            worker.go_on()

    async def container_log(self, namespace: str, pod: str, container: str, *, previous: bool) -> LogPlace:
        """The log of a container, or of the one before its last restart.

        Raises:
            NotFound: no such pod on this node.
            BadRequest: no such container, or it has not started, or there is no previous one.
        """
        worker, attempts = await self._attempts(namespace, pod, container)
        wanted = 1 if previous else 0
        started = [attempt for attempt in attempts if attempt.state is not ContainerState.CREATED]
        if not attempts and not previous and (kept := worker.kept_log(container)) is not None:
            return LogPlace(kept, is_running=False)  # of a pod that was evicted
        if len(started) <= wanted or (path := started[wanted].log_path) is None:
            if previous:
                raise BadRequest(f'previous terminated container "{container}" in pod "{pod}" not found')
            raise BadRequest(
                f'container "{container}" in pod "{pod}" is waiting to start: {_why_waiting(worker.pod(), container)}'
            )
        return LogPlace(path, started[wanted].state is ContainerState.RUNNING)

    async def is_running(self, namespace: str, pod: str, container: str) -> bool:
        """Whether the container runs now; False when there is no such pod.

        Followers ask several times a second: the worker's view answers, which the engine's hints keep fresh.
        """
        try:
            worker = self._by_name(namespace, pod)
        except NotFound:
            return False
        latest = PodView(worker.pod(), worker.observed).latest(container)
        return latest is not None and latest.state is ContainerState.RUNNING

    async def running_container(self, namespace: str, pod: str, container: str) -> str:
        """The engine's id of a container that runs."""
        running = [item for item in (await self._attempts(namespace, pod, container))[1] if _runs(item)]
        if not running:
            raise BadRequest(f"container {container} of pod {pod} is not running")
        return running[-1].id

    async def sandbox(self, namespace: str, pod: str) -> str:
        """The engine's id of a pod's sandbox."""
        found = await self._observer.pod(self._by_name(namespace, pod).uid)
        ready = [sandbox.id for sandbox in (found.sandboxes if found is not None else ()) if sandbox.is_ready]
        if not ready:
            raise BadRequest(f"pod {pod} is not running")
        return ready[-1]

    async def _attempts(self, namespace: str, pod: str, container: str) -> tuple[PodWorker, list[ObservedContainer]]:
        worker = self._by_name(namespace, pod)
        desired = PodView(worker.pod(), None)
        if desired.definition(container) is None:
            raise BadRequest(f"container {container} is not valid for pod {pod}")
        return worker, PodView(worker.pod(), await self._observer.pod(worker.uid)).attempts(container)

    def _by_name(self, namespace: str, name: str) -> PodWorker:
        found = [w for w in self._workers.values() if (w.namespace, w.name) == (namespace, name)]
        if not found:
            raise NotFound(f'pods "{name}" not found on node {self._node}')
        return found[-1]

    # Keeping the workers

    def _on_change(self, change: ObjectChange) -> None:
        if change.type == _POD:
            self._pod_changed(change)
        elif change.type in (_CONFIGMAP, _SECRET):
            namespace, kind, name = change.key.split("/", 2)
            for worker in self._workers.values():
                if worker.namespace == namespace and (kind, name) in worker.names():
                    worker.objects_changed()

    def _pod_changed(self, change: ObjectChange) -> None:
        namespace, _, name = change.key.split("/", 2)
        uid = _uid(change.new)
        for worker in self._workers.values():
            is_another = (worker.namespace, worker.name) == (namespace, name) and worker.uid != uid
            if is_another and worker.uid not in self._static:
                worker.gone()
            elif is_another and _uid(change.old) != uid:
                worker.tell_again()  # a new mirror of a static pod
        if change.new is not None:
            self._want(change.new, is_new=True)
        else:
            self._coming.pop(_uid(change.old), None)

    def _want(self, pod: Object, *, is_new: bool = False) -> None:
        metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
        uid = str(metadata.get("uid") or "")
        if not uid or spec.get("nodeName") != self._node or is_mirror(pod):
            return
        if bad := _unfit_names(pod):
            log.error("pod.unfit", names=bad, hint="names become directories; the cloud should not have let it pass")
            return
        worker = self._workers.get(uid)
        if worker is not None and worker.is_gone:
            self._coming[uid] = pod  # its former self ends first
            return
        if worker is not None:
            worker.desire(pod)
            return
        others = self.pods()
        worker = self._worker(pod)
        if is_new and self._admit is not None and _is_fresh(pod) and (why := self._admit(pod, others)) is not None:
            log.warning("pod.not_admitted", ns=worker.namespace, name=worker.name, reason=why.reason, why=why.message)
            self._fail(worker, Verdict(why.reason, why.message))
        self._employ(worker)

    def _fail(self, worker: PodWorker, verdict: Verdict) -> None:
        worker.fail(verdict)
        told = self._tools.events.tell(worker.pod(), verdict.reason, verdict.message, warning=True)
        self._supervisor.detach(f"{worker.namespace}/{worker.name} failed", told)

    def _worker(self, pod: Object) -> PodWorker:
        return PodWorker(pod, self._tools, spawn=self._probes.detach)

    def _employ(self, worker: PodWorker) -> None:
        self._workers[worker.uid] = worker
        self._supervisor.detach(f"{worker.namespace}/{worker.name}", self._work(worker))

    async def _work(self, worker: PodWorker) -> None:
        await worker.run()
        if self._workers.get(worker.uid) is worker:
            del self._workers[worker.uid]
        if (again := self._coming.pop(worker.uid, None)) is not None:
            self._want(again, is_new=True)

    async def _follow(self) -> None:
        """Pass the engine's hints on."""
        while True:
            try:
                async for uid in self._tools.runtime.changes():
                    for worker in self._hinted(uid):
                        worker.poke()
            except EngineError as exc:
                log.warning("pods.engine_lost", why=exc.explained())
            await self._clock.sleep(_RETRY_S)

    def _hinted(self, uid: str) -> list[PodWorker]:
        if not uid:
            return list(self._workers.values())
        worker = self._workers.get(uid)
        return [worker] if worker is not None else []

    async def _look(self) -> None:
        """End orphans at the start, and look at everything once a minute in case a hint was lost."""
        while True:
            try:
                await self._end_orphans()
                for worker in self._workers.values():
                    worker.poke()
                delay_s = _LOOK_S
            except EngineError as exc:
                log.warning("pods.engine_away", why=exc.explained())
                delay_s = _RETRY_S
            await self._clock.sleep(delay_s)

    async def _end_orphans(self) -> None:
        seen = await self._observer.pods()
        if not self._knows_all():
            return
        for uid, pod in seen.items():
            if uid not in self._workers:
                log.info("pod.orphan", ns=pod.namespace, name=pod.name, uid=uid)
                metadata = {"uid": uid, "namespace": pod.namespace, "name": pod.name}
                worker = self._worker({"metadata": metadata})
                worker.gone()
                self._employ(worker)
        for uid in self._tools.runtime.leftovers() - self._workers.keys():
            log.info("pod.leftover", uid=uid)
            await self._tools.runtime.clear_pod(uid)
        await self._remove_orphan_directories()

    async def _remove_orphan_directories(self) -> None:
        """In a thread, since they may be large; moved away before, since their pods may come again meanwhile."""
        for home in _directories(self._tools.directory):
            if home.name not in self._workers:
                gone = home.rename(home.with_name(f".{uuid.uuid4().hex}"))
                await asyncio.to_thread(volumes.remove, gone / "volumes")
                await asyncio.to_thread(remove_tree, gone)
        for logs in _directories(self._tools.log_directory):
            if logs.name.rpartition("_")[2] not in self._workers:
                log.info("logs.orphan", directory=logs.name)
                gone = logs.rename(logs.with_name(f".{uuid.uuid4().hex}"))
                await asyncio.to_thread(remove_tree, gone)

    async def _stop(self, uid: str, pod: ObservedPod) -> None:
        metadata = {"uid": uid, "namespace": pod.namespace, "name": pod.name}
        worker = self._workers.get(uid) or self._worker({"metadata": metadata})
        await worker.stop()


def _directories(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if path.is_dir()] if place.is_dir() else []


def _runs(container: ObservedContainer) -> bool:
    return container.state is ContainerState.RUNNING


def _is_fresh(pod: Object) -> bool:
    """Whether a pod has not run here before: one that has is adopted, room or not."""
    is_deleting = bool(pod["metadata"].get("deletionTimestamp"))
    return not is_deleting and (pod.get("status") or {}).get("phase") in (None, "", "Pending")


def _uid(pod: Object | None) -> str:
    return str(((pod or {}).get("metadata") or {}).get("uid") or "")


def _unfit_names(pod: Object) -> list[str]:
    """Names that would not stay one directory each: they come over a wire, so they are not trusted."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    names = [metadata.get(key) for key in ("uid", "namespace", "name")]
    for kind in (*CONTAINER_LISTS, "volumes"):
        parts = spec.get(kind) or []
        names += [part.get("name") if isinstance(part, dict) else part for part in parts if isinstance(parts, list)]
    return [repr(name) for name in names if not isinstance(name, str) or not _FIT_NAME.match(name)]


def _why_waiting(pod: Object, name: str) -> str:
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        if container.get("name") == name:
            waiting = (container.get("state") or {}).get("waiting") or {}
            return str(waiting.get("reason") or "ContainerCreating")
    return "ContainerCreating"
