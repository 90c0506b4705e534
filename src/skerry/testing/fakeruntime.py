"""``PodRuntime`` and ``ImageStore`` in memory, for tests of everything above a container engine.

``FakeEngine`` is the engine: it outlives adapters, as a real one outlives the agent. ``FakeRuntime`` is its adapter.
Programs are a few words of ``sh`` (``echo``, ``exit``, ``sleep``, ``cat``, ``pwd``, ``trap``); a program that sleeps
runs until it is stopped or the test says ``finish``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.fanout import Fanout
from skerry.base.values import Struct, field, replace
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
    StoredImage,
    StreamWanted,
)
from skerry.wire.kubelet import crilog

_KILLED = 137
_EXEC_OUTPUT_BYTES = 16 * 1024


class _Container(Struct):
    spec: ContainerSpec
    seen: ObservedContainer
    log_path: Path
    on_term: int | None = 143


class _Sandbox(Struct):
    spec: SandboxSpec
    seen: ObservedSandbox
    containers: dict[str, _Container] = field(default_factory=dict)


class FakeEngine:
    """All state of the engine.

    Args:
        clock: for times.
        images: what ``FakeImages`` finds without a pull; None means every image.
        fail: called with the name of each call and its object's name; may raise an ``EngineError``.

    ``memory`` is what containers use, by pod name.
    ``answer_exec`` answers commands in containers, by container name and command, instead of the few words.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        images: set[str] | None = None,
        fail: Callable[[str, str], None] | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.images = images
        self.is_ready = True
        self.memory: dict[str, int] = {}
        self.calls: list[tuple[str, str]] = []
        self.answer_exec: Callable[[str, Sequence[str]], tuple[int, bytes]] | None = None
        self.fail = fail or (lambda call, name: None)
        self.sandboxes: dict[str, _Sandbox] = {}
        self.changes: Fanout[str] = Fanout(limit=10_000)
        self._ids = itertools.count(1)

    def new_id(self, kind: str) -> str:
        """An id that was never given before."""
        return f"{kind}-{next(self._ids):06}"

    def called(self, call: str, name: str) -> None:
        """Note a call, and fail it if the test says so."""
        self.calls.append((call, name))
        if not self.is_ready:
            raise EngineUnavailable("the fake engine is switched off")
        self.fail(call, name)

    def find(self, container_id: str) -> tuple[_Sandbox, _Container] | None:
        """A container and its sandbox."""
        for sandbox in self.sandboxes.values():
            if container_id in sandbox.containers:
                return sandbox, sandbox.containers[container_id]
        return None

    def running(self, pod: str, name: str) -> str:
        """The id of the running container ``name`` of pod ``pod``; LookupError if there is none."""
        for sandbox in self.sandboxes.values():
            for container_id, container in sandbox.containers.items():
                is_running = container.seen.state is ContainerState.RUNNING
                if sandbox.spec.name == pod and container.spec.name == name and is_running:
                    return container_id
        raise LookupError(f"no container {name} of pod {pod} runs")

    def finish(self, container_id: str, exit_code: int, *, reason: str = "") -> None:
        """The program ends now by itself."""
        found = self.find(container_id)
        if found is None or found[1].seen.state is not ContainerState.RUNNING:
            raise LookupError(f"container {container_id} does not run")
        self.end(*found, exit_code, reason=reason)

    def end(self, sandbox: _Sandbox, container: _Container, exit_code: int, *, reason: str = "") -> None:
        """Mark as exited."""
        container.seen = replace(
            container.seen,
            state=ContainerState.EXITED,
            exit_code=exit_code,
            finished_at_s=self.clock.now_s(),
            reason=reason or ("Completed" if exit_code == 0 else "Error"),
        )
        self.changes.send(sandbox.spec.uid)


class FakeRuntime:
    """An adapter on a ``FakeEngine``."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    async def info(self) -> EngineInfo:
        self._engine.called("info", "")
        return EngineInfo("fake", "1", is_ready=True)

    async def observe(self) -> dict[str, ObservedPod]:
        self._engine.called("observe", "")
        pods: dict[str, list[_Sandbox]] = {}
        for sandbox in self._engine.sandboxes.values():
            pods.setdefault(sandbox.spec.uid, []).append(sandbox)
        return {uid: _observed(sandboxes) for uid, sandboxes in pods.items()}

    async def changes(self) -> AsyncIterator[str]:
        reader = self._engine.changes.reader()
        try:
            async for uid in reader:
                yield uid
        finally:
            reader.close()

    async def create_sandbox(self, spec: SandboxSpec) -> str:
        self._engine.called("create_sandbox", spec.name)
        sandbox_id = self._engine.new_id("sandbox")
        seen = ObservedSandbox(
            id=sandbox_id,
            namespace=spec.namespace,
            name=spec.name,
            uid=spec.uid,
            attempt=spec.attempt,
            is_ready=True,
            created_at_s=self._engine.clock.now_s(),
            ips=("10.9.8.7",),
            annotations=dict(spec.annotations),
        )
        self._engine.sandboxes[sandbox_id] = _Sandbox(spec, seen)
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        self._engine.called("stop_sandbox", sandbox_id)
        sandbox = self._engine.sandboxes.get(sandbox_id)
        if sandbox is None:
            return
        for container in sandbox.containers.values():
            if container.seen.state is ContainerState.RUNNING:
                self._engine.end(sandbox, container, _KILLED)
        sandbox.seen = replace(sandbox.seen, is_ready=False)
        self._engine.changes.send(sandbox.spec.uid)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        self._engine.called("remove_sandbox", sandbox_id)
        sandbox = self._engine.sandboxes.pop(sandbox_id, None)
        if sandbox is not None:
            self._engine.changes.send(sandbox.spec.uid)

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str:
        self._engine.called("create_container", spec.name)
        home = self._engine.sandboxes.get(sandbox_id)
        if home is None:
            raise EngineError(f"sandbox {sandbox_id} does not exist")
        container_id = self._engine.new_id("container")
        seen = ObservedContainer(
            id=container_id,
            sandbox_id=sandbox_id,
            name=spec.name,
            attempt=spec.attempt,
            state=ContainerState.CREATED,
            image=spec.image,
            image_ref=spec.image_ref,
            created_at_s=self._engine.clock.now_s(),
            log_path=sandbox.log_directory / spec.log_path,
            spec_hash=spec.spec_hash,
            annotations=dict(spec.annotations),
        )
        home.containers[container_id] = _Container(spec, seen, sandbox.log_directory / spec.log_path)
        return container_id

    async def start_container(self, container_id: str) -> None:
        found = self._engine.find(container_id)
        self._engine.called("start_container", found[1].spec.name if found else container_id)
        if found is None:
            raise EngineError(f"container {container_id} does not exist")
        sandbox, container = found
        if container.spec.command[:1] == ("/nonexistent/program",):
            raise EngineError("/nonexistent/program: no such file or directory", reason="RunContainerError")
        now_s = self._engine.clock.now_s()
        container.seen = replace(container.seen, state=ContainerState.RUNNING, started_at_s=now_s)
        self._engine.changes.send(sandbox.spec.uid)
        program = _Program(container.spec, self._engine.clock, container.log_path)
        exit_code = program.run()
        container.on_term = program.on_term
        if exit_code is not None:
            self._engine.end(sandbox, container, exit_code)

    async def stop_container(self, container_id: str, *, grace_s: float) -> None:
        self._engine.called("stop_container", container_id)
        found = self._engine.find(container_id)
        if found is None or found[1].seen.state is not ContainerState.RUNNING:
            return
        on_term = found[1].on_term
        self._engine.end(*found, _KILLED if on_term is None or grace_s <= 0 else on_term)

    async def remove_container(self, container_id: str) -> None:
        self._engine.called("remove_container", container_id)
        found = self._engine.find(container_id)
        if found is not None:
            del found[0].containers[container_id]
            self._engine.changes.send(found[0].spec.uid)

    async def clear_pod(self, uid: str) -> None:
        self._engine.called("clear_pod", uid)

    def leftovers(self) -> set[str]:
        return set()

    async def stream_url(self, wanted: StreamWanted) -> str:
        raise EngineRefused(f"{wanted.kind} needs a container engine: this one is in memory")

    async def exec_sync(self, container_id: str, command: Sequence[str], *, timeout_s: float) -> tuple[int, bytes]:
        found = self._engine.find(container_id)
        self._engine.called("exec", found[1].spec.name if found else container_id)
        if found is None or found[1].seen.state is not ContainerState.RUNNING:
            raise EngineError(f"container {container_id} does not run", reason="ExecError")
        if self._engine.answer_exec is not None:
            return self._engine.answer_exec(found[1].spec.name, command)
        if tuple(command[:1]) == ("/nonexistent/program",):
            raise EngineError("/nonexistent/program: no such file or directory", reason="ExecError")
        program = _Program(replace(found[1].spec, command=tuple(command), args=()), self._engine.clock)
        exit_code = program.run()
        if exit_code is None:
            raise ExecTimeout(f"command {command[0]!r} timed out after {timeout_s:g}s")
        return exit_code, b"".join(text.encode() + b"\n" for _, text in program.said)[:_EXEC_OUTPUT_BYTES]

    async def stats(self) -> dict[str, ContainerUsage]:
        """As the test has set ``engine.memory`` by pod name; 1 MiB otherwise."""
        return {
            container.seen.id: ContainerUsage(container.seen.id, 0, self._engine.memory.get(sandbox.spec.name, 1 << 20))
            for sandbox in self._engine.sandboxes.values()
            for container in sandbox.containers.values()
            if container.seen.state is ContainerState.RUNNING
        }

    async def aclose(self) -> None:
        """Nothing is held; containers keep running in the engine."""


class FakeImages:
    """``ImageStore`` of a ``FakeEngine``: names that begin with ``missing`` cannot be pulled."""

    are_labels = False

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    async def list(self) -> Sequence[StoredImage]:
        return [StoredImage(f"sha256:{name}", (name,), (), 1000) for name in sorted(self._engine.images or ())]

    async def in_use(self) -> frozenset[str]:
        containers = [c.seen for s in self._engine.sandboxes.values() for c in s.containers.values()]
        return frozenset(name for container in containers for name in (container.image, container.image_ref))

    async def filesystem(self) -> Path | None:
        return None

    async def remove(self, image_id: str) -> None:
        self._engine.called("remove_image", image_id)
        if self._engine.images is not None:
            self._engine.images.discard(image_id.removeprefix("sha256:"))

    async def is_present(self, image: str) -> bool:
        return self._engine.images is None or image in self._engine.images

    async def pull(self, image: str, *, secrets: Sequence[dict[str, object]] = ()) -> str:
        self._engine.called("pull", image)
        if image.startswith("missing"):
            raise EngineError(f"image {image}: not found", reason="ErrImagePull")
        if self._engine.images is not None:
            self._engine.images.add(image)
        return f"sha256:{image}"

    async def resolve(self, image: str) -> str:
        if not await self.is_present(image):
            raise EngineError(f"image {image} is not present", reason="ErrImageNeverPull")
        return f"sha256:{image}"


def _observed(sandboxes: list[_Sandbox]) -> ObservedPod:
    newest = sorted(sandboxes, key=lambda s: s.seen.attempt, reverse=True)
    containers = [container.seen for sandbox in newest for container in sandbox.containers.values()]
    spec = newest[0].spec
    return ObservedPod(
        uid=spec.uid,
        namespace=spec.namespace,
        name=spec.name,
        sandboxes=[sandbox.seen for sandbox in newest],
        containers=sorted(containers, key=lambda c: c.attempt, reverse=True),
    )


class _Program:
    """Runs the few words that are understood, up to the first sleep."""

    def __init__(self, spec: ContainerSpec, clock: Clock, log_path: Path | None = None) -> None:
        self._spec = spec
        self._clock = clock
        self._log_path = log_path
        self.on_term: int | None = 143
        self.said: list[tuple[str, str]] = []
        words = list(spec.command)
        is_shell = words[:2] == ["/bin/sh", "-c"] and len(words) > 2
        self._script = words[2] if is_shell else "sleep 1000000"
        self._values = dict(spec.env)
        self._values |= {str(n): word for n, word in enumerate([*words[3:], *spec.args])}
        self._values["?"] = "0"

    def run(self) -> int | None:
        """Exit code, or None while the program sleeps."""
        for command in re.split(r"\s*;\s*", self._script):
            if command.startswith("exit"):
                return int(command.split()[1])
            if command.startswith("sleep"):
                return None
            self._one(command)
        return 0

    def _one(self, command: str) -> None:
        word, _, rest = command.partition(" ")
        stream = "stderr" if rest.endswith(">&2") else "stdout"
        rest = rest.removesuffix(">&2").strip()
        match word:
            case "echo":
                self._say(stream, re.sub(r"\$(\w+|\?)", lambda m: self._values.get(m[1], ""), rest))
            case "pwd":
                self._say(stream, self._spec.working_dir or "/")
            case "cat":
                self._say(stream, self._read(rest))
            case "trap":
                found = re.match(r"'(?:exit (\d+))?' TERM", rest)
                self.on_term = int(found[1]) if found and found[1] else None

    def _read(self, path: str) -> str:
        for mount in self._spec.mounts:
            if path == mount.container_path or path.startswith(mount.container_path + "/"):
                return Path(f"{mount.host_path}{path[len(mount.container_path) :]}").read_text().rstrip("\n")
        return ""

    def _say(self, stream: str, text: str) -> None:
        self.said.append((stream, text))
        if self._log_path is not None:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            with self._log_path.open("ab") as file:
                file.write(crilog.encode(int(self._clock.now_s() * 1e9), stream, text.encode()))
