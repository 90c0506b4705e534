"""What every ``PodRuntime`` does, for ``runtime.process``, ``runtime.cri`` and the fake.

A test module subclasses ``PodRuntimeContract`` and provides the fixture ``rig``. Programs are lines of ``sh``; the
fake understands just the words used here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from skerry.base.aio.supervise import together
from skerry.base.values import Struct, field, replace
from skerry.runtime.ports import (
    ContainerIO,
    ContainerSpec,
    ContainerState,
    EngineError,
    ExecTimeout,
    Mount,
    ObservedContainer,
    ObservedPod,
    PodRuntime,
    SandboxSpec,
)
from skerry.testing.site import until
from skerry.wire.kubelet import crilog

RESOLVER = "resolver"
"""Names are looked up by the sandbox's servers; the host name is the sandbox's."""

MOUNTS = "mounts"
"""Mounts appear at ``container_path`` (else: as the adapter's documents say)."""

LOGS = "logs"
"""A log file outlives its container (Docker keeps it among the container's own things)."""

ABILITIES = frozenset({MOUNTS, RESOLVER, LOGS})


class Adapter(PodRuntime, ContainerIO, Protocol):
    """What an adapter gives."""


class Rig(Struct):
    """One engine under test.

    Args:
        open: makes an adapter on the engine; called again for "the agent was restarted".
        directory: for logs and volumes; the engine can read and write below it.
        image: has ``/bin/sh``, ``sleep``, ``cat``, ``pwd``; ``image_ref`` is what the engine's store gave for it.
        abilities: of ``MOUNTS``, ``RESOLVER`` and ``LOGS``.
        wait_s: how long anything may take.
    """

    open: Callable[[], Adapter]
    directory: Path
    image: str
    image_ref: str
    abilities: frozenset[str] = ABILITIES
    wait_s: float = 10.0
    adapters: list[Adapter] = field(default_factory=list)

    def adapter(self) -> Adapter:
        """A new adapter, closed at the end of the test."""
        adapter = self.open()
        self.adapters.append(adapter)
        return adapter

    def sandbox(self, *, name: str = "", attempt: int = 0) -> SandboxSpec:
        """A sandbox of a fresh pod."""
        uid = str(uuid.uuid4())
        name = name or f"pod-{uid[:8]}"
        pod: dict[str, object] = {"metadata": {"name": name, "namespace": "default", "uid": uid}, "spec": {}}
        logs = self.directory / "logs" / f"default_{name}_{uid}"
        logs.mkdir(parents=True)
        return SandboxSpec(
            namespace="default",
            name=name,
            uid=uid,
            attempt=attempt,
            hostname=name,
            log_directory=logs,
            pod=pod,
            labels={"app": "contract"},
            annotations={"skerry.dev/note": "kept"},
        )

    def container(self, script: str, *, name: str = "app", attempt: int = 0) -> ContainerSpec:
        """A container that runs ``script`` with sh."""
        return ContainerSpec(
            name=name,
            attempt=attempt,
            image=self.image,
            image_ref=self.image_ref,
            command=("/bin/sh", "-c", script, "sh"),
            args=(),
            env=(),
            mounts=(),
            log_path=f"{name}/{attempt}.log",
            container={"name": name, "image": self.image},
            annotations={"skerry.dev/why": "contract"},
            spec_hash="abc123",
        )

    async def close(self) -> None:
        """End every pod of the engine and let go of it."""
        await end_pods(self.adapter())
        for adapter in self.adapters:
            await adapter.aclose()


async def end_pods(runtime: PodRuntime, *, within_s: float = 60.0) -> None:
    """End every pod of a runtime; what the engine cannot do at once (a shim that ends just now) is asked again."""

    async def look() -> str:
        left = [sandbox.id for pod in (await runtime.observe()).values() for sandbox in pod.sandboxes]
        for sandbox_id in left:
            try:
                await runtime.stop_sandbox(sandbox_id)
                await runtime.remove_sandbox(sandbox_id)
            except EngineError as exc:
                return str(exc)
        return f"sandboxes are still there: {left}" if left else ""

    await until(look, within_s=within_s)
    for uid in runtime.leftovers():
        await runtime.clear_pod(uid)


async def started(runtime: PodRuntime, spec: SandboxSpec, container: ContainerSpec) -> tuple[str, str]:
    """Sandbox, container, start; both ids."""
    (spec.log_directory / container.name).mkdir(exist_ok=True)
    sandbox_id = await runtime.create_sandbox(spec)
    container_id = await runtime.create_container(sandbox_id, container, spec)
    await runtime.start_container(container_id)
    return sandbox_id, container_id


def _find(pods: dict[str, ObservedPod], container_id: str) -> ObservedContainer | None:
    every = (container for pod in pods.values() for container in pod.containers)
    return next((container for container in every if container.id == container_id), None)


async def container_in(
    runtime: PodRuntime, container_id: str, state: ContainerState, *, wait_s: float = 10.0
) -> ObservedContainer:
    """The container once it is in ``state``."""
    seen: ObservedContainer | None = None
    try:
        async with asyncio.timeout(wait_s):
            while True:
                seen = _find(await runtime.observe(), container_id)
                if seen is not None and seen.state is state:
                    return seen
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"container did not become {state}; last seen: {seen}")


async def log_lines(path: Path, count: int, *, wait_s: float = 10.0) -> list[tuple[str, bytes]]:
    """``(stream, content)`` of a log file once it has ``count`` whole entries."""
    entries: list[tuple[str, bytes]] = []
    try:
        async with asyncio.timeout(wait_s):
            while len(entries) < count:
                await asyncio.sleep(0.02)
                data = path.read_bytes() if path.exists() else b""
                decoded = [crilog.decode(line) for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
                entries = [(entry.stream, entry.content) for entry in decoded]
    except TimeoutError:
        pytest.fail(f"log has {entries}, expected {count} entries")
    return entries


class PodRuntimeContract:
    """The suite. Fixture ``rig``: a ``Rig`` whose ``close`` runs at the end."""

    async def test_sandbox_is_observed_and_removed(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        assert (await runtime.info()).is_ready
        sandbox_id = await runtime.create_sandbox(spec)
        pod = (await runtime.observe())[spec.uid]
        assert (pod.uid, pod.namespace, pod.name) == (spec.uid, "default", spec.name)
        [sandbox] = pod.sandboxes
        assert (sandbox.id, sandbox.attempt, sandbox.is_ready) == (sandbox_id, 0, True)
        assert sandbox.annotations["skerry.dev/note"] == "kept"
        assert sandbox.created_at_s > 1e9
        await runtime.stop_sandbox(sandbox_id)
        stopped = (await runtime.observe())[spec.uid]
        assert [s.is_ready for s in stopped.sandboxes] == [False]
        await runtime.remove_sandbox(sandbox_id)
        assert spec.uid not in await runtime.observe()

    async def test_container_goes_from_created_to_running_to_exited(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        container = rig.container("sleep 300")
        (spec.log_directory / container.name).mkdir()
        sandbox_id = await runtime.create_sandbox(spec)
        container_id = await runtime.create_container(sandbox_id, container, spec)
        created = _find(await runtime.observe(), container_id)
        assert created is not None and created.state is ContainerState.CREATED
        await runtime.start_container(container_id)
        running = await container_in(runtime, container_id, ContainerState.RUNNING, wait_s=rig.wait_s)
        assert (running.name, running.attempt, running.sandbox_id) == ("app", 0, sandbox_id)
        assert running.image == rig.image
        assert running.spec_hash == "abc123" and running.annotations["skerry.dev/why"] == "contract"
        assert running.started_at_s > 1e9 and running.finished_at_s == 0
        await runtime.stop_container(container_id, grace_s=0)
        ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        assert ended.finished_at_s >= ended.started_at_s > 1e9
        assert ended.exit_code == 137

    async def test_exit_code_is_kept(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("exit 7"))
        ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        assert ended.exit_code == 7

    async def test_success_is_exit_code_zero(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("exit 0"))
        ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        assert ended.exit_code == 0

    async def test_command_that_does_not_exist_fails_at_start(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        container = replace(rig.container(""), command=("/nonexistent/program",))
        with pytest.raises(EngineError):
            await started(runtime, spec, container)

    async def test_streams_are_logged_in_cri_format(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("echo out; echo err >&2; exit 0"))
        ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        assert ended.log_path == spec.log_directory / "app" / "0.log"
        entries = await log_lines(ended.log_path, 2, wait_s=rig.wait_s)
        assert sorted(entries) == [("stderr", b"err"), ("stdout", b"out")]

    async def test_environment_arguments_and_working_directory(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        container = replace(
            rig.container("echo $GREETING; echo $1; pwd"),
            args=("one",),
            env=(("GREETING", "early"), ("GREETING", "hello")),
            working_dir="/tmp",
        )
        await started(runtime, spec, container)
        entries = await log_lines(spec.log_directory / "app" / "0.log", 3, wait_s=rig.wait_s)
        assert [content for _, content in entries] == [b"hello", b"one", b"/tmp"]

    async def test_volumes_are_seen_at_their_paths(self, rig: Rig) -> None:
        if MOUNTS not in rig.abilities:
            return
        runtime, spec = rig.adapter(), rig.sandbox()
        volume = rig.directory / "volume"
        volume.mkdir()
        (volume / "word").write_text("from-volume\n")
        (rig.directory / "file").write_text("from-file\n")
        container = replace(
            rig.container("cat /contract/deep/volume/word; cat /etc/contract-file; echo $?"),
            mounts=(
                Mount(volume, "/contract/deep/volume"),
                Mount(rig.directory / "file", "/etc/contract-file", read_only=True),
            ),
        )
        await started(runtime, spec, container)
        entries = await log_lines(spec.log_directory / "app" / "0.log", 3, wait_s=rig.wait_s)
        assert [content for _, content in entries] == [b"from-volume", b"from-file", b"0"]
        assert not Path("/contract").exists() and not Path("/etc/contract-file").exists()

    async def test_stop_lets_a_program_end_itself(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(
            runtime, spec, rig.container("trap 'exit 3' TERM; echo ready; sleep 300 & wait")
        )
        await log_lines(spec.log_directory / "app" / "0.log", 1, wait_s=rig.wait_s)
        await runtime.stop_container(container_id, grace_s=10)
        ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        assert ended.exit_code == 3

    async def test_stop_kills_after_the_grace(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("trap '' TERM; echo ready; sleep 300"))
        await log_lines(spec.log_directory / "app" / "0.log", 1, wait_s=rig.wait_s)
        await runtime.stop_container(container_id, grace_s=1)
        ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        assert ended.exit_code == 137

    async def test_containers_outlive_the_adapter(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        sandbox_id, container_id = await started(runtime, spec, rig.container("sleep 300"))
        before = await container_in(runtime, container_id, ContainerState.RUNNING, wait_s=rig.wait_s)
        await runtime.aclose()
        again = rig.adapter()
        pod = (await again.observe())[spec.uid]
        assert [s.id for s in pod.sandboxes] == [sandbox_id]
        [after] = pod.containers
        assert (after.id, after.state) == (container_id, ContainerState.RUNNING)
        assert after.started_at_s == before.started_at_s
        await again.stop_container(container_id, grace_s=0)
        await container_in(again, container_id, ContainerState.EXITED, wait_s=rig.wait_s)

    async def test_stop_and_remove_are_idempotent(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        sandbox_id, container_id = await started(runtime, spec, rig.container("exit 1"))
        await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        for _ in range(2):
            await runtime.stop_container(container_id, grace_s=1)
        for _ in range(2):
            await runtime.remove_container(container_id)
        assert (await runtime.observe())[spec.uid].containers in ([], ())
        for _ in range(2):
            await runtime.stop_sandbox(sandbox_id)
        for _ in range(2):
            await runtime.remove_sandbox(sandbox_id)
        await runtime.stop_container(container_id, grace_s=0)

    async def test_log_file_outlives_its_container(self, rig: Rig) -> None:
        if LOGS not in rig.abilities:
            return
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("echo last words; exit 1"))
        await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        await runtime.remove_container(container_id)
        entries = await log_lines(spec.log_directory / "app" / "0.log", 1, wait_s=rig.wait_s)
        assert entries == [("stdout", b"last words")]

    async def test_restarts_are_further_attempts_newest_first(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        sandbox_id, first = await started(runtime, spec, rig.container("exit 1"))
        await container_in(runtime, first, ContainerState.EXITED, wait_s=rig.wait_s)
        second = await runtime.create_container(sandbox_id, rig.container("sleep 300", attempt=1), spec)
        await runtime.start_container(second)
        await container_in(runtime, second, ContainerState.RUNNING, wait_s=rig.wait_s)
        seen = (await runtime.observe())[spec.uid].containers
        assert [(c.id, c.attempt) for c in seen] == [(second, 1), (first, 0)]

    async def test_stopping_a_sandbox_ends_all_its_containers(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        sandbox_id, first = await started(runtime, spec, rig.container("sleep 300", name="one"))
        (spec.log_directory / "two").mkdir()
        second = await runtime.create_container(sandbox_id, rig.container("sleep 300", name="two"), spec)
        await runtime.start_container(second)
        await runtime.stop_sandbox(sandbox_id)
        for container_id in (first, second):
            await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        await runtime.remove_sandbox(sandbox_id)
        assert spec.uid not in await runtime.observe()

    async def test_nothing_is_left_of_a_pod_that_was_cleared(self, rig: Rig) -> None:
        runtime, spec, other = rig.adapter(), rig.sandbox(), rig.sandbox()
        sandbox_id, _ = await started(runtime, spec, rig.container("sleep 300"))
        _, kept = await started(runtime, other, rig.container("sleep 300"))
        await runtime.stop_sandbox(sandbox_id)
        await runtime.remove_sandbox(sandbox_id)
        for _ in range(2):
            await runtime.clear_pod(spec.uid)
        assert spec.uid not in runtime.leftovers() and spec.uid not in await runtime.observe()
        await container_in(runtime, kept, ContainerState.RUNNING, wait_s=rig.wait_s)

    async def test_changes_tell_of_an_exit(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("sleep 300"))
        await container_in(runtime, container_id, ContainerState.RUNNING, wait_s=rig.wait_s)
        changes = runtime.changes()

        async def told() -> None:
            async for uid in changes:
                if uid in ("", spec.uid):
                    return

        async def end() -> None:
            await runtime.stop_container(container_id, grace_s=0)

        try:
            async with asyncio.timeout(rig.wait_s):
                await together([told(), end()])
        finally:
            close = getattr(changes, "aclose", None)
            if close is not None:
                await close()
        ended = _find(await runtime.observe(), container_id)
        assert ended is not None and ended.state is ContainerState.EXITED

    async def test_many_pods_at_once(self, rig: Rig) -> None:
        runtime = rig.adapter()
        specs = [rig.sandbox() for _ in range(8)]
        ids = await asyncio.gather(
            *(started(runtime, spec, rig.container(f"exit {n}")) for n, spec in enumerate(specs))
        )
        for n, (_, container_id) in enumerate(ids):
            ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
            assert ended.exit_code == n
        assert len({sandbox_id for sandbox_id, _ in ids}) == len(specs)

    async def test_a_command_runs_inside_a_container(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        volume = rig.directory / "volume"
        volume.mkdir()
        (volume / "word").write_text("from-volume\n")
        container = replace(
            rig.container("sleep 300"), env=(("GREETING", "hello"),), mounts=(Mount(volume, "/contract/volume"),)
        )
        _, container_id = await started(runtime, spec, container)
        script = "echo $GREETING; exit 3"
        assert await runtime.exec_sync(container_id, ["/bin/sh", "-c", script], timeout_s=10) == (3, b"hello\n")
        if MOUNTS in rig.abilities:
            script = "cat /contract/volume/word"
            found = await runtime.exec_sync(container_id, ["/bin/sh", "-c", script], timeout_s=10)
            assert found == (0, b"from-volume\n")

    async def test_words_of_a_command_never_meet_a_shell(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("sleep 300"))
        word = "a; exit 9 $(echo b) `echo c`"
        exit_code, output = await runtime.exec_sync(
            container_id, ["/bin/sh", "-c", "echo $1; exit 0", "sh", word], timeout_s=10
        )
        assert (exit_code, output) == (0, word.encode() + b"\n")

    async def test_a_command_that_does_not_end_is_ended(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("sleep 300"))
        with pytest.raises(ExecTimeout):
            await runtime.exec_sync(container_id, ["/bin/sh", "-c", "sleep 300"], timeout_s=1)
        assert await runtime.exec_sync(container_id, ["/bin/sh", "-c", "exit 0"], timeout_s=10) == (0, b"")

    async def test_a_command_needs_a_program_and_a_running_container(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("sleep 300"))
        with pytest.raises(EngineError):
            await runtime.exec_sync(container_id, ["/nonexistent/program"], timeout_s=10)
        await runtime.stop_container(container_id, grace_s=0)
        await container_in(runtime, container_id, ContainerState.EXITED, wait_s=rig.wait_s)
        with pytest.raises(EngineError):
            await runtime.exec_sync(container_id, ["/bin/sh", "-c", "exit 0"], timeout_s=10)

    async def test_output_of_a_command_is_bounded(self, rig: Rig) -> None:
        runtime, spec = rig.adapter(), rig.sandbox()
        _, container_id = await started(runtime, spec, rig.container("sleep 300"))
        script = f"echo {'x' * 40_000}; exit 0"
        exit_code, output = await runtime.exec_sync(container_id, ["/bin/sh", "-c", script], timeout_s=10)
        assert exit_code == 0 and 0 < len(output) <= 16 * 1024

    async def test_names_are_looked_up_as_the_pod_wants(self, rig: Rig) -> None:
        if MOUNTS not in rig.abilities or RESOLVER not in rig.abilities:
            return
        runtime = rig.adapter()
        spec = replace(
            rig.sandbox(),
            dns_servers=("192.0.2.53",),
            dns_searches=("a.example", "b.example"),
            dns_options=("ndots:5",),
        )
        await started(runtime, spec, rig.container("cat /etc/resolv.conf; hostname"))
        entries = await log_lines(spec.log_directory / "app" / "0.log", 4, wait_s=rig.wait_s)
        said = [content.decode() for _, content in entries]
        assert sorted(said[:3]) == ["nameserver 192.0.2.53", "options ndots:5", "search a.example b.example"]
        assert said[3] == spec.hostname
