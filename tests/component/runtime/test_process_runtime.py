"""Process runtime with real processes: death of the agent, of a shim, views, limits, rotation."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.base.values import replace
from skerry.runtime.cgroups import CONTROLLERS, Cgroups, GroupLimits, group_name
from skerry.runtime.logs import read_log
from skerry.runtime.ports import ContainerState, EngineError, EngineRefused, Mount
from skerry.runtime.process.engine import ProcessRuntime
from skerry.runtime.process.settings import ProcessSettings
from skerry.runtime.process.shim import start_time
from skerry.testing.contracts.pod_runtime import Rig, container_in, log_lines, started

_FORKS = "n=0; while [ $n -lt 100 ]; do sleep 600 & n=$((n+1)); echo $n; done"
_AGENT = """
import asyncio, sys
from pathlib import Path
from skerry.runtime.process.engine import ProcessRuntime
from skerry.testing.contracts.pod_runtime import Rig, started
async def main():
    rig = Rig(lambda: ProcessRuntime(Path(sys.argv[1]) / "runtime"), Path(sys.argv[1]), "label", "label")
    _, one = await started(rig.adapter(), rig.sandbox(), rig.container("sleep 300"))
    _, two = await started(rig.adapter(), rig.sandbox(), rig.container(
        "echo before; sleep 1; echo after; exit 9"))
    print(one, two, flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    settings = ProcessSettings(log_limit_bytes=20_000, log_keep_count=3)
    rig = Rig(lambda: ProcessRuntime(tmp_path / "runtime", settings=settings), tmp_path, "label", "label")
    yield rig
    await rig.close()


def pid_of(tmp_path: Path, container_id: str, key: str = "pid") -> int:
    state = tmp_path / "runtime" / container_id.partition(".")[0] / container_id / "state.json"
    return int(json.loads(state.read_bytes())[key])


async def test_containers_outlive_a_killed_agent(rig: Rig, tmp_path: Path) -> None:
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _AGENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert agent.stdout is not None
    line = await agent.stdout.readline()
    agent.kill()
    await agent.communicate()
    sleeping, ending = line.decode().split()
    pid = pid_of(tmp_path, sleeping)
    began = start_time(pid)
    assert began
    # The second program ends while no agent is there: its code and its output must not be lost.
    shim = pid_of(tmp_path, ending, "shim_pid")
    while start_time(shim):
        await asyncio.sleep(0.02)
    runtime = rig.adapter()
    ended = await container_in(runtime, ending, ContainerState.EXITED)
    assert ended.exit_code == 9 and ended.log_path is not None
    assert [text for _, text in await log_lines(ended.log_path, 2)] == [b"before", b"after"]
    adopted = await container_in(runtime, sleeping, ContainerState.RUNNING)
    assert adopted.id == sleeping
    assert start_time(pid) == began


async def test_a_killed_shim_takes_its_program_with_it(rig: Rig, tmp_path: Path) -> None:
    runtime = rig.adapter()
    spec = rig.sandbox()
    _, container_id = await started(runtime, spec, rig.container("sleep 300 & echo $!; wait"))
    [(_, child)] = await log_lines(spec.log_directory / "app" / "0.log", 1)
    pid = pid_of(tmp_path, container_id)
    os.kill(pid_of(tmp_path, container_id, "shim_pid"), signal.SIGKILL)
    ended = await container_in(runtime, container_id, ContainerState.EXITED)
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
    while start_time(pid) or start_time(int(child)):
        await asyncio.sleep(0.02)


async def test_what_a_program_leaves_behind_is_ended(rig: Rig, tmp_path: Path) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    _, container_id = await started(runtime, spec, rig.container("setsid sleep 300 & echo $!; exit 0"))
    await container_in(runtime, container_id, ContainerState.EXITED)
    [(_, left)] = await log_lines(spec.log_directory / "app" / "0.log", 1)
    assert start_time(int(left)) == 0


async def test_pods_have_their_own_users_and_no_new_privileges(rig: Rig) -> None:
    is_root = os.geteuid() == 0
    runtime = rig.adapter()
    users = []
    for _ in range(2):
        spec = rig.sandbox()
        await started(runtime, spec, rig.container("id -u; grep -E 'NoNewPrivs|CapEff' /proc/self/status"))
        lines = await log_lines(spec.log_directory / "app" / "0.log", 3)
        users.append(lines[0][1])
        assert int(lines[1][1].split()[1], 16) == 0
        assert lines[2][1].split() == [b"NoNewPrivs:", b"1"]
    assert len(set(users)) == (2 if is_root else 1) and b"0" not in users


_STATUS = "grep -E '^(NoNewPrivs|Seccomp|CapBnd|CapAmb):' /proc/self/status"
_CONFINED = {"NoNewPrivs": 1, "Seccomp": 2, "CapBnd": 0, "CapAmb": 0}


def status_of(text: str) -> dict[str, int]:
    return {name: int(value, 16) for name, value in (line.split(":") for line in text.splitlines())}


@pytest.mark.skipif(os.geteuid() != 0, reason="another user has no capabilities to give up")
async def test_a_program_and_its_probes_make_no_namespaces_and_have_no_rights_to_gain(rig: Rig) -> None:
    runtime = rig.adapter()
    spec = rig.sandbox()
    script = f"{_STATUS}; unshare -U true; echo $?; unshare -n true; echo $?; (echo forked | cat); sleep 300"
    _, container_id = await started(runtime, spec, rig.container(script))
    lines = [text.decode() for _, text in await log_lines(spec.log_directory / "app" / "0.log", 9)]
    assert status_of("\n".join(lines[:4])) == _CONFINED
    told = [line for line in lines[4:] if "unshare" not in line]
    assert told == ["1", "1", "forked"] and sum("Operation not permitted" in line for line in lines) == 2
    code, output = await runtime.exec_sync(container_id, ["/bin/sh", "-c", _STATUS], timeout_s=30)
    assert code == 0 and status_of(output.decode()) == _CONFINED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileged pods")
async def test_a_privileged_program_is_not_confined(tmp_path: Path) -> None:
    settings = ProcessSettings(allow_privileged=True)
    rig = Rig(lambda: ProcessRuntime(tmp_path / "runtime", settings=settings), tmp_path, "label", "label")
    spec = rig.sandbox()
    wanted = rig.container(_STATUS)
    wanted = replace(wanted, container=wanted.container | {"securityContext": {"privileged": True}})
    await started(rig.adapter(), spec, wanted)
    lines = [text.decode() for _, text in await log_lines(spec.log_directory / "app" / "0.log", 4)]
    found = status_of("\n".join(lines))
    assert found["NoNewPrivs"] == 0 and found["CapBnd"] != 0
    await rig.close()


def user_of(tmp_path: Path, sandbox_id: str) -> int:
    return int(json.loads((tmp_path / "runtime" / sandbox_id / "sandbox.json").read_bytes())["user_id"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives pods users of their own")
async def test_a_user_id_is_not_given_again_at_once(tmp_path: Path) -> None:
    settings = ProcessSettings(uid_base=2_900_000, uid_count=3)
    rig = Rig(lambda: ProcessRuntime(tmp_path / "runtime", settings=settings), tmp_path, "label", "label")
    users = []
    for _ in range(4):
        runtime = rig.adapter()  # the turn is kept over restarts
        sandbox_id = await runtime.create_sandbox(rig.sandbox())
        users.append(user_of(tmp_path, sandbox_id))
        await runtime.remove_sandbox(sandbox_id)
    assert len(set(users[:3])) == 3 and users[3] == users[0]
    await rig.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives pods users of their own")
async def test_a_user_id_with_a_live_process_is_not_given(tmp_path: Path) -> None:
    settings = ProcessSettings(uid_base=2_910_000, uid_count=3)
    rig = Rig(lambda: ProcessRuntime(tmp_path / "runtime", settings=settings), tmp_path, "label", "label")
    others = [await asyncio.create_subprocess_exec("sleep", "300", user=2_910_000 + n) for n in (0, 2)]
    try:
        assert user_of(tmp_path, await rig.adapter().create_sandbox(rig.sandbox())) == 2_910_001
        with pytest.raises(EngineError, match="all 3 user ids"):
            await rig.adapter().create_sandbox(rig.sandbox())
    finally:
        for other in others:
            other.kill()
            await other.wait()
    await rig.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="a user gets no other user id")
@pytest.mark.parametrize(
    ("asked", "is_privileged", "outcome"),
    [
        ({"runAsUser": 0}, False, "runAsUser 0 of container 'app' is not allowed"),
        ({"runAsUser": 1234}, False, "runAsUser 1234 of container 'app' is not allowed"),
        ({"runAsUser": 2_920_007}, True, "belong to pods"),
        ({"runAsUser": 1234, "runAsGroup": 2_920_007}, True, "belong to pods"),
        ({"runAsUser": 1234}, True, b"1234"),
    ],
)
async def test_a_user_id_asked_for_is_had_or_refused(
    tmp_path: Path, asked: dict[str, int], is_privileged: bool, outcome: str | bytes
) -> None:
    settings = ProcessSettings(allow_privileged=is_privileged, uid_base=2_920_000, uid_count=8)
    rig = Rig(lambda: ProcessRuntime(tmp_path / "runtime", settings=settings), tmp_path, "label", "label")
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "last-user-id.json").write_text('{"number": 2920000}')
    runtime, spec = rig.adapter(), rig.sandbox()
    container = replace(rig.container("id -u"), container={"name": "app", "securityContext": asked})
    if isinstance(outcome, str):
        with pytest.raises(EngineRefused, match=outcome):
            await started(runtime, spec, container)
    else:
        await started(runtime, spec, container)
        assert await log_lines(spec.log_directory / "app" / "0.log", 1) == [("stdout", outcome)]
    await rig.close()


async def test_read_only_mounts_and_nested_mounts(rig: Rig, tmp_path: Path) -> None:
    if not (await rig.adapter().info()).message.endswith("mount namespaces"):
        pytest.skip("needs mount namespaces")
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    for directory in (outer, inner):
        directory.mkdir()
        directory.chmod(0o777)
    (inner / "word").write_text("inner\n")
    runtime, spec = rig.adapter(), rig.sandbox()
    script = "cat /data/in/word; echo x >/data/in/no || echo refused; echo y >/data/yes && echo written"
    container = replace(rig.container(script), mounts=(Mount(outer, "/data"), Mount(inner, "/data/in", read_only=True)))
    await started(runtime, spec, container)
    lines = [text for stream, text in await log_lines(spec.log_directory / "app" / "0.log", 4) if stream == "stdout"]
    assert lines == [b"inner", b"refused", b"written"]
    assert (outer / "yes").read_text() == "y\n" and not (inner / "no").exists()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


async def test_memory_limit_is_kept(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    container = replace(
        rig.container("ulimit -d"), container={"name": "app", "resources": {"limits": {"memory": "64Mi"}}}
    )
    await started(runtime, spec, container)
    assert await log_lines(spec.log_directory / "app" / "0.log", 1) == [("stdout", b"65536")]


async def test_a_program_is_killed_before_the_agent_when_memory_is_short(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    own.write_text("200")  # as a service has its own; only a privileged one could have less
    try:
        _, container_id = await started(runtime, spec, rig.container("cat /proc/self/oom_score_adj; sleep 300"))
        assert await log_lines(spec.log_directory / "app" / "0.log", 1) == [("stdout", b"1000")]
        assert await runtime.exec_sync(container_id, ["cat", "/proc/self/oom_score_adj"], timeout_s=30) == (
            0,
            b"1000\n",
        )
    finally:
        own.write_text(before)


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[tuple[Rig, Cgroups]]:
    """A runtime whose agent may make control groups, and lets each pod have 12 processes."""
    groups = Cgroups(group_name(str(uuid.uuid4())), clock=SystemClock())
    if not groups.is_writable() or groups.controllers() != frozenset(CONTROLLERS):
        pytest.skip("control groups cannot be made here: run as root")
    settings = ProcessSettings(process_count=12)
    rig = Rig(
        lambda: ProcessRuntime(tmp_path / "runtime", settings=settings, groups=groups), tmp_path, "label", "label"
    )
    yield rig, groups
    await rig.close()


async def _limited(rig: Rig, script: str, limits: dict[str, str]) -> tuple[ProcessRuntime, str, Path]:
    runtime = rig.adapter()
    assert isinstance(runtime, ProcessRuntime)
    container = {"name": "app", "resources": {"limits": limits}}
    spec = rig.sandbox()
    spec = replace(spec, pod={**spec.pod, "spec": {"containers": [container]}})
    _, container_id = await started(runtime, spec, replace(rig.container(script), container=container))
    return runtime, container_id, spec.log_directory / "app" / "0.log"


async def test_a_program_beyond_its_memory_is_killed_for_it(limited: tuple[Rig, Cgroups]) -> None:
    # It keeps a line until the line ends.
    runtime, container_id, _ = await _limited(limited[0], "exec tail /dev/zero", {"memory": "50Mi"})
    ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=60)
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


async def test_a_container_is_not_left_half_alive_in_version_2(limited: tuple[Rig, Cgroups]) -> None:
    rig, groups = limited
    runtime, container_id, _ = await _limited(rig, "tail /dev/zero; exit 7", {"memory": "50Mi"})
    ended = await container_in(runtime, container_id, ContainerState.EXITED, wait_s=60)
    whole, rest = (137, "OOMKilled"), (7, "Error")  # version 1 kills one process, and the rest sees to it
    assert (ended.exit_code, ended.reason) == (whole if groups.is_unified else rest)


async def test_a_pod_cannot_have_more_processes_than_the_node_lets_it(limited: tuple[Rig, Cgroups]) -> None:
    runtime, container_id, log = await _limited(limited[0], _FORKS, {})
    await container_in(runtime, container_id, ContainerState.EXITED, wait_s=60)
    said = await log_lines(log, 12)
    assert [text for stream, text in said if stream == "stdout"][-1] == b"11"
    assert any(b"fork" in text for stream, text in said if stream == "stderr"), said


async def test_a_program_gets_no_more_of_the_processor_than_its_limit(limited: tuple[Rig, Cgroups]) -> None:
    rig, groups = limited
    runtime, container_id, _ = await _limited(rig, "while :; do :; done", {"cpu": "100m"})
    [uid] = groups.groups()
    [place] = [path for path in groups.make(f"{uid}/{container_id}", GroupLimits()) if (path / "cpu.stat").exists()]

    async def throttled() -> int:
        return int(dict(line.split() for line in (place / "cpu.stat").read_text().splitlines())["nr_throttled"])

    async with asyncio.timeout(60):
        while await throttled() < 3:
            await asyncio.sleep(0.05)
    exit_code, entered = await runtime.exec_sync(container_id, ["cat", "/proc/self/cgroup"], timeout_s=30)
    assert exit_code == 0 and f"/{groups.top}/{uid}/{container_id}\n".encode() in entered
    await runtime.stop_container(container_id, grace_s=0)
    await runtime.remove_container(container_id)
    assert groups.members(uid) == {}


@pytest.mark.parametrize(
    "spec", [{"hostNetwork": True}, {"hostPID": True}, {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}]
)
async def test_the_hosts_things_are_refused(rig: Rig, spec: dict[str, object]) -> None:
    sandbox = replace(rig.sandbox(), pod={"spec": spec})
    with pytest.raises(EngineRefused) as caught:
        await rig.adapter().create_sandbox(sandbox)
    assert "not allowed on this node" in str(caught.value) and caught.value.hint


async def test_a_container_needs_a_command(rig: Rig) -> None:
    with pytest.raises(EngineRefused) as caught:
        await started(rig.adapter(), rig.sandbox(), replace(rig.container(""), command=()))
    assert caught.value.reason == "CreateContainerError"


async def test_torn_directories_are_removed_at_the_start(rig: Rig, tmp_path: Path) -> None:
    torn = tmp_path / "runtime" / "deadbeef"
    torn.mkdir(parents=True)
    (torn / "x").touch()
    rig.adapter()
    assert not torn.exists()


async def test_followed_log_goes_on_over_rotation(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    script = "i=0; while [ $i -lt 1000 ]; do echo line-$i; i=$((i+1)); [ $((i%200)) = 0 ] && sleep 0.3; done; exit 0"
    await started(runtime, spec, rig.container(script))

    async def is_running() -> bool:
        pods = await runtime.observe()
        return any(c.state is ContainerState.RUNNING for c in pods[spec.uid].containers)

    path = spec.log_directory / "app" / "0.log"
    stream = read_log(
        path, follow=True, is_running=is_running, tail_lines=None, since_s=None, timestamps=False, limit_bytes=None
    )
    text = b"".join([piece async for piece in stream])
    assert text.split() == [f"line-{n}".encode() for n in range(1000)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["0.log", "0.log.1", "0.log.2"]
