"""Probes, hooks, order and ends of pods, from the store to the engine, in virtual or short time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.component.edge.desk import Desk, deleted, pod

from skerry.base import json
from skerry.edge.pods.view import Verdict
from skerry.runtime.process.engine import ProcessRuntime
from skerry.runtime.process.images import ProcessImages
from skerry.testing.clock import VirtualClock
from skerry.testing.fakeruntime import FakeEngine, FakeImages, FakeRuntime

CHECK = {"exec": {"command": ["check"]}, "periodSeconds": 10, "failureThreshold": 2}


class Health:
    """Answers exec probes and hooks by what the test says."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.ran: list[tuple[str, str]] = []

    def __call__(self, container: str, command: Sequence[str]) -> tuple[int, bytes]:
        self.ran.append((container, command[0]))
        return self.codes.get(command[0], 0), f"{command[0]} of {container}".encode()


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def engine(health: Health, clock: VirtualClock) -> FakeEngine:
    engine = FakeEngine(clock=clock)
    engine.answer_exec = health
    return engine


@pytest.fixture
async def desk(tmp_path: Path, engine: FakeEngine, clock: VirtualClock) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine), clock=clock)
    await desk.roster.start()
    yield desk
    await desk.close()


def app(desk: Desk) -> dict[str, Any]:
    return dict((desk.status().get("containerStatuses") or [{}])[0])


async def passes(desk: Desk, clock: VirtualClock, condition: Any, *, limit_s: int = 120) -> None:
    """Move time second by second until ``condition`` holds."""
    for _ in range(limit_s):
        for _ in range(15):
            if condition():
                return
            await asyncio.sleep(0.002)
        await clock.advance(1)
    pytest.fail(f"not within {limit_s} virtual seconds; status {desk.status()}, events {desk.events()}")


async def test_a_failing_liveness_probe_restarts_the_container(
    desk: Desk, engine: FakeEngine, clock: VirtualClock, health: Health
) -> None:
    await desk.objects.put("default/pod/web", pod(container={"livenessProbe": CHECK | {"initialDelaySeconds": 5}}))
    await passes(desk, clock, lambda: app(desk).get("ready"))
    health.codes["check"] = 1
    await passes(desk, clock, lambda: app(desk).get("restartCount") == 1 and "running" in desk.state())
    messages = [e.envelope.content["message"] for e in desk.outbox.entries() if "/event/" in e.key]
    assert "Liveness probe failed: check of app" in messages
    assert "Container app failed liveness probe, will be restarted" in messages


async def test_readiness_follows_its_probe_both_ways(desk: Desk, clock: VirtualClock, health: Health) -> None:
    health.codes["check"] = 1
    await desk.objects.put("default/pod/web", pod(container={"readinessProbe": CHECK}))
    await passes(desk, clock, lambda: "running" in desk.state() and health.ran)
    assert app(desk)["ready"] is False and app(desk)["started"] is True
    health.codes["check"] = 0
    await passes(desk, clock, lambda: app(desk)["ready"])
    health.codes["check"] = 1
    await passes(desk, clock, lambda: not app(desk)["ready"])
    assert app(desk)["restartCount"] == 0


async def test_startup_probe_holds_the_others_and_restarts_at_its_limit(
    desk: Desk, clock: VirtualClock, health: Health
) -> None:
    health.codes["boot"] = 1
    startup = {"exec": {"command": ["boot"]}, "periodSeconds": 1, "failureThreshold": 30}
    await desk.objects.put("default/pod/web", pod(container={"startupProbe": startup, "livenessProbe": CHECK}))
    await passes(desk, clock, lambda: len(health.ran) >= 5)
    assert {command for _, command in health.ran} == {"boot"} and app(desk)["started"] is False
    health.codes["boot"] = 0
    await passes(desk, clock, lambda: app(desk)["started"] and ("app", "check") in health.ran)
    assert app(desk)["restartCount"] == 0


async def test_readiness_stays_over_a_restart_of_the_agent(
    tmp_path: Path, desk: Desk, engine: FakeEngine, clock: VirtualClock, health: Health
) -> None:
    wanted = pod(container={"readinessProbe": CHECK | {"initialDelaySeconds": 60}})
    await desk.objects.put("default/pod/web", wanted)
    await passes(desk, clock, lambda: app(desk).get("ready"))
    metadata = wanted["metadata"] | {"resourceVersion": "2"}
    await desk.objects.put("default/pod/web", wanted | {"metadata": metadata, "status": desk.status()})
    await desk.roster.aclose()
    again = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine), clock=clock)
    await again.roster.start()
    health.codes["check"] = 1
    await again.until(lambda: again.roster.summary() and again.roster.summary()[0]["ready"] == 1)
    await passes(again, clock, lambda: not app(again)["ready"])
    await again.close()


async def test_hooks_run_and_a_failed_post_start_ends_the_container(
    desk: Desk, engine: FakeEngine, clock: VirtualClock, health: Health
) -> None:
    hooks = {"postStart": {"exec": {"command": ["hello"]}}, "preStop": {"exec": {"command": ["bye"]}}}
    wanted = pod(container={"lifecycle": hooks})
    health.codes["hello"] = 1
    await desk.objects.put("default/pod/web", wanted)
    await passes(desk, clock, lambda: desk.state().get("waiting", {}).get("reason") == "PostStartHookError")
    assert "FailedPostStartHook" in desk.events()
    health.codes["hello"] = 0
    await passes(desk, clock, lambda: "running" in desk.state())
    await desk.objects.put("default/pod/web", deleted(wanted))
    await passes(desk, clock, desk.asked_to_delete)
    assert health.ran[-1] == ("app", "bye") and "FailedPreStopHook" not in desk.events()


async def test_a_failed_pre_stop_is_told_and_does_not_keep_the_pod(
    desk: Desk, clock: VirtualClock, health: Health
) -> None:
    wanted = pod(container={"lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}})
    health.codes["bye"] = 3
    await desk.objects.put("default/pod/web", wanted)
    await passes(desk, clock, lambda: "running" in desk.state())
    await desk.objects.put("default/pod/web", deleted(wanted))
    await passes(desk, clock, desk.asked_to_delete)
    assert "FailedPreStopHook" in desk.events() and health.ran.count(("app", "bye")) == 1
    told = [e.envelope.content["message"] for e in desk.outbox.entries() if "/event/" in e.key]
    assert not any("bye of app" in message for message in told), "output of hooks may hold secrets"


async def test_a_pull_does_not_hold_up_the_deletion(tmp_path: Path, clock: VirtualClock) -> None:
    engine = FakeEngine(clock=clock, images=set())

    class SlowImages(FakeImages):
        async def pull(self, image: str, *, secrets: Sequence[dict[str, object]] = ()) -> str:
            engine.called("pull", image)
            await asyncio.Event().wait()
            return ""

    desk = Desk(tmp_path / "edge", FakeRuntime(engine), SlowImages(engine), clock=clock)
    await desk.roster.start()
    wanted = pod()
    await desk.objects.put("default/pod/web", wanted)
    await desk.until(lambda: ("pull", "img") in engine.calls)
    await desk.objects.put("default/pod/web", deleted(wanted))
    await desk.until(desk.asked_to_delete)
    assert desk.status()["phase"] == "Failed" and engine.sandboxes == {}
    await desk.close()


async def test_a_pull_that_does_not_end_holds_up_no_other_for_ever(tmp_path: Path, clock: VirtualClock) -> None:
    engine = FakeEngine(clock=clock, images=set())

    class SilentRegistry(FakeImages):
        async def pull(self, image: str, *, secrets: Sequence[dict[str, object]] = ()) -> str:
            if image == "img":
                engine.called("pull", image)
                await asyncio.Event().wait()
            return await super().pull(image, secrets=secrets)

    desk = Desk(tmp_path / "edge", FakeRuntime(engine), SilentRegistry(engine), clock=clock)
    await desk.roster.start()
    await desk.objects.put("default/pod/web", pod())
    await desk.until(lambda: ("pull", "img") in engine.calls)
    await desk.objects.put("default/pod/other", pod(name="other", uid="u2", container={"image": "good"}))
    await passes(desk, clock, lambda: desk.status("other").get("phase") == "Pending")
    for _ in range(20):
        await clock.advance(60)
    assert ("pull", "good") not in engine.calls  # one at a time
    await clock.advance(900)
    await desk.until(lambda: "running" in desk.state("other"))
    await desk.close()


async def test_the_deadline_fails_the_pod_also_after_a_restart(
    tmp_path: Path, desk: Desk, engine: FakeEngine, clock: VirtualClock
) -> None:
    await desk.objects.put("default/pod/web", pod(activeDeadlineSeconds=30))
    await passes(desk, clock, lambda: "running" in desk.state())
    await passes(desk, clock, lambda: desk.status()["phase"] == "Failed")
    assert desk.status()["reason"] == "DeadlineExceeded" and "DeadlineExceeded" in desk.events()
    await desk.roster.aclose()
    again = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine), clock=clock)
    await again.roster.start()
    await clock.advance(60)
    await again.until(lambda: again.roster.pods() and again.roster.pods()[0].get("status", {}).get("phase") == "Failed")
    assert engine.calls.count(("start_container", "app")) == 1
    await again.close()


async def test_a_verdict_of_the_node_outlives_the_agent(
    tmp_path: Path, desk: Desk, engine: FakeEngine, clock: VirtualClock
) -> None:
    await desk.objects.put("default/pod/web", pod())
    await passes(desk, clock, lambda: "running" in desk.state())
    assert desk.roster.fail("u1", Verdict("Evicted", "The node was low on resource: memory.", 0.0))
    assert not desk.roster.fail("nobody", Verdict("Evicted", ""))
    await passes(desk, clock, lambda: desk.status()["phase"] == "Failed")
    assert desk.status()["reason"] == "Evicted"
    assert any(c["type"] == "DisruptionTarget" for c in desk.status()["conditions"])


async def test_last_words_of_a_container_are_its_message(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "edge", ProcessRuntime(tmp_path / "process"), ProcessImages())
    has_views = (await desk.runtime.info()).message.endswith("mount namespaces")
    await desk.roster.start()
    script = "echo to the log; exit 4"
    told = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    await desk.objects.put("default/pod/web", pod(script, container=told, restartPolicy="Never"))
    await desk.until(lambda: desk.status().get("phase") == "Failed")
    assert desk.state()["terminated"]["message"] == "to the log\n"
    if has_views:
        script = "echo because > /dev/termination-log; exit 5"
        await desk.objects.put("default/pod/two", pod(script, name="two", uid="u2", restartPolicy="Never"))
        await desk.until(lambda: desk.status("two").get("phase") == "Failed")
        assert desk.state("two")["terminated"]["message"] == "because\n"
        assert not Path("/dev/termination-log").exists()
    await desk.roster.stop_all()
    for found in (await desk.runtime.observe()).values():
        for sandbox in found.sandboxes:
            await desk.runtime.remove_sandbox(sandbox.id)
    await desk.close()


async def test_stopping_the_agents_pods_runs_their_hooks(
    desk: Desk, engine: FakeEngine, clock: VirtualClock, health: Health
) -> None:
    wanted = pod(container={"lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}})
    await desk.objects.put("default/pod/web", wanted)
    await passes(desk, clock, lambda: "running" in desk.state())
    await desk.roster.stop_all()
    assert health.ran == [("app", "bye")]
    assert not any(sandbox.seen.is_ready for sandbox in engine.sandboxes.values())


async def test_conditions_of_others_open_readiness_gates(desk: Desk, clock: VirtualClock) -> None:
    wanted = pod(readinessGates=[{"conditionType": "example.org/gate"}])
    await desk.objects.put("default/pod/web", wanted)
    await passes(desk, clock, lambda: app(desk).get("ready"))

    def ready() -> str:
        return str({c["type"]: c["status"] for c in desk.status()["conditions"]}["Ready"])

    assert ready() == "False"
    opened = {"conditions": [{"type": "example.org/gate", "status": "True"}]}
    metadata = wanted["metadata"] | {"resourceVersion": "2"}
    await desk.objects.put("default/pod/web", wanted | {"metadata": metadata, "status": opened})
    await passes(desk, clock, lambda: ready() == "True")
    assert json.dumps(desk.roster.pods()[0]["status"]["conditions"]).count(b'"type":"example.org/gate"') == 1


async def test_the_last_status_stays_though_the_agent_starts_again_before_the_cloud_lets_go(
    tmp_path: Path, desk: Desk, engine: FakeEngine, clock: VirtualClock
) -> None:
    wanted = pod("exit 0", restartPolicy="Never")
    await desk.objects.put("default/pod/web", wanted)
    await passes(desk, clock, lambda: desk.status().get("phase") == "Succeeded")
    metadata = deleted(wanted)["metadata"]
    running = {"phase": "Running", "containerStatuses": [{"name": "app", "containerID": "fake://c"}]}
    await desk.objects.put("default/pod/web", wanted | {"metadata": metadata, "status": running})
    await passes(desk, clock, desk.asked_to_delete)
    await desk.roster.aclose()
    again = Desk(tmp_path / "edge", FakeRuntime(engine), FakeImages(engine), clock=clock)
    await again.roster.start()
    await passes(again, clock, lambda: again.roster.pods(), limit_s=5)
    await clock.advance(70)
    assert again.status()["phase"] == "Succeeded"
    await again.close()
