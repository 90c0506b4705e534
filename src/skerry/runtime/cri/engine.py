"""PodRuntime and ContainerIO over CRI v1.

Only sandboxes that carry this node's uid are seen and touched, and those that were handed over to it by name, so an
engine may be shared. ``observe`` lists at most
once a second unless we changed something ourselves; a container's status is asked for once per state it is in.
Not here: images (``images``), how specs become messages (``spec``).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.base.aio.backoff import Backoff
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.grpc import GrpcError, Status
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.runtime.cri import observed, spec
from skerry.runtime.cri.client import ACTION_S, SANDBOX_S, CriClient, is_gone, remedy
from skerry.runtime.cri.lostnets import LostNetworks
from skerry.runtime.cri.observed import Details
from skerry.runtime.cri.podgroups import PodGroups
from skerry.runtime.cri.processes import process_counts
from skerry.runtime.cri.spec import NODE_LABEL, POD_UID
from skerry.runtime.cri.supervisors import supervisors_for
from skerry.runtime.ports import (
    ContainerSpec,
    ContainerState,
    ContainerUsage,
    EngineError,
    EngineInfo,
    EngineRefused,
    EngineUnavailable,
    ExecTimeout,
    ObservedContainer,
    ObservedPod,
    ObservedSandbox,
    SandboxSpec,
    StreamWanted,
)

log = get_log(__name__)

_EXEC_OUTPUT_BYTES = 16 * 1024
_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
_ID = re.compile(r"\b[0-9a-f]{64}\b")
_SUPERVISOR_ENDS_S = 2.0
"""How long a supervisor may take to end after its sandbox was removed; it takes some milliseconds."""
_STATUS_CALLS = 8
"""How many status calls run at once after a list."""


class _Snapshot(Struct, frozen=True):
    pods: dict[str, ObservedPod]
    taken_at_s: float
    generation: int


def exec_result(answer: Mapping[str, Any], program: str, timeout_s: float) -> tuple[int, bytes]:
    """Exit code and output of an ``ExecSync``. Pure.

    CRI-O answers -1 where others fail with ``DeadlineExceeded``; Docker runs the command and says in its output that
    there is no such program. Source: cri-o internal/oci/runtime_oci.go, cri-dockerd core/exec.go.

    Raises:
        ExecTimeout: it did not end in time.
        EngineError: no such program.
    """
    code, output = answer.get("exit_code", 0), answer.get("stdout", b"") + answer.get("stderr", b"")
    if code == -1 and output == b"command timed out":
        raise ExecTimeout(f"command {program!r} timed out after {timeout_s:g}s")
    if code in (126, 127) and output.startswith(b"OCI runtime exec failed: "):
        raise EngineError(output[:_EXEC_OUTPUT_BYTES].decode(errors="replace").strip())
    return code, output[:_EXEC_OUTPUT_BYTES]


class CriRuntime:
    """``PodRuntime`` and ``ContainerIO`` on a CRI engine.

    Args:
        client: of the engine; closed by ``aclose``.
        node_uid: marks what is ours.
        groups: the control groups that pods are made in; None leaves them to the engine.
        adopted: sandboxes of another agent that this node has taken over: the pod's uid by sandbox id. Both must match.
        machine_memory_bytes: for ``oom_score_adj``; 0 where unknown.
        list_interval_s: how old an observation may be, and how often ``changes`` looks where the engine has no events.
    """

    def __init__(
        self,
        client: CriClient,
        *,
        node_uid: str,
        groups: PodGroups | None = None,
        adopted: Mapping[str, str] | None = None,
        machine_memory_bytes: int = 0,
        list_interval_s: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._node_uid = node_uid
        self._groups = groups
        self._lost_networks = LostNetworks(client)
        self._seen: dict[str, set[str]] = {}
        self._adopted = dict(adopted or {})
        self._machine_memory_bytes = machine_memory_bytes
        self._interval_s = list_interval_s
        self._clock = clock or SystemClock()
        self._lock = asyncio.Lock()
        self._generation = 0
        self._snapshot: _Snapshot | None = None
        self._details: dict[tuple[str, ContainerState], Details] = {}
        self._ips: dict[str, tuple[str, ...]] = {}

    async def info(self) -> EngineInfo:
        """Name, version and readiness, with what is missing and its remedy. Raises ``EngineUnavailable``."""
        version = await self._client.call("Version", {})
        status = await self._client.call("Status", {})
        bad = [c for c in status.get("status", {}).get("conditions", []) if not c.get("status")]
        return EngineInfo(
            name=version.get("runtime_name", ""),
            version=version.get("runtime_version", ""),
            is_ready=not bad,
            message="; ".join(_explained(condition) for condition in bad),
        )

    async def observe(self) -> dict[str, ObservedPod]:
        """All pods of this node by uid, at most ``list_interval_s`` old and never older than our last action."""
        return dict((await self._fresh()).pods)

    async def changes(self) -> AsyncIterator[str]:
        """Pod uids whose state may have changed; ``""`` first, and whenever something may have been missed."""
        backoff = Backoff(first_s=0.5, cap_s=10.0)
        source = self._told_changes
        while True:
            yield ""
            try:
                async with contextlib.aclosing(source()) as uids:
                    async for uid in uids:
                        backoff.reset()
                        yield uid
            except EngineRefused:
                source = self._polled_changes
                continue
            except EngineError as exc:
                log.warning("engine.unavailable", error=str(exc))
            await self._clock.sleep(backoff.next_s())

    async def create_sandbox(self, spec_: SandboxSpec) -> str:
        """Create and start a sandbox; the one that is there already for this uid and attempt is taken."""
        await self._end_lost(spec_.uid, whole=False)
        parent = await self._groups.make(spec_) if self._groups is not None else ""
        request = {
            "config": spec.sandbox_config(spec_, node_uid=self._node_uid, cgroup_parent=parent),
            "runtime_handler": spec.runtime_handler(spec_),
        }
        try:
            answer = await self._changing(
                "RunPodSandbox", request, reason="FailedCreatePodSandBox", timeout_s=SANDBOX_S
            )
        except EngineError as exc:
            if "is reserved for" not in str(exc):
                raise
            self._seen.setdefault(spec_.uid, set()).update(_ID.findall(str(exc)))
            return await self._adopted_sandbox(spec_, exc)
        self._seen.setdefault(spec_.uid, set()).add(str(answer["pod_sandbox_id"]))
        return str(answer["pod_sandbox_id"])

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Stop it and every container in it, at once."""
        for item in await self._containers({"pod_sandbox_id": sandbox_id}):
            if observed.state_of(item) is ContainerState.RUNNING:
                await self.stop_container(item["id"], grace_s=0)
        await self._changing_if_there("StopPodSandbox", {"pod_sandbox_id": sandbox_id})

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove a stopped sandbox and its containers, with what a killed engine has forgotten of it."""
        if not self._ips.get(sandbox_id):  # seen with an address it has a network that the engine knows
            await self._lost_networks.give_back(sandbox_id)
        await self._changing_if_there("RemovePodSandbox", {"pod_sandbox_id": sandbox_id})
        await self._end_supervisors(sandbox_id)

    async def create_container(self, sandbox_id: str, spec_: ContainerSpec, sandbox: SandboxSpec) -> str:
        """Create a container; the one that is there already for this name and attempt is taken."""
        image_user = await self._image_user(spec_) if spec.needs_image_user(spec_, sandbox) else None
        parent = await self._groups.parent(sandbox.uid) if self._groups is not None else ""
        request = {
            "pod_sandbox_id": sandbox_id,
            "config": spec.container_config(
                spec_,
                sandbox,
                node_uid=self._node_uid,
                machine_memory_bytes=self._machine_memory_bytes,
                image_user=image_user,
                has_apparmor=_has_apparmor(),
                more_resources=self._groups.member_resources(spec.memory_limit(spec_.container))
                if self._groups
                else {},
            ),
            "sandbox_config": spec.sandbox_config(sandbox, node_uid=self._node_uid, cgroup_parent=parent),
        }
        try:
            answer = await self._changing("CreateContainer", request, reason="CreateContainerError")
        except EngineError as exc:
            if "is reserved for" not in str(exc):
                raise
            return await self._adopted_container(sandbox_id, spec_, exc)
        return str(answer["container_id"])

    async def start_container(self, container_id: str) -> None:
        """Start a created container."""
        await self._changing("StartContainer", {"container_id": container_id}, reason="RunContainerError")

    async def stop_container(self, container_id: str, *, grace_s: float) -> None:
        """SIGTERM (or the image's stop signal), after ``grace_s`` SIGKILL; returns when it has ended."""
        request = {"container_id": container_id, "timeout": max(0, math.ceil(grace_s))}
        await self._changing_if_there("StopContainer", request, timeout_s=grace_s + ACTION_S)

    async def remove_container(self, container_id: str) -> None:
        """Remove an ended container; its log file stays."""
        await self._changing_if_there("RemoveContainer", {"container_id": container_id})

    async def clear_pod(self, uid: str) -> None:
        """End and remove what the engine lost of a pod that has no sandbox any more."""
        known = await self._known_to_engine(uid) if self._seen.get(uid) or self._lost_networks.of(uid) else set()
        await self._lost_networks.clear(uid, known=known)
        await self._end_lost(uid, whole=True)
        if lost := self._seen.pop(uid, set()) - known:
            with supervisors_for(lost) as supervisors:
                ended = supervisors.end()
            if ended:
                log.warning("engine.lost_supervisors_ended", uid=uid, count=ended)

    def leftovers(self) -> set[str]:
        """Pods that have a control group, whether the engine knows anything of them or not."""
        return self._groups.uids() if self._groups is not None else set()

    async def reopen_log(self, container_id: str) -> None:
        """Go on in a new log file: the old one was renamed."""
        await self._client.call("ReopenContainerLog", {"container_id": container_id})

    async def stream_url(self, wanted: StreamWanted) -> str:
        """Asked of the engine; good for one connection within a minute."""
        streams = {"tty": wanted.tty, "stdin": wanted.stdin, "stdout": wanted.stdout,
                   "stderr": wanted.stderr and not wanted.tty}  # fmt: skip
        if wanted.kind == "portForward":
            answer = await self._client.call("PortForward", {"pod_sandbox_id": wanted.target_id})
        elif wanted.kind == "exec":
            answer = await self._client.call(
                "Exec", {"container_id": wanted.target_id, "cmd": list(wanted.command)} | streams
            )
        else:
            answer = await self._client.call("Attach", {"container_id": wanted.target_id} | streams)
        return str(answer.get("url", ""))

    async def exec_sync(self, container_id: str, command: Sequence[str], *, timeout_s: float) -> tuple[int, bytes]:
        """Run to the end; exit code and output, standard output first (at most 16 KiB).

        Raises:
            ExecTimeout: it did not end within ``timeout_s``.
            EngineError: the container does not run, or has no such program.
        """
        request = {"container_id": container_id, "cmd": list(command), "timeout": max(1, math.ceil(timeout_s))}
        try:
            answer = await self._client.call("ExecSync", request, timeout_s=timeout_s + 10)
        except EngineUnavailable as exc:
            cause = exc.__cause__
            if isinstance(cause, GrpcError) and cause.status is Status.DEADLINE_EXCEEDED:
                raise ExecTimeout(f"command {command[0]!r} timed out after {timeout_s:g}s") from exc
            raise
        return exec_result(answer, command[0], timeout_s)

    async def stats(self) -> dict[str, ContainerUsage]:
        """Usage of our containers by id. Asked per container: the engine's pod statistics fail as a whole."""
        answer = await self._client.call("ListContainerStats", {"filter": self._filter()})
        known = await self._known_containers() if self._adopted else None
        items = {item.get("attributes", {}).get("id", ""): item for item in answer.get("stats", [])}
        ours = [container_id for container_id in items if known is None or container_id in known]
        counts = await asyncio.to_thread(process_counts, ours)
        found = {}
        for container_id in ours:
            item = items[container_id]
            found[container_id] = ContainerUsage(
                container_id,
                cpu_ns=item.get("cpu", {}).get("usage_core_nano_seconds", {}).get("value", 0),
                memory_bytes=item.get("memory", {}).get("working_set_bytes", {}).get("value", 0),
                disk_bytes=item.get("writable_layer", {}).get("used_bytes", {}).get("value", 0),
                process_count=counts.get(container_id, 0),
            )
        return found

    async def aclose(self) -> None:
        """Let go of the engine; containers keep running."""
        if self._groups is not None:
            self._groups.close()
        await self._client.aclose()

    async def _changing(
        self, name: str, request: Mapping[str, Any], *, reason: str, timeout_s: float = ACTION_S
    ) -> dict[str, Any]:
        try:
            return await self._client.call(name, request, reason=reason, timeout_s=timeout_s)
        finally:
            self._generation += 1

    async def _changing_if_there(self, name: str, request: Mapping[str, Any], *, timeout_s: float = ACTION_S) -> None:
        try:
            await self._client.call_if_there(name, request, timeout_s=timeout_s)
        finally:
            self._generation += 1

    async def _end_supervisors(self, sandbox_id: str) -> None:
        """End what still watches over a sandbox that was removed."""
        with supervisors_for({sandbox_id}) as left:
            if await left.have_ended(within_s=_SUPERVISOR_ENDS_S, clock=self._clock):
                return
            if ended := left.end():
                log.warning("engine.lost_supervisors_ended", sandbox=sandbox_id, count=ended)

    async def _end_lost(self, uid: str, *, whole: bool) -> None:
        """End what is in a pod's control group and the engine does not know; ``whole`` ends the group as well."""
        if self._groups is None or not self._groups.has(uid):
            return
        known = await self._known_to_engine(uid)
        await self._groups.end_lost(uid, known=known, whole=whole and not known)

    async def _known_to_engine(self, uid: str) -> set[str]:
        """Ids of the sandboxes and containers that the engine has of a pod, whoever made them."""
        wanted = {"filter": {"label_selector": {POD_UID: uid}}}
        sandboxes = await self._client.call("ListPodSandbox", wanted)
        containers = await self._client.call("ListContainers", wanted)
        return {item["id"] for item in [*sandboxes.get("items", []), *containers.get("containers", [])]}

    def _filter(self) -> dict[str, Any]:
        """What lists are narrowed to. With adopted sandboxes, which have no label of ours, to nothing."""
        return {} if self._adopted else {"label_selector": {NODE_LABEL: self._node_uid}}

    def _is_ours(self, item: Mapping[str, Any], sandbox_id: str) -> bool:
        """Whether a sandbox or container of a list is this node's."""
        labels = item.get("labels", {})
        if labels.get(NODE_LABEL) == self._node_uid:
            return True
        uid = self._adopted.get(sandbox_id)
        return uid is not None and labels.get(POD_UID) == uid

    async def _known_containers(self) -> set[str]:
        return {container.id for pod in (await self._fresh()).pods.values() for container in pod.containers}

    async def _fresh(self) -> _Snapshot:
        wanted = self._generation
        async with self._lock:
            snapshot = self._snapshot
            now_s = self._clock.monotonic_s()
            if (
                snapshot is not None
                and snapshot.generation >= wanted
                and now_s - snapshot.taken_at_s < self._interval_s
            ):
                return snapshot
            generation = self._generation
            self._snapshot = _Snapshot(await self._listed(), now_s, generation)
            return self._snapshot

    async def _listed(self) -> dict[str, ObservedPod]:
        answer = await self._client.call("ListPodSandbox", {"filter": self._filter()})
        items = [item for item in answer.get("items", []) if self._is_ours(item, item["id"])]
        containers = [
            item
            for item in await self._containers(self._filter())
            if self._is_ours(item, item.get("pod_sandbox_id", ""))
        ]
        for item in items:
            self._seen.setdefault(str(item.get("labels", {}).get(POD_UID, "")), set()).add(item["id"])
        self._forget({item["id"] for item in items}, {(item["id"], observed.state_of(item)) for item in containers})
        limit = asyncio.Semaphore(_STATUS_CALLS)
        sandboxes = await asyncio.gather(*(self._sandbox(item, limit) for item in items))
        found = await asyncio.gather(*(self._container(item, limit) for item in containers))
        return observed.pods_from(
            [sandbox for sandbox in sandboxes if sandbox is not None],
            [(item, container) for item, container in zip(containers, found, strict=True) if container is not None],
        )

    async def _containers(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = await self._client.call("ListContainers", {"filter": wanted})
        found: list[dict[str, Any]] = answer.get("containers", [])
        return found

    async def _sandbox(self, item: Mapping[str, Any], limit: asyncio.Semaphore) -> ObservedSandbox | None:
        sandbox_id = item["id"]
        is_ready = item.get("state", 0) == 0
        if is_ready and sandbox_id not in self._ips:
            async with limit:
                status = await self._status("PodSandboxStatus", {"pod_sandbox_id": sandbox_id})
            if status is None:
                return None
            self._ips[sandbox_id] = observed.ips_from(status)
        return observed.sandbox_from(item, self._ips.get(sandbox_id, ()))

    async def _container(self, item: Mapping[str, Any], limit: asyncio.Semaphore) -> ObservedContainer | None:
        state = observed.state_of(item)
        key = (item["id"], state)
        details = self._details.get(key)
        if details is None and state is not ContainerState.CREATED:
            async with limit:
                status = await self._status("ContainerStatus", {"container_id": item["id"]})
            if status is None:
                return None
            details = observed.details_from(status)
            if observed.state_of(status) is not state:
                item = {**item, "state": status.get("state", 0)}
                key = (item["id"], observed.state_of(item))
            if state is not ContainerState.UNKNOWN:
                self._details[key] = details
        return observed.container_from(item, details or Details())

    async def _status(self, name: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """The status, or None for something that went away since the list."""
        try:
            answer = await self._client.call(name, request)
        except EngineUnavailable:
            raise
        except EngineError as exc:
            if is_gone(str(exc)):
                return None
            raise
        found: dict[str, Any] = answer.get("status", {})
        return found

    def _forget(self, sandbox_ids: set[str], containers: set[tuple[str, ContainerState]]) -> None:
        """Drop what we know of things that are gone or in another state."""
        self._ips = {key: ips for key, ips in self._ips.items() if key in sandbox_ids}
        self._details = {key: details for key, details in self._details.items() if key in containers}

    async def _told_changes(self) -> AsyncGenerator[str, None]:
        async with contextlib.aclosing(self._client.events()) as events:
            async for event in events:
                labels = event.get("pod_sandbox_status", {}).get("labels", {})
                if labels.get(NODE_LABEL, self._node_uid) == self._node_uid:
                    self._generation += 1
                    yield labels.get(POD_UID, "")

    async def _polled_changes(self) -> AsyncGenerator[str, None]:
        before = (await self._fresh()).pods
        while True:
            await self._clock.sleep(self._interval_s)
            after = (await self._fresh()).pods
            for uid in before.keys() | after.keys():
                if before.get(uid) != after.get(uid):
                    yield uid
            before = after

    async def _image_user(self, container: ContainerSpec) -> int | None:
        image = {"image": container.image_ref or container.image}
        answer = await self._client.call("ImageStatus", {"image": image})
        found = answer.get("image", {})
        if name := found.get("username"):
            raise EngineRefused(
                f"image {container.image} names the user {name!r}, which cannot be verified as not root",
                hint="set securityContext.runAsUser to a number",
            )
        return int(found.get("uid", {}).get("value", 0))

    async def _adopted_sandbox(self, wanted: SandboxSpec, failure: EngineError) -> str:
        pod = (await self._fresh()).pods.get(wanted.uid)
        for sandbox in pod.sandboxes if pod is not None else ():
            if sandbox.attempt != wanted.attempt:
                continue
            if sandbox.is_ready:
                return sandbox.id
            await self.remove_sandbox(sandbox.id)
        raise EngineUnavailable(f"sandbox of pod {wanted.namespace}/{wanted.name} is being made: {failure}")

    async def _adopted_container(self, sandbox_id: str, wanted: ContainerSpec, failure: EngineError) -> str:
        for item in await self._containers({"pod_sandbox_id": sandbox_id}):
            metadata = item.get("metadata", {})
            if (metadata.get("name"), metadata.get("attempt", 0)) == (wanted.name, wanted.attempt):
                return str(item["id"])
        raise EngineUnavailable(f"container {wanted.name} is being made: {failure}")


def _explained(condition: Mapping[str, Any]) -> str:
    from_engine = condition.get("message", "") or condition.get("reason", "") or "not ready"
    text = f"{condition.get('type', '')}: {from_engine}"
    _, hint = remedy(from_engine)
    return f"{text}; {hint}" if hint else text


def _has_apparmor() -> bool:
    try:
        return _APPARMOR.read_text().strip() == "Y"
    except OSError:
        return False
