"""Starts containers: everything that a definition names is got together and given to the engine.

Not here: when to start what (``plan``), images (``pulls``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import ApiError, NotFound
from skerry.base.aio.clock import Clock
from skerry.base.files import write_atomic
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.edge.pods.classes import RuntimeClasses
from skerry.edge.pods.dns import NodeDns, pod_resolver
from skerry.edge.pods.env import ConfigMissing, ObjectKey, command_line, environment, object_keys
from skerry.edge.pods.events import PodEvents
from skerry.edge.pods.handlers import Aim, HandlerError, Handlers
from skerry.edge.pods.home import PodHome
from skerry.edge.pods.hosts import host_names, hosts_file
from skerry.edge.pods.interrupt import Interrupt
from skerry.edge.pods.ports import PodDevices
from skerry.edge.pods.pulls import Pulls
from skerry.edge.pods.serviceenv import api_variables
from skerry.edge.pods.support import not_enforced, refusal
from skerry.edge.pods.view import BACKOFF_ANNOTATION, RESOURCES_ANNOTATION, PodView, resources_hash, spec_hash
from skerry.runtime import volumes as v
from skerry.runtime.downward import NodeFacts
from skerry.runtime.ports import (
    RUNTIME_HANDLER,
    ContainerSpec,
    EngineError,
    EngineRefused,
    Mount,
    PodRuntime,
    SandboxSpec,
)

log = get_log(__name__)

_HOSTS = "/etc/hosts"
_NODE_HOSTS = Path("/etc/hosts")
_NODE_HOSTS_BYTES = 256 * 1024
_LAST_WORDS = "/dev/termination-log"


class Wanted(Struct, frozen=True):
    """One container to start.

    Args:
        view: the pod with what runs of it.
        facts: of node and pod.
        backoff_s: what a restart of this attempt will have to wait.
    """

    view: PodView
    facts: NodeFacts
    name: str
    attempt: int
    sandbox_id: str
    backoff_s: float = 0.0


class Starter:
    """Makes sandboxes and containers of one pod.

    Args:
        dns: the node's resolver as it is now.
        home: the pod's places on the disk.
        stop: ends a container whose postStart hook failed: (id, name).
        classes: knows the engine's handler of a RuntimeClass.
        api_server: host and port that pods are told; None where it is not known.
        is_process: whether containers are processes of the node.
        limits_cpu: whether the engine keeps limits of CPU.
    """

    def __init__(
        self,
        runtime: PodRuntime,
        *,
        pulls: Pulls,
        volumes: v.Volumes,
        devices: PodDevices,
        handlers: Handlers,
        events: PodEvents,
        dns: Callable[[], NodeDns],
        clock: Clock,
        home: PodHome,
        interrupt: Interrupt,
        stop: Callable[[str, str], Awaitable[None]],
        classes: RuntimeClasses,
        api_server: Callable[[], tuple[str, int] | None],
        is_process: bool,
        limits_cpu: bool,
    ) -> None:
        self._is_process = is_process
        self._limits_cpu = limits_cpu
        self._classes = classes
        self._api_server = api_server
        self._runtime = runtime
        self._pulls = pulls
        self._volumes = volumes
        self._devices = devices
        self._handlers = handlers
        self._events = events
        self._dns = dns
        self._clock = clock
        self._home = home
        self._interrupt = interrupt
        self._stop = stop

    async def prepare_volumes(self, pod: Object, facts: NodeFacts) -> None:
        """Make or refresh the pod's volumes. Raises ``VolumeError``."""
        await self._volumes.prepare(pod, self._home.volumes, facts)

    async def create_sandbox(self, pod: Object, attempt: int) -> None:
        """Make the pod's sandbox.

        Raises:
            EngineError: with the reason for the pod's status.
            PodUnfit: the pod cannot have its devices and has to fail.
            Interrupted: something more urgent came.
        """
        self._check(pod)
        await self._devices.allot(pod)
        for text in not_enforced(pod, is_process=self._is_process, limits_cpu=self._limits_cpu):
            await self._events.tell(pod, "NotEnforced", text, warning=True)
        wanted = str((pod.get("spec") or {}).get("runtimeClassName") or "")
        handler = await self._interrupt.guard(self._classes.handler(wanted))
        spec = self._sandbox(pod, attempt, handler=handler)
        for reason, message in pod_resolver(pod, self._dns())[1]:
            await self._events.tell(pod, reason, message, warning=True)
        spec.log_directory.mkdir(parents=True, exist_ok=True)
        try:
            await self._runtime.create_sandbox(spec)
        except EngineError as exc:
            if not handler or handler not in str(exc):
                raise
            raise EngineError(
                f'RuntimeClass "{wanted}": {exc}', reason=exc.reason,
                hint=f"give the engine a handler {handler!r}, or name one that it has in this node's runtimeHandlers",
            ) from exc  # fmt: skip

    def _check(self, pod: Object) -> None:
        """Raises ``EngineRefused`` when a field of the pod would have to be ignored."""
        if text := refusal(pod, is_process=self._is_process):
            raise EngineRefused(text, hint="remove it, or let another node run the pod")

    async def start(self, wanted: Wanted) -> None:
        """Pull if needed, create, start, and run the postStart hook.

        Raises:
            EngineError: with the reason that kubectl shows.
            Interrupted: something more urgent came.
        """
        found = wanted.view.definition(wanted.name)
        assert found is not None
        pod, container = wanted.view.pod, found[1]
        if found[0] == "ephemeralContainers":  # may come when the pod runs already
            self._check(pod)
        image_ref = await self._interrupt.guard(self._pulls.image(pod, container))
        spec = await self._container(wanted, container, image_ref)
        sandbox = self._sandbox(pod, 0)
        (sandbox.log_directory / wanted.name).mkdir(parents=True, exist_ok=True)
        container_id = await self._runtime.create_container(wanted.sandbox_id, spec, sandbox)
        await self._events.tell(pod, "Created", f"Created container: {wanted.name}", container=wanted.name)
        await self._runtime.start_container(container_id)
        await self._events.tell(pod, "Started", f"Started container {wanted.name}", container=wanted.name)
        metadata = pod["metadata"]
        log.info(
            "container.started", ns=metadata["namespace"], name=metadata["name"], container=wanted.name,
            attempt=wanted.attempt,
        )  # fmt: skip
        await self._post_start(wanted, container, container_id)

    async def _post_start(self, wanted: Wanted, container: Mapping[str, Any], container_id: str) -> None:
        hook = (container.get("lifecycle") or {}).get("postStart")
        if not hook:
            return
        aim = Aim(container_id, next(iter(wanted.facts.pod_ips), ""), container.get("ports") or ())
        try:
            await self._interrupt.guard(self._handlers.hook(hook, aim))
        except HandlerError as exc:
            log.info("hook.failed", hook="postStart", container=wanted.name, why=str(exc))
            text = "PostStartHook failed"
            await self._events.tell(wanted.view.pod, "FailedPostStartHook", text, container=wanted.name, warning=True)
            await self._stop(container_id, wanted.name)
            raise EngineError(text, reason="PostStartHookError") from exc

    async def _container(self, wanted: Wanted, container: dict[str, Any], image_ref: str) -> ContainerSpec:
        pod = wanted.view.pod
        granted = await self._devices.grant(pod, wanted.name)
        values = {**granted.envs, **(api_variables(*address) if (address := self._api_server()) else {})}
        values |= dict(environment(pod, container, await self._references(pod, container), wanted.facts, values))
        command, args = command_line(container, values)
        return ContainerSpec(
            name=wanted.name,
            attempt=wanted.attempt,
            image=str(container.get("image") or ""),
            image_ref=image_ref,
            command=command,
            args=args,
            env=list(values.items()),
            mounts=[*granted.mounts, *self._mounts(wanted, container, values)],
            log_path=f"{wanted.name}/{wanted.attempt}.log",
            container=container,
            working_dir=str(container.get("workingDir") or ""),
            annotations={
                **granted.annotations,
                BACKOFF_ANNOTATION: f"{wanted.backoff_s:g}",
                RESOURCES_ANNOTATION: resources_hash(container),
            },
            spec_hash=spec_hash(container),
            target_id=_target(wanted.view, container),
            devices=granted.nodes,
            cdi_names=granted.cdi_names,
        )

    def _mounts(self, wanted: Wanted, container: Mapping[str, Any], values: Mapping[str, str]) -> list[Mount]:
        mounts = v.mounts_of(wanted.view.pod, container, self._home.volumes, values)
        taken = {mount.container_path for mount in mounts}
        if _HOSTS not in taken:
            self._write_hosts(wanted)
            mounts.append(Mount(self._home.hosts, _HOSTS))
        last_words = str(container.get("terminationMessagePath") or _LAST_WORDS)
        if last_words not in taken:
            mounts.append(Mount(self._home.make_last_words(wanted.name, wanted.attempt), last_words))
        return mounts

    def _write_hosts(self, wanted: Wanted) -> None:
        pod, spec, sandbox = wanted.view.pod, wanted.view.spec, wanted.view.sandbox
        name, full = self._names(pod)
        ips = sandbox.ips if sandbox is not None else ()
        is_on_node = bool(spec.get("hostNetwork")) or not ips or ips[0] == wanted.facts.node_ip
        node_hosts = None
        if is_on_node:
            with _NODE_HOSTS.open("rb") as file:
                node_hosts = file.read(_NODE_HOSTS_BYTES).decode(errors="replace")
        names = [full, name] if full else [name]
        text = hosts_file(ips, names, spec.get("hostAliases") or [], node_hosts=node_hosts)
        self._home.directory.mkdir(parents=True, exist_ok=True)
        write_atomic(self._home.hosts, text.encode(), mode=0o644)

    def _names(self, pod: Object) -> tuple[str, str]:
        metadata, spec = pod["metadata"], pod.get("spec") or {}
        return host_names(
            str(metadata["name"]), str(metadata["namespace"]), spec, cluster_domain=self._dns().cluster_domain
        )

    async def _references(self, pod: Object, container: dict[str, Any]) -> dict[ObjectKey, Object | None]:
        found: dict[ObjectKey, Object | None] = {}
        for kind, name in object_keys(container):
            try:
                found[kind, name] = await self._volumes.objects.get(kind, str(pod["metadata"]["namespace"]), name)
            except NotFound:
                found[kind, name] = None
            except ApiError as exc:
                raise ConfigMissing(f'{kind} "{name}" is not on this node: {exc.message}') from exc
        return found

    def _sandbox(self, pod: Object, attempt: int, *, handler: str = "") -> SandboxSpec:
        """What a sandbox is made of. ``handler`` matters only where one is made; a pod's own annotation never does."""
        spec, metadata = pod.get("spec") or {}, pod["metadata"]
        name, full = self._names(pod)
        resolver = pod_resolver(pod, self._dns())[0]
        host_name = full if full and spec.get("setHostnameAsFQDN") else name
        if len(host_name) > 64:
            raise EngineRefused(
                f"host name {host_name!r} has more than 64 characters", reason="FailedCreatePodSandBox",
                hint="shorten hostname or subdomain, or leave setHostnameAsFQDN out",
            )  # fmt: skip
        return SandboxSpec(
            namespace=str(metadata["namespace"]),
            name=str(metadata["name"]),
            uid=str(metadata["uid"]),
            attempt=attempt,
            hostname=host_name,
            log_directory=self._home.logs,
            pod=pod,
            labels=metadata.get("labels") or {},
            annotations={**(metadata.get("annotations") or {}), RUNTIME_HANDLER: handler},
            dns_servers=resolver.servers,
            dns_searches=resolver.searches,
            dns_options=resolver.options,
        )


def _target(view: PodView, container: Mapping[str, Any]) -> str:
    """The container whose processes an ephemeral one is to see."""
    name = container.get("targetContainerName")
    if not name:
        return ""
    target = view.latest(str(name))
    if target is None or target not in view.running():
        raise EngineError(
            f"unable to find target container {str(name)!r}", reason="CreateContainerError",
            hint="the target must be running",
        )  # fmt: skip
    return target.id
