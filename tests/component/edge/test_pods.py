"""Pods of a node, from the store to the engine and back into the outbox."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.component.edge.desk import Desk, deleted, pod

from skerry.api.status import BadRequest, NotFound
from skerry.runtime.ports import EngineError
from skerry.runtime.process.engine import ProcessRuntime
from skerry.runtime.process.images import ProcessImages
from skerry.testing.clock import VirtualClock
from skerry.testing.fakeruntime import FakeEngine, FakeImages, FakeRuntime

CONFIG = {"kind": "ConfigMap", "metadata": {"name": "conf", "namespace": "default"}, "data": {"word": "one"}}
WITH_CONFIG = {"volumes": [{"name": "v", "configMap": {"name": "conf"}}]}
MOUNTED = {"volumeMounts": [{"name": "v", "mountPath": "/etc/demo-conf"}]}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def desk(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine))
    yield desk
    await desk.close()


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "edge", ProcessRuntime(tmp_path / "process"), ProcessImages())
    await desk.roster.start()
    yield desk
    await desk.roster.stop_all()
    for found in (await desk.runtime.observe()).values():
        for sandbox in found.sandboxes:
            await desk.runtime.remove_sandbox(sandbox.id)
    await desk.close()


async def test_a_pod_whose_sandbox_cannot_be_ended_says_why(desk: Desk, engine: FakeEngine) -> None:
    await desk.roster.start()
    wanted = pod()
    await desk.objects.put("default/pod/web", wanted)
    await desk.until(lambda: "running" in desk.state())

    def fail(call: str, name: str) -> None:
        if call == "stop_sandbox":
            raise EngineError("failed to destroy network", hint="install iptables")

    engine.fail = fail
    await desk.objects.put("default/pod/web", deleted(wanted))
    await desk.until(lambda: "FailedKillPod" in desk.events())
    messages = [e.envelope.content["message"] for e in desk.outbox.entries() if "/event/" in e.key]
    assert messages[-1] == "error killing pod: failed to destroy network; install iptables"
    assert not desk.asked_to_delete()


async def test_a_pod_runs_is_deleted_and_leaves_nothing(desk: Desk, engine: FakeEngine) -> None:
    await desk.roster.start()
    wanted = pod()
    await desk.objects.put("default/pod/web", wanted)
    await desk.until(lambda: "running" in desk.state())
    assert desk.status()["phase"] == "Running" and desk.status()["podIP"] == "10.9.8.7"
    assert desk.events() == ["Pulled", "Created", "Started"]
    await desk.objects.put("default/pod/web", deleted(wanted))
    asked = await desk.until(desk.asked_to_delete)
    assert asked == {"gracePeriodSeconds": 0, "preconditions": {"uid": "u1"}}
    assert desk.status()["phase"] == "Failed" and desk.state()["terminated"]["exitCode"] == 143
    assert engine.sandboxes == {} and desk.tokens.forgotten == ["u1"]
    await desk.objects.delete("default/pod/web")
    await desk.until(lambda: not desk.roster.pods())
    assert list((desk.directory / "pods").iterdir()) == []


async def test_start_without_a_cloud_adopts_and_ends_orphans(tmp_path: Path, engine: FakeEngine) -> None:
    first = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine))
    await first.roster.start()
    for name, uid in (("web", "u1"), ("gone", "u2")):
        await first.objects.put(f"default/pod/{name}", pod(name=name, uid=uid))
    await first.until(lambda: "running" in first.state("web") and "running" in first.state("gone"))
    kept = engine.running("web", "app")
    await first.roster.aclose()
    await first.objects.delete("default/pod/gone")
    await first.close()
    second = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine))
    await second.roster.start()
    await second.until(lambda: len(engine.sandboxes) == 1)
    await second.until(lambda: second.roster.summary()[0]["ready"] == 1)
    assert engine.running("web", "app") == kept
    assert engine.calls.count(("create_container", "app")) == 2
    await second.close()


async def test_a_crash_loop_backs_off_and_survives_a_restart(tmp_path: Path, engine: FakeEngine) -> None:
    clock = VirtualClock()
    engine.clock = clock
    desk = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine), clock=clock)
    await desk.roster.start()
    await desk.objects.put("default/pod/web", pod("exit 3"))
    await desk.until(lambda: desk.state().get("waiting", {}).get("reason") == "CrashLoopBackOff")
    assert desk.status()["containerStatuses"][0]["restartCount"] == 1
    assert "BackOff" in desk.events()
    await desk.close()
    desk = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine), clock=clock)
    await desk.roster.start()
    await clock.advance(11)
    await desk.until(lambda: desk.status()["containerStatuses"][0]["restartCount"] == 2)
    await desk.until(lambda: "20s" in desk.state().get("waiting", {}).get("message", ""))
    await desk.close()


async def test_missing_config_holds_the_pod_until_it_comes(desk: Desk) -> None:
    await desk.roster.start()
    await desk.objects.put("default/pod/web", pod(**WITH_CONFIG))
    await desk.until(lambda: "FailedMount" in desk.events())
    assert desk.state()["waiting"]["reason"] == "ContainerCreating"
    await desk.objects.put("default/configmap/conf", CONFIG)
    await desk.until(lambda: "running" in desk.state())


async def test_a_configuration_that_was_made_anew_reaches_the_pod(desk: Desk) -> None:
    await desk.objects.put("default/configmap/conf", CONFIG | {"metadata": CONFIG["metadata"] | {"uid": "c1"}})
    await desk.roster.start()
    await desk.objects.put("default/pod/web", pod(**WITH_CONFIG))
    await desk.until(lambda: "running" in desk.state())
    file = desk.directory / "pods/u1/volumes/v/word"
    assert file.read_text() == "one"
    await desk.objects.delete("default/configmap/conf")
    assert file.read_text() == "one"  # what runs keeps what it has
    again = {"metadata": CONFIG["metadata"] | {"uid": "c2"}, "data": {"word": "two"}}
    await desk.objects.put("default/configmap/conf", CONFIG | again)
    await desk.until(lambda: file.read_text() == "two")
    assert desk.status()["containerStatuses"][0]["restartCount"] == 0


async def test_a_pod_is_evicted_though_the_disk_takes_no_more(desk: Desk) -> None:
    await desk.roster.start()
    await desk.objects.put("default/pod/web", pod())
    await desk.until(lambda: "running" in desk.state())
    (desk.directory / f"pods/u1/.verdict.json.{os.getpid()}.tmp").mkdir()  # the verdict cannot be written
    desk.roster.evict("u1", "the node was low on disk")
    await desk.until(lambda: desk.status().get("reason") == "Evicted")
    await desk.until(lambda: desk.status()["phase"] == "Failed")


async def test_missing_secret_of_a_variable_is_a_reason(desk: Desk) -> None:
    await desk.roster.start()
    variable = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    await desk.objects.put("default/pod/web", pod(container={"env": [variable]}))
    waiting = await desk.until(lambda: desk.state().get("waiting", {}).get("message") and desk.state()["waiting"])
    assert waiting["reason"] == "CreateContainerConfigError" and 'secret "s" not found' in waiting["message"]


async def test_a_process_is_told_where_the_api_server_is_unless_its_own_variable_says_otherwise(tmp_path: Path) -> None:
    runtime = ProcessRuntime(tmp_path / "process")
    desk = Desk(tmp_path / "edge", runtime, ProcessImages(), api_server=("cloud.example", 6443))
    await desk.roster.start()
    script = 'echo "$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT" > /dev/termination-log'
    own = {"env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "proxy.example"}]}
    for name, extra in (("told", {}), ("own", own)):
        await desk.objects.put(
            f"default/pod/{name}", pod(script, name=name, uid=name, restartPolicy="Never", container=extra)
        )
    found = [
        await desk.until(lambda n=name: desk.state(n).get("terminated", {}).get("message")) for name in ("told", "own")
    ]
    assert [text.strip() for text in found] == ["cloud.example:6443", "proxy.example:6443"]
    await desk.roster.stop_all()
    await desk.close()


async def test_a_missing_image_is_a_reason(tmp_path: Path) -> None:
    engine = FakeEngine(images=set())
    desk = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine))
    await desk.roster.start()
    await desk.objects.put("default/pod/web", pod(container={"image": "missing/x"}))
    await desk.until(lambda: desk.state().get("waiting", {}).get("reason") == "ErrImagePull")
    assert desk.events() == ["Pulling", "Failed"]
    await desk.close()


async def test_pods_of_other_nodes_are_not_ours(desk: Desk, engine: FakeEngine) -> None:
    await desk.roster.start()
    await desk.objects.put("default/pod/other", pod(name="other", uid="u9", nodeName="edge-2"))
    await desk.objects.put("default/pod/web", pod())
    await desk.until(lambda: "running" in desk.state())
    assert {sandbox.spec.name for sandbox in engine.sandboxes.values()} == {"web"}


async def test_a_recreated_pod_of_the_same_name_replaces_the_old(desk: Desk, engine: FakeEngine) -> None:
    await desk.roster.start()
    await desk.objects.put("default/pod/web", pod(uid="u1"))
    await desk.until(lambda: "running" in desk.state())
    await desk.objects.put("default/pod/web", pod(uid="u2"))
    await desk.until(lambda: [s.spec.uid for s in engine.sandboxes.values()] == ["u2"])


async def test_a_pod_that_comes_again_while_its_former_self_ends_runs_again(desk: Desk, engine: FakeEngine) -> None:
    await desk.objects.put("default/pod/web", pod())
    await desk.roster.start()
    await desk.until(lambda: "running" in desk.state())
    await desk.objects.delete("default/pod/web")
    await desk.objects.put("default/pod/web", pod())  # a cloud that was restored from a backup still has it
    await desk.until(lambda: [call for call, _ in engine.calls].count("create_sandbox") == 2)
    await desk.until(lambda: "running" in desk.state())
    await desk.objects.delete("default/pod/web")
    await desk.objects.put("default/pod/web", pod())
    await desk.objects.delete("default/pod/web")
    await desk.until(lambda: not desk.roster.pods())


async def test_one_slow_pod_does_not_hold_up_another(desk: Desk, engine: FakeEngine) -> None:
    await desk.roster.start()
    await desk.objects.put("default/pod/slow", pod(name="slow", uid="u2", volumes=[{"name": "p", "nfs": {}}]))
    await desk.objects.put("default/pod/web", pod())
    await desk.until(lambda: "running" in desk.state("web"))
    assert desk.status("slow")["phase"] == "Pending"


async def test_workers_end_though_they_are_poked_at_that_moment(desk: Desk, engine: FakeEngine) -> None:
    await desk.roster.start()
    await desk.objects.put("default/pod/web", pod())
    await desk.until(lambda: "running" in desk.state())
    for turns in range(12):
        engine.changes.send("u1")
        for _ in range(turns):
            await asyncio.sleep(0)
    await asyncio.wait_for(desk.roster.aclose(), 5)


async def test_logs_are_found(desk: Desk, engine: FakeEngine) -> None:
    await desk.roster.start()
    await desk.objects.put("default/pod/web", pod("echo hello; sleep 300"))
    await desk.until(lambda: "running" in desk.state())
    found = await desk.roster.container_log("default", "web", "app", previous=False)
    assert found.is_running and found.path.read_bytes().endswith(b" stdout F hello\n")
    assert await desk.roster.is_running("default", "web", "app")
    with pytest.raises(BadRequest, match="previous terminated container"):
        await desk.roster.container_log("default", "web", "app", previous=True)
    with pytest.raises(BadRequest, match="not valid"):
        await desk.roster.container_log("default", "web", "nope", previous=False)
    with pytest.raises(NotFound):
        await desk.roster.container_log("default", "nope", "app", previous=False)


async def test_a_killed_container_comes_back(real: Desk) -> None:
    await real.objects.put("default/pod/web", pod("echo $$$$; exec sleep 300"))
    await real.until(lambda: "running" in real.state())
    assert real.events() == ["ImageNotUsed", "Created", "Started"]
    place = await real.roster.container_log("default", "web", "app", previous=False)
    text = await real.until(lambda: place.path.exists() and place.path.read_text())
    os.kill(int(text.split()[-1]), signal.SIGKILL)
    await real.until(lambda: real.status()["containerStatuses"][0]["restartCount"] == 1 and "running" in real.state())
    last = real.status()["containerStatuses"][0]["lastState"]["terminated"]
    assert (last["exitCode"], last["signal"]) == (137, 9)
    previous = await real.roster.container_log("default", "web", "app", previous=True)
    assert previous.path == place.path and not previous.is_running


async def test_config_changes_reach_a_running_process(real: Desk) -> None:
    if not (await real.runtime.info()).message.endswith("mount namespaces"):
        pytest.skip("needs mount namespaces")
    await real.objects.put("default/configmap/conf", CONFIG)
    script = "while true; do cat /etc/demo-conf/word; echo; sleep 0.1; done"
    await real.objects.put("default/pod/web", pod(script, container=MOUNTED, **WITH_CONFIG))
    await real.until(lambda: "running" in real.state())
    place = await real.roster.container_log("default", "web", "app", previous=False)
    await real.until(lambda: place.path.exists() and "F one\n" in place.path.read_text())
    await real.objects.put("default/configmap/conf", CONFIG | {"data": {"word": "two"}})
    await real.until(lambda: "F two\n" in place.path.read_text())
    assert not Path("/etc/demo-conf").exists()


async def test_a_process_without_a_command_says_what_to_do(real: Desk) -> None:
    await real.objects.put("default/pod/web", pod(container={"command": []}))
    waiting = await real.until(lambda: real.state().get("waiting", {}).get("message") and real.state()["waiting"])
    assert waiting["reason"] == "CreateContainerError"
    assert "command" in waiting["message"]


async def test_a_process_pod_is_deleted_with_its_grace(real: Desk) -> None:
    wanted = pod("trap 'exit 0' TERM; echo trapped; sleep 300 & wait")
    await real.objects.put("default/pod/web", wanted)
    said = real.directory / "pod-logs/default_web_u1/app/0.log"
    await real.until(lambda: said.exists() and "trapped" in said.read_text())
    await real.objects.put("default/pod/web", deleted(wanted))
    await real.until(real.asked_to_delete)
    assert (real.status()["phase"], real.state()["terminated"]["exitCode"]) == ("Succeeded", 0)
    assert await real.runtime.observe() == {}


async def test_a_pod_with_many_files_is_removed_beside_everything_else(desk: Desk) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    await desk.objects.put("default/pod/web", pod(volumes=volumes))
    await desk.roster.start()
    await desk.until(lambda: "running" in desk.state())
    many = 20_000
    place = desk.directory / "pods/u1/volumes/v"
    for number in range(many):
        os.mknod(place / str(number))
    await desk.objects.delete("default/pod/web")
    counts = set()
    while place.exists():  # this loop runs on while the files go
        with contextlib.suppress(FileNotFoundError):
            counts.add(len(os.listdir(place)))
        await asyncio.sleep(0)
    assert any(0 < count < many for count in counts)
    await desk.until(lambda: not desk.roster.pods())


async def test_directories_of_unknown_pods_are_removed_at_the_start(desk: Desk) -> None:
    for place in (
        "pods/u9/volumes/v",
        "pod-logs/default_gone_u9/app",
        "pods/u1/volumes",
        "pod-logs/default_web_u1/app",
    ):
        (desk.directory / place).mkdir(parents=True)
    await desk.objects.put("default/pod/web", pod())
    await desk.roster.start()
    await desk.until(lambda: "running" in desk.state())
    await desk.until(lambda: len(list((desk.directory / "pod-logs").iterdir())) == 1)
    assert [path.name for path in (desk.directory / "pods").iterdir()] == ["u1"]
    assert [path.name for path in (desk.directory / "pod-logs").iterdir()] == ["default_web_u1"]
