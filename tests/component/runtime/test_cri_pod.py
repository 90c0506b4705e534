"""The CRI adapter beyond the contract, on a real, private containerd."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.parts import BUSYBOX_IMAGE, PAUSE_IMAGE, Containerd, PartMissing, shared_containerd

from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.base.values import replace
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.cri.images import CriImages
from skerry.runtime.cri.logrotation import LogRotation
from skerry.runtime.cri.probe import probe
from skerry.runtime.logs import read_log
from skerry.runtime.network import write_default_conflist
from skerry.runtime.ports import ContainerState, EngineError, EngineRefused, EngineUnavailable, ObservedPod
from skerry.testing.contracts.pod_runtime import Rig, container_in, log_lines, started

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("containerd")]

CHILD = """
import asyncio, sys
from pathlib import Path
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.testing.contracts.pod_runtime import Rig, started

async def main(socket, node_uid, directory, image_ref):
    open_ = lambda: CriRuntime(CriClient(Path(socket)), node_uid=node_uid)
    rig = Rig(open=open_, directory=Path(directory), image="x", image_ref=image_ref)
    spec = rig.sandbox()
    ids = await started(rig.adapter(), spec, rig.container("sleep 300"))
    print(spec.uid, *ids, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def containerd(request: pytest.FixtureRequest) -> Containerd:
    return shared_containerd(request.config)


@pytest.fixture
async def rig(tmp_path: Path, containerd: Containerd) -> AsyncIterator[Rig]:
    node_uid = str(uuid.uuid4())
    client = CriClient(containerd.socket)
    image_ref = await CriImages(client).resolve(BUSYBOX_IMAGE)
    await client.aclose()
    rig = Rig(
        open=lambda: CriRuntime(CriClient(containerd.socket), node_uid=node_uid, machine_memory_bytes=1 << 33),
        directory=tmp_path,
        image=BUSYBOX_IMAGE,
        image_ref=image_ref,
        wait_s=20,
    )
    yield rig
    await rig.close()


def ids_of(pod: ObservedPod) -> tuple[str, str]:
    return pod.sandboxes[0].id, pod.containers[0].id


async def test_pods_are_adopted_after_the_agent_was_killed(containerd: Containerd, rig: Rig, tmp_path: Path) -> None:
    node_uid = str(uuid.uuid4())
    directory = tmp_path / "child"
    directory.mkdir()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(containerd.socket), node_uid, str(directory), rig.image_ref),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    uid, *ids = (await child.stdout.readline()).decode().split()
    child.send_signal(signal.SIGKILL)
    await child.wait()
    adapter = CriRuntime(CriClient(containerd.socket), node_uid=node_uid)
    pods = await adapter.observe()
    assert list(pods) == [uid]
    assert list(ids_of(pods[uid])) == ids
    assert pods[uid].containers[0].state is ContainerState.RUNNING
    await adapter.stop_sandbox(ids[0])
    await adapter.remove_sandbox(ids[0])
    await adapter.aclose()


async def test_pods_survive_a_restart_of_the_engine(tmp_path: Path) -> None:
    engine = await asyncio.to_thread(_own_engine)
    try:
        client = CriClient(engine.socket)
        runtime = CriRuntime(client, node_uid="n-1")
        image_ref = await CriImages(client).resolve(BUSYBOX_IMAGE)
        own = Rig(open=lambda: runtime, directory=tmp_path, image=BUSYBOX_IMAGE, image_ref=image_ref)
        spec = own.sandbox()
        ids = await started(runtime, spec, own.container("sleep 300"))
        before = (await runtime.observe())[spec.uid]
        await asyncio.to_thread(engine.kill)
        with pytest.raises(EngineUnavailable):
            await runtime.info()
        await asyncio.to_thread(engine.start)
        after = (await runtime.observe())[spec.uid]
        assert ids_of(after) == ids
        assert after.containers[0].started_at_s == before.containers[0].started_at_s
        await runtime.aclose()
    finally:
        await asyncio.to_thread(engine.close)


async def test_two_nodes_on_one_engine_do_not_see_each_other(containerd: Containerd, rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    await runtime.create_sandbox(spec)
    other = CriRuntime(CriClient(containerd.socket), node_uid="another")
    assert spec.uid in await runtime.observe()
    assert await other.observe() == {}
    await other.aclose()


async def test_sandbox_has_an_address_and_creating_it_again_adopts_it(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    sandbox_id = await runtime.create_sandbox(spec)
    [ip] = (await runtime.observe())[spec.uid].sandboxes[0].ips
    assert ip.startswith("10.231.")
    assert await runtime.create_sandbox(spec) == sandbox_id
    first = await runtime.create_container(sandbox_id, rig.container("sleep 1"), spec)
    assert await runtime.create_container(sandbox_id, rig.container("sleep 1"), spec) == first


async def test_exec_and_usage(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    _, container_id = await started(runtime, spec, rig.container("sleep 300"))
    await container_in(runtime, container_id, ContainerState.RUNNING)
    assert await runtime.exec_sync(container_id, ["sh", "-c", "echo out; exit 3"], timeout_s=10) == (3, b"out\n")
    usage = (await runtime.stats())[container_id]
    assert usage.cpu_ns > 0 and usage.memory_bytes > 0


async def test_user_memory_and_read_only_root_reach_the_container(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    part: dict[str, Any] = {
        "name": "app",
        "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
        "securityContext": {"runAsUser": 1234, "runAsGroup": 99, "readOnlyRootFilesystem": True},
    }
    spec = replace(spec, pod={"spec": {"containers": [part], "securityContext": {"fsGroup": 77}}})
    script = "id; touch /tmp/x || echo read-only; hostname"
    await started(runtime, spec, replace(rig.container(script), container=part))
    lines = [line for _, line in await log_lines(spec.log_directory / "app" / "0.log", 4, wait_s=20)]
    identity = next(line for line in lines if line.startswith(b"uid="))  # stdout and stderr are not in order
    assert identity.startswith(b"uid=1234 gid=99") and b"77" in identity
    assert b"read-only" in lines
    assert spec.hostname.encode() in lines


async def test_an_image_that_runs_as_root_is_refused_for_run_as_non_root(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    sandbox_id = await runtime.create_sandbox(spec)
    part = {"name": "app", "securityContext": {"runAsNonRoot": True}}
    with pytest.raises(EngineRefused, match="run as root"):
        await runtime.create_container(sandbox_id, replace(rig.container("true"), container=part), spec)


async def test_images(containerd: Containerd) -> None:
    client = CriClient(containerd.socket)
    images = CriImages(client)
    assert await images.is_present(BUSYBOX_IMAGE)
    assert not await images.is_present("skerry.test/absent:1")
    with pytest.raises(EngineError) as caught:
        await images.resolve("skerry.test/absent:1")
    assert caught.value.reason == "ErrImageNeverPull"
    with pytest.raises(EngineError) as caught:
        await images.pull("127.0.0.1:1/absent:1")
    assert caught.value.reason == "RegistryUnavailable" and "127.0.0.1:1" in caught.value.hint
    with pytest.raises(EngineError) as caught:
        await images.pull("Not A Name")
    assert caught.value.reason == "InvalidImageName"
    await client.aclose()


def _own_engine(**faults: Any) -> Containerd:
    try:
        engine = Containerd(**faults)
    except PartMissing as exc:
        pytest.skip(str(exc))
    try:
        engine.start()
    except BaseException:
        engine.close()
        raise
    return engine


@pytest.fixture
def bare() -> Iterator[Containerd]:
    """An engine without network, images and leave to lower oom_score_adj."""
    engine = _own_engine(has_network=False, has_images=False, restricts_oom=False)
    yield engine
    engine.close()


async def test_a_good_engine_has_no_findings(containerd: Containerd) -> None:
    assert await probe(containerd.socket) == []


async def test_faults_are_found_and_explained(bare: Containerd) -> None:
    found = {finding.code: finding.evidence for finding in await probe(bare.socket, may_lower=lambda: False)}
    client = CriClient(bare.socket)
    told = await client.call("Status", {"verbose": True})
    await client.aclose()
    names_pause = "sandboxImage" in told["info"]["config"]  # containerd 2 does not
    assert set(found) == {"SK-E006", "SK-E007", *(["SK-E008"] if names_pause else [])}
    assert "cni" in found["SK-E006"] and PAUSE_IMAGE in found.get("SK-E008", PAUSE_IMAGE)
    runtime = CriRuntime(CriClient(bare.socket), node_uid="n")
    info = await runtime.info()
    assert not info.is_ready and "conflist" in info.message
    await runtime.aclose()


async def test_the_default_conflist_ends_the_missing_network(bare: Containerd) -> None:
    write_default_conflist(
        pod_cidr="10.231.251.0/24", directory=bare.cni_directory, bridge=bare.bridge, has_masquerade=False
    )
    client = CriClient(bare.socket)
    runtime = CriRuntime(client, node_uid="n")
    async with asyncio.timeout(15):
        while not (await runtime.info()).is_ready:
            await asyncio.sleep(0.05)
    await runtime.aclose()


async def test_a_socket_that_is_not_there_or_nobody_serves(tmp_path: Path) -> None:
    [finding] = await probe(tmp_path / "none.sock")
    assert (finding.code, finding.evidence) == ("SK-E004", f"there is no socket {tmp_path / 'none.sock'}")


async def test_cri_switched_off_is_found(tmp_path: Path) -> None:
    engine = await asyncio.to_thread(_own_engine, has_images=False, has_cri=False)
    try:
        [finding] = await probe(engine.socket)
        assert finding.code == "SK-E005"
    finally:
        await asyncio.to_thread(engine.close)


async def test_memory_of_the_adapter_stays_small(containerd: Containerd) -> None:
    code = f"""
import asyncio, json
from pathlib import Path
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
async def main():
    runtime = CriRuntime(CriClient(Path({str(containerd.socket)!r})), node_uid="n")
    await runtime.info(); await runtime.observe(); await runtime.aclose()
    rss = next(l for l in open("/proc/self/status") if l.startswith("VmRSS"))
    print(json.dumps(int(rss.split()[1])))
asyncio.run(main())
"""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    assert json.loads(output) < 36_000


async def test_changes_return_after_the_engine_did(tmp_path: Path) -> None:
    engine = await asyncio.to_thread(_own_engine)
    try:
        client = CriClient(engine.socket)
        runtime = CriRuntime(client, node_uid="n-1", list_interval_s=0.1)
        image_ref = await CriImages(client).resolve(BUSYBOX_IMAGE)
        own = Rig(open=lambda: runtime, directory=tmp_path, image=BUSYBOX_IMAGE, image_ref=image_ref)
        told: list[str] = []
        first, second = own.sandbox(), own.sandbox()

        async def read() -> None:
            async for uid in runtime.changes():
                told.append(uid)

        async def until_told(since: int, *uids: str) -> None:
            async with asyncio.timeout(60):
                while not set(uids) & set(told[since:]):
                    await asyncio.sleep(0.05)

        reading = asyncio.ensure_future(read())
        await until_told(0, "")
        before = len(told)
        await runtime.create_sandbox(first)
        await until_told(before, first.uid, "")  # by events; containerd 1.6 has none, so that all are looked at
        before = len(told)
        await asyncio.to_thread(engine.kill)
        await until_told(before, "")
        await asyncio.to_thread(engine.start)
        before = len(told)
        await runtime.create_sandbox(second)
        await until_told(before, second.uid, "")
        assert {first.uid, second.uid} <= set(await runtime.observe())
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await runtime.aclose()
    finally:
        await asyncio.to_thread(engine.close)


async def test_logs_are_rotated_while_somebody_follows(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    lines, max_files = 1000, 1000
    script = (
        f"i=0; while [ $i -lt {lines} ]; do echo $i; i=$((i+1)); [ $((i % 50)) -eq 0 ] && sleep 0.2; done; sleep 300"
    )
    _, container_id = await started(runtime, spec, rig.container(script))
    observed = await container_in(runtime, container_id, ContainerState.RUNNING)
    path = observed.log_path
    assert path is not None
    rotation = LogRotation(runtime, clock=SystemClock(), max_bytes=1000, max_files=max_files)
    text = bytearray()

    async def follow() -> None:
        async def running() -> bool:
            return len(text.split()) < lines

        pieces = read_log(
            path, follow=True, is_running=running, tail_lines=None, since_s=None, timestamps=False, limit_bytes=None
        )
        async for piece in pieces:
            text.extend(piece)

    async def rotate() -> None:
        while len(text.split()) < lines:
            await rotation.rotate()
            await asyncio.sleep(0.05)

    await asyncio.gather(follow(), rotate())
    assert [int(number) for number in text.split()] == list(range(lines))
    files = sorted(path.parent.iterdir())
    assert path in files and 1 < len(files) <= max_files


async def test_a_rename_whose_reopen_was_lost_is_made_good(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    _, container_id = await started(runtime, spec, rig.container("while true; do echo x; sleep 0.1; done"))
    path = (await container_in(runtime, container_id, ContainerState.RUNNING)).log_path
    assert path is not None
    await log_lines(path, 1)
    path.replace(path.with_name(f"{path.name}.1"))
    await LogRotation(runtime, clock=SystemClock()).rotate()
    await log_lines(path, 1)


async def test_a_log_that_is_a_link_is_the_engines_to_rotate(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    _, container_id = await started(runtime, spec, rig.container("echo x; sleep 300"))
    path = (await container_in(runtime, container_id, ContainerState.RUNNING)).log_path
    assert path is not None
    await log_lines(path, 1)
    engines = rig.directory / "engines.log"
    path.replace(engines)
    path.symlink_to(engines)
    await LogRotation(runtime, clock=SystemClock(), max_bytes=1).rotate()
    assert [file.name for file in path.parent.iterdir()] == ["0.log"]
    engines.unlink()
    await LogRotation(runtime, clock=SystemClock(), max_bytes=1).rotate()
    assert path.is_symlink()


async def test_a_rotated_log_keeps_its_newest_files_only(rig: Rig) -> None:
    runtime, spec = rig.adapter(), rig.sandbox()
    _, container_id = await started(runtime, spec, rig.container("while true; do date +%s%N; sleep 0.02; done"))
    path = (await container_in(runtime, container_id, ContainerState.RUNNING)).log_path
    assert path is not None
    rotation = LogRotation(runtime, clock=SystemClock(), max_bytes=1, max_files=3)
    for _ in range(6):
        await log_lines(path, 1)
        await rotation.rotate()
    await log_lines(path, 1)
    assert sorted(file.name for file in path.parent.iterdir()) == ["0.log", "0.log.1", "0.log.2"]
    firsts = [(path.parent / name).read_bytes().split(b"\n")[0] for name in ("0.log.2", "0.log.1", "0.log")]
    assert firsts == sorted(firsts)
