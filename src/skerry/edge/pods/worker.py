"""Runs one pod: observe, plan, act, report, wait. A worker never holds up another pod."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import ApiError, NotFound
from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.obs.log import get_log
from skerry.edge.pods import plan as p
from skerry.edge.pods.env import ConfigMissing, ObjectKey, command_line, environment, object_keys
from skerry.edge.pods.events import PodEvents
from skerry.edge.pods.ports import Outbox, TokenKeeper
from skerry.edge.pods.status import NodeView, pod_status, with_removals
from skerry.edge.pods.view import BACKOFF_ANNOTATION, Failure, PodView, Stimulus, failure_delay_s, spec_hash
from skerry.runtime import volumes as v
from skerry.runtime.downward import NodeFacts
from skerry.runtime.ports import (
    ContainerSpec,
    EngineError,
    ImageStore,
    ObservedPod,
    PodRuntime,
    SandboxSpec,
)
from skerry.runtime.trees import remove_tree
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import route
from skerry.wire.kubeedge.envelope import Envelope

log = get_log(__name__)

_REFRESH_S = 300.0
_STEPS = 100
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What every worker works with.

    Args:
        directory: ``<uid>/volumes`` of each pod go here.
        log_directory: ``<namespace>_<name>_<uid>/<container>/<attempt>.log`` go here.
        allocatable: the node's, for resourceFieldRef.
        observe: what the engine has for a uid, no older than the call.
    """

    runtime: PodRuntime
    images: ImageStore
    volumes: v.Volumes
    tokens: TokenKeeper
    outbox: Outbox
    events: PodEvents
    clock: Clock
    node: NodeView
    directory: Path
    log_directory: Path
    observe: Callable[[str], Awaitable[ObservedPod | None]]
    dns_servers: Sequence[str] = ()
    allocatable: dict[str, str] = field(default_factory=dict)


class PodWorker:
    """One pod of this node, by uid.

    Args:
        pod: desired, or, for a pod that is gone already, its metadata.
        tools: shared parts.
    """

    def __init__(self, pod: Object, tools: Tools) -> None:
        self._pod = pod
        self._tools = tools
        self._is_gone = False
        self._is_finished = False
        self._failures: dict[str, Failure] = {}
        self._told: dict[str, Any] = {}
        self._poked = asyncio.Event()
        self._is_stale = False
        self._refreshed_s = 0.0
        metadata = pod["metadata"]
        self.uid = str(metadata["uid"])
        self.namespace, self.name = str(metadata["namespace"]), str(metadata["name"])
        self.observed: ObservedPod | None = None

    def desire(self, pod: Object) -> None:
        """A newer version of the pod."""
        self._pod = pod
        self._poked.set()

    def gone(self) -> None:
        """The cloud does not have the pod any more: end it and remove everything."""
        self._is_gone = True
        self._poked.set()

    def poke(self) -> None:
        """Look again."""
        self._poked.set()

    def objects_changed(self) -> None:
        """A ConfigMap or Secret that the pod names has changed."""
        self._is_stale = True
        self._failures = {name: replace(f, retry_at_s=0.0) for name, f in self._failures.items()}
        self._poked.set()

    def names(self) -> set[ObjectKey]:
        """``(kind, name)`` of the ConfigMaps and Secrets that the pod names."""
        spec = self._pod.get("spec") or {}
        containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        return v.object_names(self._pod).union(*(object_keys(container) for container in containers))

    def pod(self) -> Object:
        """The pod with the newest status."""
        return self._pod | {"status": (self._pod.get("status") or {}) | self._told} if self._told else self._pod

    async def run(self) -> None:
        """Until the pod is gone and everything of it removed."""
        said = ""
        while True:
            self._poked.clear()
            try:
                wait_s = await self._turn()
                said = ""
            except EngineError as exc:
                if (why := exc.explained()) != said:  # an engine that is away stays away for many turns
                    log.warning("pod.retry", ns=self.namespace, name=self.name, why=why)
                said, wait_s = why, _RETRY_S
            except Exception as exc:
                log.exception("pod.failed", exc, ns=self.namespace, name=self.name)
                wait_s = _RETRY_S
            if wait_s is not None and wait_s < 0:
                return
            await self._wait(wait_s)

    async def _turn(self) -> float | None:
        """Act until there is nothing to do now; how long to wait then, None for a poke, negative when all is over."""
        for _ in range(_STEPS):
            self.observed = await self._tools.observe(self.uid)
            if self._is_gone:
                await self._act(p.plan_removal(self._pod, self.observed, grace_s=self._removal_grace_s()).actions)
                return -1.0
            stimulus = self._stimulus()
            decided = p.plan(self.pod(), self.observed, stimulus)
            await self._report(stimulus)
            if not decided.actions:
                await self._refresh()
                return self._wait_s(decided)
            await self._act(decided.actions)
        return _RETRY_S

    async def _wait(self, wait_s: float | None) -> None:
        if wait_s is None:
            await self._poked.wait()
            return
        timer = asyncio.ensure_future(self._tools.clock.sleep(wait_s))
        poked = asyncio.ensure_future(self._poked.wait())
        try:
            await asyncio.wait((timer, poked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Not awaited: that could swallow the cancellation of this worker.
            timer.cancel()
            poked.cancel()

    def _wait_s(self, decided: p.Plan) -> float | None:
        waits = [_REFRESH_S] if self.observed is not None else []
        if decided.again_at_s is not None:
            waits.append(max(0.05, decided.again_at_s - self._tools.clock.now_s()))
        return min(waits, default=None)

    def _removal_grace_s(self) -> float:
        return PodView(self._pod, None).grace_s(self._tools.clock.now_s())

    def _stimulus(self) -> Stimulus:
        running = PodView(self._pod, self.observed).running()
        for container in running:
            self._failures.pop(container.name, None)
        return Stimulus(
            now_s=self._tools.clock.now_s(),
            failures=dict(self._failures),
            ready=frozenset(container.id for container in running),
            is_finished=self._is_finished,
        )

    # Acting

    async def _act(self, actions: Sequence[p.Action]) -> None:
        """Do the actions in order, neighbouring stops side by side; a failed start is remembered and held back."""
        stops = [action for action in actions if isinstance(action, p.StopContainer)]
        if stops:
            await asyncio.gather(*(self._stop(action) for action in stops))
        for action in actions:
            match action:
                case p.CreateSandbox(attempt):
                    await self._guard("", self._create_sandbox(attempt))
                case p.StartContainer(name):
                    await self._guard(name, self._start(action))
                case p.RemoveContainer(container_id):
                    await self._tools.runtime.remove_container(container_id)
                case p.StopSandbox(sandbox_id):
                    await self._tools.runtime.stop_sandbox(sandbox_id)
                case p.RemoveSandbox(sandbox_id):
                    await self._tools.runtime.remove_sandbox(sandbox_id)
                case p.ReportEnd():
                    await self._report_end()
                case p.RemoveDirectory():
                    await self._remove_directory()
                case p.RequestDelete():
                    await self._request_delete()

    async def _guard(self, name: str, work: Awaitable[None]) -> None:
        try:
            await work
        except EngineError as exc:
            await self._failed(name, exc)
        else:
            self._failures.pop(name, None)

    async def _failed(self, name: str, exc: EngineError) -> None:
        before = self._failures.get(name)
        delay_s = failure_delay_s(before.delay_s if before else 0.0, is_sandbox=not name)
        reason = exc.reason
        if reason == "ErrImagePull" and before is not None:
            reason = "ImagePullBackOff"
        text = exc.explained()
        self._failures[name] = Failure(reason, text, self._tools.clock.now_s() + delay_s, delay_s)
        event = reason if reason in ("FailedMount", "FailedCreatePodSandBox") else "Failed"
        await self._tools.events.tell(self._pod, event, f"Error: {text}", container=name, warning=True)
        log.warning("pod.start_failed", ns=self.namespace, name=self.name, container=name, reason=exc.reason, why=text)

    async def _create_sandbox(self, attempt: int) -> None:
        await self._tools.volumes.prepare(self._pod, self._volumes, self._facts())
        self._refreshed_s = self._tools.clock.monotonic_s()
        spec = self._sandbox_spec(attempt)
        spec.log_directory.mkdir(parents=True, exist_ok=True)
        await self._tools.runtime.create_sandbox(spec)
        await self._tell_probes()

    async def _start(self, action: p.StartContainer) -> None:
        container = self._container(action.name)
        facts = self._facts()
        values = environment(self._pod, container, await self._objects(container), facts)
        image_ref = await self._image(container)
        command, args = command_line(container, dict(values))
        sandbox = self._sandbox_spec(0)
        spec = ContainerSpec(
            name=action.name,
            attempt=action.attempt,
            image=str(container.get("image") or ""),
            image_ref=image_ref,
            command=command,
            args=args,
            env=values,
            mounts=v.mounts_of(self._pod, container, self._volumes, dict(values)),
            log_path=f"{action.name}/{action.attempt}.log",
            container=container,
            working_dir=str(container.get("workingDir") or ""),
            annotations={BACKOFF_ANNOTATION: f"{action.backoff_s:g}"},
            spec_hash=spec_hash(container),
        )
        (sandbox.log_directory / action.name).mkdir(parents=True, exist_ok=True)
        container_id = await self._tools.runtime.create_container(action.sandbox_id, spec, sandbox)
        await self._tell("Created", f"Created container: {action.name}", action.name)
        await self._tools.runtime.start_container(container_id)
        await self._tell("Started", f"Started container {action.name}", action.name)
        log.info("container.started", ns=self.namespace, name=self.name, container=action.name, attempt=action.attempt)

    async def _stop(self, action: p.StopContainer) -> None:
        await self._tell("Killing", f"Stopping container {action.name}: {action.why}", action.name)
        await self._tools.runtime.stop_container(action.id, grace_s=action.grace_s)

    async def _image(self, container: dict[str, Any]) -> str:
        image = str(container.get("image") or "")
        policy = container.get("imagePullPolicy") or "IfNotPresent"
        is_present = await self._tools.images.is_present(image)
        if policy == "Never" or (is_present and policy != "Always"):
            return await self._tools.images.resolve(image)
        name = str(container["name"])
        await self._tell("Pulling", f'Pulling image "{image}"', name)
        try:
            reference = await self._tools.images.pull(image, secrets=await self._pull_secrets())
        except EngineError as exc:
            if not is_present:
                raise
            # A node that cannot reach its registry goes on with the image that it has.
            await self._tell("PullSkipped", f'Image "{image}" is used as it is here: {exc}', name, warning=True)
            return await self._tools.images.resolve(image)
        await self._tell("Pulled", f'Successfully pulled image "{image}"', name)
        return reference

    async def _pull_secrets(self) -> list[dict[str, object]]:
        found = []
        for reference in (self._pod.get("spec") or {}).get("imagePullSecrets") or []:
            with contextlib.suppress(ApiError):
                found.append(await self._tools.volumes.objects.get("secret", self.namespace, reference["name"]))
        return found

    async def _objects(self, container: dict[str, Any]) -> dict[ObjectKey, Object | None]:
        found: dict[ObjectKey, Object | None] = {}
        for kind, name in object_keys(container):
            try:
                found[kind, name] = await self._tools.volumes.objects.get(kind, self.namespace, name)
            except NotFound:
                found[kind, name] = None
            except ApiError as exc:
                raise ConfigMissing(f'{kind} "{name}" is not on this node: {exc.message}') from exc
        return found

    async def _refresh(self) -> None:
        """Bring the volumes of a running pod up to date; what cannot be had now stays as it is."""
        now_s = self._tools.clock.monotonic_s()
        if not (self._is_stale or now_s - self._refreshed_s >= _REFRESH_S) or not self._volumes.is_dir():
            return
        self._is_stale, self._refreshed_s = False, now_s
        try:
            await self._tools.volumes.prepare(self._pod, self._volumes, self._facts())
        except EngineError as exc:
            log.info("pod.volumes_kept", ns=self.namespace, name=self.name, why=str(exc))

    async def _remove_directory(self) -> None:
        home = self._tools.directory / self.uid
        v.remove(self._volumes)
        remove_tree(home)
        remove_tree(self._log_home())
        await self._tools.tokens.forget(self.uid)

    # Telling the cloud

    async def _report(self, stimulus: Stimulus) -> None:
        if self._pod_ended_before():
            return
        status = pod_status(self.pod(), self.observed, stimulus, self._tools.node)
        if status == self._told:
            return
        await self._tell_backoff(status)
        await self._leave_status(status)

    def _pod_ended_before(self) -> bool:
        """Nothing is left of the pod here: what was reported last is the truth."""
        view = PodView(self._pod, self.observed)
        has_anything = self.observed is not None and bool(self.observed.containers or self.observed.sandboxes)
        return not has_anything and (view.is_deleting or view.has_ended())

    async def _report_end(self) -> None:
        if not self._pod_ended_before():
            await self._report(self._stimulus())

    async def _leave_status(self, status: dict[str, Any]) -> None:
        patch = with_removals(status, self._pod.get("status") or {}, self._told)
        text = json.dumps({"metadata": {"uid": self.uid}, "status": patch}).decode()
        key = route.build(self.namespace, c.TYPE_POD_PATCH, self.name)
        await self._leave(key, c.OP_PATCH, text)
        if status["phase"] != self._told.get("phase"):
            log.info("pod.phase", ns=self.namespace, name=self.name, uid=self.uid, phase=status["phase"])
        self._told = status

    async def _tell_backoff(self, status: dict[str, Any]) -> None:
        for container in [*status.get("initContainerStatuses", []), *status["containerStatuses"]]:
            waiting = container["state"].get("waiting") or {}
            if waiting.get("reason") == "CrashLoopBackOff":
                text = f"Back-off restarting failed container {container['name']} in pod {self.name}"
                await self._tell("BackOff", text, container["name"], warning=True)

    async def _tell_probes(self) -> None:
        for container in (self._pod.get("spec") or {}).get("containers") or []:
            named = [key for key in ("startupProbe", "livenessProbe", "readinessProbe") if container.get(key)]
            if named:
                text = f"{', '.join(named)} not run on this node: a running container counts as ready"
                await self._tell("ProbeNotRun", text, str(container["name"]), warning=True)

    async def _request_delete(self) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._leave(route.build(self.namespace, c.TYPE_POD, self.name), c.OP_DELETE, body)
        self._is_finished = True
        log.info("pod.ended", ns=self.namespace, name=self.name, uid=self.uid)

    async def _leave(self, key: str, operation: str, content: Any) -> None:
        envelope = Envelope(
            msg_id=str(uuid.uuid4()),
            source=c.SOURCE_EDGED,
            group=c.GROUP_META,
            operation=operation,
            resource=key,
            content=content,
            timestamp_ms=int(self._tools.clock.now_s() * 1000),
        )
        await self._tools.outbox.leave(key, envelope)

    async def _tell(self, reason: str, message: str, container: str, *, warning: bool = False) -> None:
        await self._tools.events.tell(self._pod, reason, message, container=container, warning=warning)

    # Facts

    @property
    def _volumes(self) -> Path:
        return self._tools.directory / self.uid / "volumes"

    def _log_home(self) -> Path:
        return self._tools.log_directory / f"{self.namespace}_{self.name}_{self.uid}"

    def _facts(self) -> NodeFacts:
        sandbox = PodView(self._pod, self.observed).sandbox
        ips = tuple(sandbox.ips) if sandbox else ()
        return NodeFacts(self._tools.node.node_ip, ips or (self._tools.node.node_ip,), self._tools.allocatable)

    def _container(self, name: str) -> dict[str, Any]:
        view = PodView(self._pod, None)
        return next(container for container in [*view.init_containers, *view.containers] if container["name"] == name)

    def _sandbox_spec(self, attempt: int) -> SandboxSpec:
        spec, metadata = self._pod.get("spec") or {}, self._pod["metadata"]
        return SandboxSpec(
            namespace=self.namespace,
            name=self.name,
            uid=self.uid,
            attempt=attempt,
            hostname=str(spec.get("hostname") or self.name)[:63],
            log_directory=self._log_home(),
            pod=self._pod,
            labels=metadata.get("labels") or {},
            annotations=metadata.get("annotations") or {},
            dns_servers=self._tools.dns_servers,
        )
