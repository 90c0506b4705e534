"""``PodRuntime`` and ``ContainerIO`` of the process runtime. Containers are host processes under shims.

A sandbox is a record and, when the agent runs as root, a user id; containers share the host's network. Everything is
found again after a restart of the agent; nothing but directories and processes exists.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import skerry
from skerry.api.quantity import parse_quantity
from skerry.base import json
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.fanout import Fanout
from skerry.base.aio.supervise import Supervisor
from skerry.base.files import write_atomic
from skerry.base.obs.log import get_log
from skerry.base.values import asdict
from skerry.runtime.cgroups import Cgroups, GroupLimits
from skerry.runtime.podlimits import container_limits, oom_score_adj, pod_limits
from skerry.runtime.ports import (
    ContainerSpec,
    ContainerState,
    ContainerUsage,
    EngineError,
    EngineInfo,
    EngineRefused,
    ExecTimeout,
    Mount,
    ObservedContainer,
    ObservedPod,
    ObservedSandbox,
    SandboxSpec,
    StreamWanted,
)
from skerry.runtime.process.callfilter import call_filter
from skerry.runtime.process.permits import check_container, check_pod, ids, is_privileged, part
from skerry.runtime.process.records import Records
from skerry.runtime.process.settings import ProcessSettings
from skerry.runtime.process.shim import REQUEST, boot_id, start_time
from skerry.runtime.process.starter import Starter, Watch, end_session, send_signal
from skerry.runtime.process.usage import live_user_ids, use_below
from skerry.runtime.trees import remove_tree

log = get_log(__name__)

MOUNTS_ANNOTATION = "skerry.dev/process-mounts"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KILL_WAIT_S = 10.0
_RESOLVER, _RESOLV_CONF = "resolv.conf", "/etc/resolv.conf"
_OF_THE_SHIM = ("env", "working_dir", "uid", "gid", "groups", "rlimits", "privileged", "user_namespace", "cgroups")
"""What a command in a container shares with its program."""
_NO_VIEWS = "mount namespaces are not allowed here: give the agent CAP_SYS_ADMIN, or run it as a normal user"


class ProcessRuntime:
    """Runs pods as processes.

    Args:
        directory: everything the runtime keeps; its own.
        settings: what is allowed.
        groups: control groups that keep the pods' limits; None where the agent may not make any.
        clock: wall-clock times in records.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: ProcessSettings | None = None,
        groups: Cgroups | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._records = Records(directory)
        self._groups = groups
        self._keeps = groups.controllers() if groups is not None else frozenset[str]()
        self._settings = settings or ProcessSettings()
        self._clock = clock or SystemClock()
        self._supervisor = Supervisor("process-runtime")
        self._starter = Starter(self._supervisor)
        self._changes: Fanout[str] = Fanout(limit=10_000)
        self._ended = asyncio.Event()
        self._watch = Watch(self._on_end)
        self._boot_id = boot_id()
        self._has_views: bool | None = None
        self._call_filter = call_filter(os.uname().machine) if _has_seccomp() else b""
        if not self._call_filter:
            log.warning("process.no_call_filter", hint="this kernel cannot filter system calls: pods may make any")
        for path in self._records.torn():
            log.warning("process.torn_sandbox_removed", path=str(path))
            self._end_torn(path)

    async def info(self) -> EngineInfo:
        if not await self._views() and os.geteuid() == 0:
            return EngineInfo("process", skerry.__version__, is_ready=False, message=_NO_VIEWS)
        view = "mount namespaces" if await self._views() else "linked directories"
        return EngineInfo("process", skerry.__version__, is_ready=True, message=f"volumes by {view}")

    async def observe(self) -> dict[str, ObservedPod]:
        found: dict[str, list[tuple[ObservedSandbox, list[ObservedContainer]]]] = {}
        for sandbox_id, record in self._records.sandboxes():
            containers = [c for i in self._records.containers(sandbox_id) if (c := self._container(i)) is not None]
            found.setdefault(record["uid"], []).append((_sandbox(sandbox_id, record), containers))
        return {uid: _pod(uid, parts) for uid, parts in found.items()}

    async def changes(self) -> AsyncIterator[str]:
        reader = self._changes.reader()
        try:
            async for pod_uid in reader:
                yield pod_uid
        finally:
            reader.close()

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        check_pod(spec.pod, self._settings)
        annotations = dict(spec.annotations)
        if not await self._views():
            if os.geteuid() == 0:
                raise EngineRefused(_NO_VIEWS)
            annotations[MOUNTS_ANNOTATION] = "linked"
        sandbox_id = uuid.uuid4().hex
        record = {
            "uid": spec.uid,
            "namespace": spec.namespace,
            "name": spec.name,
            "attempt": spec.attempt,
            "hostname": spec.hostname,
            "created_at_s": self._clock.now_s(),
            "annotations": annotations,
            "is_ready": True,
            "ip": self._settings.node_ip,
            "user_id": self._user_id(spec.uid) if os.geteuid() == 0 else None,
        }
        self._records.put_sandbox(sandbox_id, record)
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        record = self._records.sandbox(sandbox_id)
        if record is None:
            return
        containers = self._records.containers(sandbox_id)
        await asyncio.gather(*(self.stop_container(container_id, grace_s=0) for container_id in containers))
        if record["is_ready"]:
            self._records.put_sandbox(sandbox_id, record | {"is_ready": False})
            self._changes.send(record["uid"])

    async def remove_sandbox(self, sandbox_id: str) -> None:
        record = self._records.sandbox(sandbox_id)
        if record is None:
            return
        await self.stop_sandbox(sandbox_id)
        for container_id in self._records.containers(sandbox_id):
            await self._remove_group(f"pod{record['uid']}/{container_id}")
        self._records.remove_sandbox(sandbox_id)
        self._changes.send(record["uid"])

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str:
        record = self._records.sandbox(sandbox_id)
        if record is None:
            raise EngineError(f"sandbox {sandbox_id} does not exist")
        check_container(spec, sandbox.pod, record["user_id"], self._settings)
        has_views = await self._views()
        container_id = f"{sandbox_id}.{spec.name}.{spec.attempt}.{uuid.uuid4().hex[:6]}"
        place = self._records.directory / sandbox_id / container_id
        log_path = sandbox.log_directory / spec.log_path
        user_id, group_id, groups = ids(spec.container, sandbox.pod, record["user_id"], self._settings)
        limits = {
            "pod": asdict(pod_limits(part(sandbox.pod, "spec"), process_count=self._settings.process_count)),
            "own": asdict(container_limits(spec.container)),
        }
        self._records.put_container(
            container_id,
            {
                "uid": record["uid"],
                "sandbox_id": sandbox_id,
                "name": spec.name,
                "attempt": spec.attempt,
                "image": spec.image,
                "image_ref": spec.image_ref,
                "log_path": str(log_path),
                "spec_hash": spec.spec_hash,
                "annotations": dict(spec.annotations),
                "created_at_s": self._clock.now_s(),
                "limits": limits,
                "shim": {
                    "argv": [*spec.command, *spec.args],
                    "env": self._environment(spec, sandbox.hostname, None if has_views else place / "volumes"),
                    "working_dir": spec.working_dir or ("/" if has_views else str(place / "work")),
                    "log_path": str(log_path),
                    "log_limit_bytes": self._settings.log_limit_bytes,
                    "log_keep_count": self._settings.log_keep_count,
                    "cgroups": self._make_groups(record["uid"], container_id, limits),
                    "root": str(place / "root") if has_views else "",
                    "user_namespace": os.geteuid() != 0,
                    "hostname": sandbox.hostname,
                    "mounts": [*_resolver_mount(place, sandbox, spec), *map(_mount, spec.mounts)],
                    "rlimits": _rlimits(spec.container, counts_data="memory" not in self._keeps),
                    "oom_score_adj": oom_score_adj(
                        spec.container,
                        part(sandbox.pod, "spec"),
                        machine_memory_bytes=self._settings.machine_memory_bytes,
                    ),
                    "uid": user_id,
                    "gid": group_id,
                    "groups": groups,
                    "privileged": is_privileged(spec.container, self._settings),
                    "call_filter": "" if is_privileged(spec.container, self._settings) else self._call_filter.hex(),
                },
            },
        )
        if has_views and (text := _resolver(sandbox)):
            write_atomic(place / _RESOLVER, text.encode(), mode=0o644)
        if not has_views:
            _link_volumes(place, spec)
        return container_id

    async def start_container(self, container_id: str) -> None:
        place, record = self._records.place(container_id), self._records.container(container_id)
        if place is None or record is None:
            raise EngineError(f"container {container_id} does not exist")
        if self._records.state(container_id):
            return
        self._make_groups(record["uid"], container_id, record.get("limits"))  # gone if the machine was restarted since
        await self._starter.start(place)
        self._container(container_id)
        self._changes.send(record["uid"])

    async def stop_container(self, container_id: str, *, grace_s: float) -> None:
        if grace_s > 0:
            self._signal(container_id, signal.SIGTERM)
            if await self._ends_within(container_id, grace_s):
                return
        self._signal(container_id, signal.SIGKILL)
        if not await self._ends_within(container_id, _KILL_WAIT_S):
            raise EngineError(f"container {container_id} does not end after SIGKILL")

    async def remove_container(self, container_id: str) -> None:
        record = self._records.container(container_id)
        if record is None:
            return
        await self.stop_container(container_id, grace_s=0)
        await self._remove_group(f"pod{record['uid']}/{container_id}")
        self._records.remove_container(container_id)
        self._changes.send(record["uid"])

    async def clear_pod(self, uid: str) -> None:
        await self._remove_group(f"pod{uid}")

    def leftovers(self) -> set[str]:
        groups = self._groups.groups() if self._groups is not None else set()
        return {name.removeprefix("pod") for name in groups if name.startswith("pod")}

    async def stream_url(self, wanted: StreamWanted) -> str:
        raise EngineRefused(
            f"{wanted.kind} needs a container engine: pods of this node are processes of it",
            hint="use `kubectl logs`, or a command probe; on the node itself its processes are seen with ps",
        )

    async def exec_sync(self, container_id: str, command: Sequence[str], *, timeout_s: float) -> tuple[int, bytes]:
        place, state = self._records.place(container_id), self._records.state(container_id)
        shim = self._records.shim(container_id)
        if place is None or shim is None or state.get("state") != "running" or not self._is_alive(state):
            raise EngineError(f"container {container_id} does not run", reason="ExecError")
        request = place / f"{uuid.uuid4().hex}{REQUEST}"
        wanted = {key: shim[key] for key in _OF_THE_SHIM} | {
            "pid": state["pid"],
            "argv": list(command),
            "has_root": bool(shim["root"]),
            "call_filter": shim.get("call_filter", ""),  # a container of an older agent has none, and no score
            "oom_score_adj": shim.get("oom_score_adj"),
            "timeout_s": timeout_s,
        }
        answer = request.with_name(f"{request.name}.out")
        try:
            write_atomic(request, json.dumps(wanted), mode=0o600)
            await self._starter.exec(request, timeout_s=timeout_s)
            head, _, output = answer.read_bytes().partition(b"\n")
        except OSError as exc:
            raise EngineError(f"command {command[0]!r} in {container_id}: {exc}", reason="ExecError") from exc
        finally:
            request.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)
        found = json.loads(head)
        if found["failure"]:
            raise EngineError(f"command {command[0]!r}: {found['failure']}", reason="ExecError")
        if found["is_late"]:
            raise ExecTimeout(f"command {command[0]!r} timed out after {timeout_s:g}s")
        return int(found["exit_code"]), output

    async def aclose(self) -> None:
        if self._groups is not None:
            self._groups.remove_empty()
        self._watch.close()
        self._changes.close()
        await self._starter.aclose()
        await self._supervisor.aclose()

    # Limits

    def _make_groups(self, uid: str, container_id: str, limits: Mapping[str, Any] | None) -> list[str]:
        """The directories that a container's program enters; none where the agent may not make any."""
        if self._groups is None or limits is None:  # a container of an older agent has none
            return []
        try:
            self._groups.make(f"pod{uid}", GroupLimits(**limits["pod"]).within(self._keeps))
            own = GroupLimits(**limits["own"]).within(self._keeps)
            return [str(path) for path in self._groups.make(f"pod{uid}/{container_id}", own, is_member=True)]
        except OSError as exc:
            raise EngineError(f"cannot keep the limits of the pod: {exc}", reason="CreateContainerError") from exc

    async def _remove_group(self, group: str) -> None:
        if self._groups is None:
            return
        try:
            await self._groups.remove(group)
        except OSError as exc:
            raise EngineError(str(exc)) from exc

    # What is observed

    async def stats(self) -> Mapping[str, ContainerUsage]:
        """Usage of running containers, by id."""
        shims = {}
        for pod in (await self.observe()).values():
            for container in pod.containers:
                if container.state is ContainerState.RUNNING:
                    shims[container.id] = int(self._records.state(container.id).get("shim_pid", 0))
        used = use_below(shims.values())
        return {
            container_id: ContainerUsage(
                container_id,
                cpu_ns=used[pid].cpu_ns,
                memory_bytes=used[pid].memory_bytes,
                process_count=used[pid].count,
            )
            for container_id, pid in shims.items()
        }

    def _container(self, container_id: str) -> ObservedContainer | None:
        record = self._records.container(container_id)
        if record is None:
            return None
        state = self._state(container_id)
        return ObservedContainer(
            id=container_id,
            sandbox_id=record["sandbox_id"],
            name=record["name"],
            attempt=record["attempt"],
            state=ContainerState(state.get("state", "created")),
            image=record["image"],
            image_ref=record["image_ref"],
            created_at_s=record["created_at_s"],
            started_at_s=state.get("started_at_s", 0.0),
            finished_at_s=state.get("finished_at_s", 0.0),
            exit_code=state.get("exit_code", 0),
            signal=state.get("signal", 0),
            reason=state.get("reason", ""),
            message=state.get("message", ""),
            log_path=Path(record["log_path"]),
            spec_hash=record["spec_hash"],
            annotations=record["annotations"],
        )

    def _state(self, container_id: str) -> dict[str, Any]:
        state = self._records.state(container_id)
        if state.get("state") != "running":
            return state
        if self._is_alive(state):
            self._watch.add(container_id, state["shim_pid"], state["shim_start"])
            return state
        # The shim may have written its last word since we read.
        state = self._records.state(container_id)
        if state.get("state") != "running":
            return state
        is_reboot = state["boot_id"] != self._boot_id
        if not is_reboot:
            end_session(state["pid"], state["pid_start"])
        state |= {
            "state": "exited",
            "exit_code": 255 if is_reboot else 137,
            "finished_at_s": self._clock.now_s(),
            "reason": "ContainerStatusUnknown",
            "message": "the node was restarted" if is_reboot else "the container's supervisor was killed",
        }
        self._records.put_state(container_id, state)
        return state

    def _is_alive(self, state: dict[str, Any]) -> bool:
        is_this_boot: bool = state["boot_id"] == self._boot_id
        return is_this_boot and start_time(state["shim_pid"]) == state["shim_start"]

    def _on_end(self, container_id: str) -> None:
        record = self._records.container(container_id)
        self._ended.set()
        self._changes.send(record["uid"] if record else "")

    async def _ends_within(self, container_id: str, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                while self._state(container_id).get("state") == "running":
                    self._ended.clear()
                    await self._ended.wait()
        except TimeoutError:
            return self._state(container_id).get("state") != "running"
        return True

    def _signal(self, container_id: str, number: int) -> None:
        state = self._records.state(container_id)
        if state.get("state") == "running" and state["boot_id"] == self._boot_id:
            send_signal(state["pid"], state["pid_start"], number)

    def _user_id(self, pod_uid: str) -> int:
        taken = {record["user_id"]: record["uid"] for _, record in self._records.sandboxes()}
        for number, owner in taken.items():
            if owner == pod_uid and number is not None:
                return int(number)
        base, count = self._settings.uid_base, self._settings.uid_count
        last = self._records.last_user_id()
        # Another agent of this machine should not begin where this one does.
        after = secrets.randbelow(count) if last is None else last + 1 - base
        busy = taken.keys() | live_user_ids()
        for step in range(count):
            number = base + (after + step) % count
            if number not in busy:
                self._records.put_last_user_id(number)
                return number
        raise EngineError(f"all {count} user ids for pods are taken", reason="FailedCreatePodSandBox")

    async def _views(self) -> bool:
        if self._has_views is None:
            self._has_views = self._settings.use_namespaces and await self._starter.can_unshare()
            if not self._has_views:
                log.warning("process.no_namespaces", hint="volumes are linked directories, see SKERRY_VOLUMES")
        return self._has_views

    @staticmethod
    def _environment(spec: ContainerSpec, hostname: str, volumes: Path | None) -> dict[str, str]:
        env = {"PATH": _PATH, "HOSTNAME": hostname, "HOME": "/"} | dict(spec.env)
        return env | {"SKERRY_VOLUMES": str(volumes)} if volumes else env

    def _end_torn(self, path: Path) -> None:
        for entry in path.iterdir():
            state = self._records.state(entry.name) if "." in entry.name else {}
            if state.get("state") == "running" and state["boot_id"] == self._boot_id:
                end_session(state["pid"], state["pid_start"])
                send_signal(state["shim_pid"], state["shim_start"], signal.SIGKILL)
        remove_tree(path)


def _rlimits(container: Mapping[str, object], *, counts_data: bool) -> dict[str, int]:
    resources: Any = container.get("resources") or {}
    memory = (resources.get("limits") or {}).get("memory")
    limits = {"RLIMIT_CORE": 0}
    if memory and counts_data:
        # Counts what can be written privately, so that large reserved address ranges stay possible.
        limits["RLIMIT_DATA"] = parse_quantity(str(memory)).value
    return limits


def _mount(mount: Mount) -> dict[str, Any]:
    return {"source": str(mount.host_path), "target": mount.container_path, "read_only": mount.read_only}


def _resolver_mount(place: Path, sandbox: SandboxSpec, spec: ContainerSpec) -> list[dict[str, Any]]:
    """The pod's resolv.conf, unless a volume is there."""
    if not _resolver(sandbox) or any(mount.container_path == _RESOLV_CONF for mount in spec.mounts):
        return []
    return [_mount(Mount(place / _RESOLVER, _RESOLV_CONF, read_only=True))]


def _resolver(sandbox: SandboxSpec) -> str:
    lines = [f"nameserver {server}" for server in sandbox.dns_servers]
    if sandbox.dns_searches:
        lines.append(f"search {' '.join(sandbox.dns_searches)}")
    if sandbox.dns_options:
        lines.append(f"options {' '.join(sandbox.dns_options)}")
    return "".join(f"{line}\n" for line in lines)


def _link_volumes(place: Path, spec: ContainerSpec) -> None:
    """Without mount namespaces: ``$SKERRY_VOLUMES/<mountPath>`` is a link to the volume."""
    (place / "work").mkdir()
    for mount in spec.mounts:
        link = place / "volumes" / mount.container_path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(mount.host_path)


def _sandbox(sandbox_id: str, record: dict[str, Any]) -> ObservedSandbox:
    return ObservedSandbox(
        id=sandbox_id,
        namespace=record["namespace"],
        name=record["name"],
        uid=record["uid"],
        attempt=record["attempt"],
        is_ready=record["is_ready"],
        created_at_s=record["created_at_s"],
        ips=[record["ip"]] if record["ip"] else [],
        annotations=record["annotations"],
    )


def _pod(uid: str, parts: list[tuple[ObservedSandbox, list[ObservedContainer]]]) -> ObservedPod:
    parts.sort(key=lambda part: part[0].attempt, reverse=True)
    containers = [container for _, each in parts for container in each]
    newest = parts[0][0]
    return ObservedPod(
        uid=uid,
        namespace=newest.namespace,
        name=newest.name,
        sandboxes=[sandbox for sandbox, _ in parts],
        containers=sorted(containers, key=lambda c: (c.attempt, c.created_at_s), reverse=True),
    )


def _has_seccomp() -> bool:
    return "\nSeccomp:" in Path("/proc/self/status").read_text()
