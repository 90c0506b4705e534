"""Runs one pod: observe, plan, act, report, wait. A worker never holds up another pod."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from skerry.api.gvk import Object
from skerry.base.aio.clock import Clock
from skerry.base.aio.supervise import race
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, field, replace
from skerry.edge.pods import plan as p
from skerry.edge.pods.classes import RuntimeClasses
from skerry.edge.pods.dns import NodeDns
from skerry.edge.pods.env import ObjectKey, pod_objects
from skerry.edge.pods.events import PodEvents
from skerry.edge.pods.handlers import Handlers
from skerry.edge.pods.home import PodHome
from skerry.edge.pods.interrupt import Interrupt, Interrupted
from skerry.edge.pods.lastwords import read_last_words
from skerry.edge.pods.ports import Images, NodeObjects, NoDevices, Outbox, PodDevices, TokenKeeper
from skerry.edge.pods.prober import Prober, Spawn
from skerry.edge.pods.pulls import Pulls
from skerry.edge.pods.reporter import Reporter
from skerry.edge.pods.starter import Starter, Wanted
from skerry.edge.pods.status import NodeView, pod_status
from skerry.edge.pods.stopper import Stopper
from skerry.edge.pods.usage import limits_of, over_limit
from skerry.edge.pods.view import EVICTED, EVICTION_GRACE_S, Failure, PodView, Stimulus, Verdict, failure_delay_s
from skerry.runtime import volumes as v
from skerry.runtime.downward import NodeFacts
from skerry.runtime.ports import (
    ContainerIO,
    ContainerState,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    ObservedContainer,
    ObservedPod,
    PodRuntime,
    PodUnfit,
)

log = get_log(__name__)

_REFRESH_S = 300.0
_STEPS = 100
_RETRY_S = 5.0
_PULL_REASONS = ("ErrImagePull", "RegistryUnavailable")
_POD_EVENTS = ("FailedMount", "FailedCreatePodSandBox")


class Tools(Struct, frozen=True):
    """What every worker works with.

    Args:
        directory: ``<uid>/volumes`` of each pod go here.
        log_directory: ``<namespace>_<name>_<uid>/<container>/<attempt>.log`` go here.
        node: this node as it is now; its address may change.
        allocatable: the node's, for resourceFieldRef.
        classes: knows the engine's handler of a RuntimeClass.
        api_server: host and port that pods are told; None where it is not known.
        dns: the node's resolver as it is now.
        observe: what the engine has for a uid, no older than the call.
        limits_cpu: whether the engine keeps limits of CPU.
    """

    runtime: PodRuntime
    io: ContainerIO
    images: Images
    volumes: v.Volumes
    objects: NodeObjects
    tokens: TokenKeeper
    outbox: Outbox
    events: PodEvents
    clock: Clock
    node: Callable[[], NodeView]
    directory: Path
    log_directory: Path
    observe: Callable[[str], Awaitable[ObservedPod | None]]
    classes: RuntimeClasses
    dns: Callable[[], NodeDns] = NodeDns
    allocatable: Mapping[str, str] = field(default_factory=dict)
    api_server: Callable[[], tuple[str, int] | None] = lambda: None
    devices: PodDevices = field(default_factory=NoDevices)
    measure_s: float = 50.0
    limits_cpu: bool = True


class PodWorker:
    """One pod of this node, by uid.

    Args:
        pod: desired, or, for a pod that is gone already, its metadata.
        tools: shared parts.
        spawn: owner of the probes' tasks.
    """

    def __init__(self, pod: Object, tools: Tools, *, spawn: Spawn) -> None:
        self._pod = pod
        self._tools = tools
        self._is_gone = False
        self._is_finished = False
        self._failures: dict[str, Failure] = {}
        self._poked = asyncio.Event()
        self._held_s: float | None = None
        self._still = asyncio.Event()
        self._is_stale = False
        self._refreshed_s = 0.0
        self._measured_s = tools.clock.monotonic_s()
        self._last_words: dict[str, str] = {}
        metadata = pod["metadata"]
        self.uid = str(metadata["uid"])
        self.namespace, self.name = str(metadata["namespace"]), str(metadata["name"])
        self.observed: ObservedPod | None = None
        logs = tools.log_directory / f"{self.namespace}_{self.name}_{self.uid}"
        self._home = PodHome(tools.directory / self.uid, logs)
        self._verdict = self._home.read_verdict()
        self._interrupt = Interrupt()
        handlers = Handlers(tools.io, tools.clock)
        self._reporter = Reporter(
            self.uid, self.namespace, self.name, outbox=tools.outbox, events=tools.events, clock=tools.clock
        )
        self._prober = Prober(spawn=spawn, handlers=handlers, events=tools.events, clock=tools.clock, changed=self.poke)
        self._stopper = Stopper(
            tools.runtime, handlers=handlers, events=tools.events, clock=tools.clock, interrupt=self._interrupt
        )
        self._starter = Starter(
            tools.runtime, pulls=Pulls(tools.images, objects=tools.volumes.objects, events=tools.events),
            volumes=tools.volumes, devices=tools.devices, handlers=handlers, events=tools.events, dns=tools.dns,
            clock=tools.clock, home=self._home, interrupt=self._interrupt, stop=self._stop_unhooked,
            classes=tools.classes, api_server=tools.api_server,
            is_process=tools.node().engine == "process",
            limits_cpu=tools.limits_cpu,
        )  # fmt: skip

    def desire(self, pod: Object) -> None:
        """A newer version of the pod."""
        if _is_more_urgent(pod, self._pod):
            self._interrupt.fire()
        metadata, before = pod.get("metadata") or {}, self._pod.get("metadata") or {}
        # Containers may have them as files.
        self._is_stale = self._is_stale or any(metadata.get(k) != before.get(k) for k in ("labels", "annotations"))
        self._pod = pod
        self._poked.set()

    def gone(self) -> None:
        """The cloud does not have the pod any more: end it and remove everything."""
        if not self._is_gone:
            self._interrupt.fire()
        self._is_gone = True
        self._poked.set()

    @property
    def is_gone(self) -> bool:
        """Whether it only ends what is left of its pod."""
        return self._is_gone

    def fail(self, verdict: Verdict) -> None:
        """End the pod for good, by decision of this node: eviction, no room. Kept over restarts of the agent."""
        if self._verdict is None:
            try:
                self._home.write_verdict(verdict)
            except OSError as exc:  # it holds until the agent is restarted; then this node decides anew
                log.warning("pod.verdict_not_kept", ns=self.namespace, name=self.name, why=str(exc))
            self._verdict = verdict
            self._interrupt.fire()
            self._poked.set()

    async def end(self, *, within_s: float) -> None:
        """End what runs: the machine shuts down. Nothing starts until ``go_on``. Returns when it has ended."""
        self._held_s = within_s
        self._interrupt.fire()
        self._poked.set()
        await self._still.wait()

    def go_on(self) -> None:
        """Run again."""
        self._held_s = None
        self._still.clear()
        self._poked.set()

    def tell_again(self) -> None:
        """The object in the cluster is a new one: it knows nothing yet."""
        self._reporter.told = {}
        self._poked.set()

    def poke(self) -> None:
        """Look again."""
        self._poked.set()

    def objects_changed(self) -> None:
        """A ConfigMap or Secret that the pod names has changed."""
        self._is_stale = True
        self._failures = {name: replace(f, retry_at_s=0.0) for name, f in self._failures.items()}
        self._poked.set()

    @property
    def is_reclaimed(self) -> bool:
        """Whether a pod that has ended takes neither memory nor disk any more, but for its logs."""
        has_containers = self.observed is not None and bool(self.observed.containers)
        return not has_containers and not self._home.volumes.is_dir()

    def kept_log(self, container: str) -> Path | None:
        """The newest log of a container that the engine does not have any more."""
        found = self._home.logs.joinpath(container).glob("*.log")
        return max(found, key=lambda path: int(path.stem) if path.stem.isdecimal() else -1, default=None)

    def names(self) -> set[ObjectKey]:
        """``(kind, name)`` of the ConfigMaps and Secrets that the pod names."""
        return pod_objects(self._pod)

    def pod(self) -> Object:
        """The pod with the newest status."""
        return self._reporter.with_status(self._pod)

    async def run(self) -> None:
        """Until the pod is gone and everything of it removed."""
        said = ""
        try:
            while True:
                self._poked.clear()
                try:
                    wait_s = await self._turn()
                    said = ""
                except EngineError as exc:
                    if (why := exc.explained()) != said:  # an engine that is away stays away for many turns
                        log.warning("pod.retry", ns=self.namespace, name=self.name, why=why)
                    if self._is_ending() and not isinstance(exc, EngineUnavailable):
                        await self._tell("FailedKillPod", f"error killing pod: {why}", "", warning=True)
                    said, wait_s = why, _RETRY_S
                except Exception as exc:
                    log.exception("pod.failed", exc, ns=self.namespace, name=self.name)
                    wait_s = _RETRY_S
                if wait_s is not None and wait_s < 0:
                    return
                await self._wait(wait_s)
        finally:
            self._prober.close()

    def _is_ending(self) -> bool:
        return self._is_gone or bool(self._pod["metadata"].get("deletionTimestamp")) or self._verdict is not None

    async def stop(self, *, within_s: float = math.inf) -> None:
        """End every container with hooks, order and grace, and the sandboxes; the pod itself stays."""
        self._prober.close()
        self.observed = await self._tools.observe(self.uid)
        view = self._view()
        grace_s = min(view.grace_s(self._tools.clock.now_s()), within_s)
        await self._stopper.stop(self._pod, p.stops(view, grace_s), ip=self._ip())
        for sandbox in self.observed.sandboxes if self.observed else ():
            await self._tools.runtime.stop_sandbox(sandbox.id)

    async def _turn(self) -> float | None:
        """Act until there is nothing to do now; how long to wait then, None for a poke, negative when all is over."""
        for _ in range(_STEPS):
            if self._held_s is not None and not self._still.is_set():
                await self._be_still(self._held_s)
            if self._held_s is not None:
                return None
            self.observed = self._heard(await self._tools.observe(self.uid))
            self._prober.follow(self.pod(), self.observed, ip=self._ip())
            if self._is_gone:
                grace_s = self._view().grace_s(self._tools.clock.now_s())
                is_done = await self._act(p.plan_removal(self._pod, self.observed, grace_s=grace_s).actions)
                if is_done:
                    return -1.0
                continue
            stimulus = self._stimulus()
            decided = p.plan(self.pod(), self.observed, stimulus)
            await self._report(stimulus)
            if not decided.actions:
                await self._refresh()
                return self._wait_s(decided)
            await self._act(decided.actions)
        return _RETRY_S

    async def _be_still(self, within_s: float) -> None:
        try:
            await self.stop(within_s=within_s)
        except Interrupted:
            return  # the next turn tries again
        self._still.set()

    async def _wait(self, wait_s: float | None) -> None:
        if wait_s is None:
            await self._poked.wait()
            return
        await race(self._tools.clock.sleep(wait_s), self._poked.wait())

    def _wait_s(self, decided: p.Plan) -> float | None:
        waits = [_REFRESH_S] if self.observed is not None else []
        if limits_of(self._pod):
            waits.append(self._tools.measure_s)
        if decided.again_at_s is not None:
            waits.append(max(0.05, decided.again_at_s - self._tools.clock.now_s()))
        return min(waits, default=None)

    def _stimulus(self) -> Stimulus:
        running = [container.id for container in self._view().running()]
        for container in self._view().running():
            self._failures.pop(container.name, None)
        return Stimulus(
            now_s=self._tools.clock.now_s(),
            failures=dict(self._failures),
            unhealthy=self._prober.unhealthy(),
            ready=frozenset(running) - self._prober.unready(),
            unstarted=self._prober.unstarted(),
            verdict=self._verdict,
            is_finished=self._is_finished,
            has_volumes=self._home.volumes.is_dir(),
        )

    # Acting

    async def _act(self, actions: Sequence[p.Action]) -> bool:
        """Do the actions in order, stops side by side; a failed start is remembered and held back.

        Returns:
            False when something more urgent came, so that not all of it was done.
        """
        try:
            stops = [action for action in actions if isinstance(action, p.StopContainer)]
            if stops:
                await self._stopper.stop(self._pod, stops, ip=self._ip())
            for action in actions:
                await self._do(action)
        except Interrupted:
            return False
        return True

    async def _do(self, action: p.Action) -> None:
        runtime = self._tools.runtime
        match action:
            case p.CreateSandbox(attempt):
                await self._guard("", self._create_sandbox(attempt))
            case p.StartContainer(name):
                await self._guard(name, self._start(action))
            case p.RemoveContainer(container_id):
                await runtime.remove_container(container_id)
            case p.StopSandbox(sandbox_id):
                await runtime.stop_sandbox(sandbox_id)
            case p.RemoveSandbox(sandbox_id):
                await runtime.remove_sandbox(sandbox_id)
            case p.GiveUp(verdict):
                await self._give_up(verdict)
            case p.ReportEnd():
                await self._report(self._stimulus())
            case p.RemoveVolumes():
                await asyncio.to_thread(self._home.remove_volumes)
            case p.RemoveDirectory():
                await runtime.clear_pod(self.uid)
                await asyncio.to_thread(self._home.remove)  # it may hold any number of files
                await self._tools.tokens.forget(self.uid)
                await self._tools.devices.forget(self.uid)
            case p.RequestDelete():
                await self._reporter.request_delete()
                self._is_finished = True

    async def _guard(self, name: str, work: Awaitable[None]) -> None:
        try:
            await work
        except PodUnfit as exc:
            await self._give_up(Verdict(exc.reason, str(exc)))
        except EngineError as exc:
            await self._failed(name, exc)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            log.exception("pod.malformed", exc, ns=self.namespace, name=self.name, container=name)
            text = f"the pod's definition is malformed: {type(exc).__name__} {exc}"
            await self._failed(name, EngineRefused(text))
        except OSError as exc:
            await self._failed(name, EngineError(f"the node cannot write files of the pod: {exc}"))
        else:
            self._failures.pop(name, None)

    async def _failed(self, name: str, exc: EngineError) -> None:
        before = self._failures.get(name)
        delay_s = failure_delay_s(before.delay_s if before else 0.0, is_sandbox=not name)
        text = exc.explained()
        failure = Failure(exc.reason, text, self._tools.clock.now_s() + delay_s, delay_s)
        if exc.reason in _PULL_REASONS and before is not None:
            told = f'Back-off pulling image "{self._image(name)}": {exc.reason}: {text}'
            failure = replace(failure, reason="ImagePullBackOff", message=told)
        self._failures[name] = failure
        if exc.reason in _POD_EVENTS:
            await self._tell(exc.reason, text, name, warning=True)
        elif exc.reason != "PostStartHookError":
            await self._tell("Failed", f"Error: {text}", name, warning=True)
        log.warning("pod.start_failed", ns=self.namespace, name=self.name, container=name, reason=exc.reason, why=text)

    def _image(self, name: str) -> str:
        found = PodView(self._pod, None).definition(name)
        return str(found[1].get("image") or "") if found is not None else ""

    async def _create_sandbox(self, attempt: int) -> None:
        await self._starter.prepare_volumes(self._pod, self._facts())
        self._refreshed_s = self._tools.clock.monotonic_s()
        if attempt:
            await self._tell("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.", "")
        await self._starter.create_sandbox(self._pod, attempt)

    async def _start(self, action: p.StartContainer) -> None:
        view = PodView(self._pod, self.observed)
        await self._starter.start(
            Wanted(view, self._facts(), action.name, action.attempt, action.sandbox_id, action.backoff_s)
        )

    async def _stop_unhooked(self, container_id: str, name: str) -> None:
        """End a container whose postStart hook failed."""
        grace_s = self._view().grace_s(self._tools.clock.now_s())
        stop = p.StopContainer(container_id, name, grace_s, "FailedPostStartHook")
        await self._stopper.stop(self._pod, [stop], ip=self._ip())

    async def _give_up(self, verdict: Verdict) -> None:
        self.fail(verdict)
        await self._tell(verdict.reason, verdict.message, "", warning=True)

    async def _refresh(self) -> None:
        """Bring the volumes of a running pod up to date; what cannot be had now stays as it is."""
        now_s = self._tools.clock.monotonic_s()
        if self._verdict is None and now_s - self._measured_s >= self._tools.measure_s:
            self._measured_s = now_s
            if text := await self._over_limit():
                await self._give_up(Verdict(EVICTED, text, EVICTION_GRACE_S))
                return
        if not (self._is_stale or now_s - self._refreshed_s >= _REFRESH_S) or not self._home.volumes.is_dir():
            return
        self._is_stale, self._refreshed_s = False, now_s
        try:
            await self._starter.prepare_volumes(self._pod, self._facts())
        except EngineError as exc:
            log.info("pod.volumes_kept", ns=self.namespace, name=self.name, why=str(exc))

    async def _over_limit(self) -> str:
        """Which part of the pod takes more of the disk than it may."""
        limits = limits_of(self._pod)
        if not limits:
            return ""
        layers = {}
        if limits.containers:
            stats = await self._tools.runtime.stats()
            layers = {c.name: stats[c.id].disk_bytes for c in self._view().running() if c.id in stats}
        return await asyncio.to_thread(over_limit, limits, self._home.volumes, self._home.logs, layers)

    # Telling the cloud

    async def _report(self, stimulus: Stimulus) -> None:
        if self._pod_ended_before(stimulus):
            return
        await self._reporter.tell(self._pod, pod_status(self.pod(), self.observed, stimulus, self._tools.node()))

    def _pod_ended_before(self, stimulus: Stimulus) -> bool:
        """Nothing is left of the pod here: what was reported last is the truth."""
        has_anything = self.observed is not None and bool(self.observed.containers or self.observed.sandboxes)
        if has_anything or (stimulus.verdict is not None and not stimulus.is_finished):
            return False
        view = self._view()
        told = (self._pod.get("status") or {}).get("containerStatuses") or []
        was_seen = bool(self._reporter.told) or any(container.get("containerID") for container in told)
        return view.has_ended() or (view.is_deleting and (was_seen or stimulus.is_finished))

    async def _tell(self, reason: str, message: str, container: str, *, warning: bool = False) -> None:
        await self._tools.events.tell(self._pod, reason, message, container=container, warning=warning)

    # Facts

    def _view(self) -> PodView:
        return PodView(self._pod, self.observed)

    def _ip(self) -> str:
        """Where the pod's ports are."""
        return next(iter(self._facts().pod_ips), "")

    def _facts(self) -> NodeFacts:
        sandbox = self._view().sandbox
        ips = tuple(sandbox.ips) if sandbox else ()
        node_ip = self._tools.node().node_ip
        return NodeFacts(node_ip, ips or (node_ip,), self._tools.allocatable)

    def _heard(self, observed: ObservedPod | None) -> ObservedPod | None:
        """With the last words of what has ended; each is read once."""
        if observed is None:
            return None
        containers = [self._with_words(container) for container in observed.containers]
        known = {container.id for container in containers}
        self._last_words = {key: text for key, text in self._last_words.items() if key in known}
        return replace(observed, containers=containers)

    def _with_words(self, container: ObservedContainer) -> ObservedContainer:
        if container.state is not ContainerState.EXITED:
            return container
        if container.id not in self._last_words:
            found = PodView(self._pod, None).definition(container.name)
            path = self._home.last_words(container.name, container.attempt)
            self._last_words[container.id] = read_last_words(found[1] if found else {}, container, path)
        return replace(container, message=self._last_words[container.id])


def _is_more_urgent(pod: Object, before: Object) -> bool:
    """Whether the pod is to end now, or sooner than before."""
    new, old = pod.get("metadata") or {}, before.get("metadata") or {}
    if not new.get("deletionTimestamp"):
        return False
    if not old.get("deletionTimestamp"):
        return True
    return (new.get("deletionGracePeriodSeconds") or 0) < (old.get("deletionGracePeriodSeconds") or 0)
