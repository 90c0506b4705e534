"""What the cloud is told."""

from typing import Any

import pytest
from tests.unit.edge.pods.cases import NOW_S, container, exited, now, pod, seen

from skerry.base.values import replace
from skerry.edge.pods.status import NodeView, pod_status, with_removals
from skerry.edge.pods.view import RESOURCES_ANNOTATION, Failure, Verdict, resources_hash
from skerry.runtime.ports import ContainerState, ObservedPod

NODE = NodeView("192.0.2.1", "fake")


def status(wanted: dict[str, Any], observed: ObservedPod | None, **stimulus: Any) -> dict[str, Any]:
    return pod_status(wanted, observed, now(**stimulus), NODE)


def state(found: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = found["containerStatuses"][0]["state"]
    return state


def conditions(found: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in found["conditions"]}


def test_before_anything_happened() -> None:
    found = status(pod(), None)
    assert found["phase"] == "Pending"
    assert state(found) == {"waiting": {"reason": "ContainerCreating"}}
    assert conditions(found)["PodScheduled"] == "True" and conditions(found)["Ready"] == "False"
    assert "podIP" not in found and found["hostIP"] == "192.0.2.1"


def test_running_and_ready() -> None:
    found = status(pod(), seen(container()), ready=frozenset({"app-0"}))
    assert found["phase"] == "Running" and found["podIP"] == "10.0.0.5"
    assert "running" in state(found) and found["containerStatuses"][0]["ready"] is True
    assert found["containerStatuses"][0]["containerID"] == "fake://app-0"
    assert set(conditions(found).values()) == {"True"}


def test_running_but_not_ready_names_the_container() -> None:
    found = status(pod(), seen(container()))
    [ready] = [c for c in found["conditions"] if c["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert ready["message"] == "containers with unready status: [app]"


def test_init_phase() -> None:
    found = status(pod(inits=("one",)), seen(container("one")))
    assert found["phase"] == "Pending"
    assert state(found) == {"waiting": {"reason": "PodInitializing"}}
    assert "running" in found["initContainerStatuses"][0]["state"]
    assert conditions(found)["Initialized"] == "False"


def test_crash_loop() -> None:
    found = status(pod(), seen(exited(attempt=2, code=3, backoff_s=20)))
    assert found["phase"] == "Running"
    assert state(found)["waiting"]["reason"] == "CrashLoopBackOff"
    assert state(found)["waiting"]["message"].startswith("back-off 20s restarting failed container=app")
    assert found["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
    assert found["containerStatuses"][0]["restartCount"] == 2


def test_restarted_container_remembers_its_last_end() -> None:
    found = status(pod(), seen(container(attempt=1), exited(code=3)))
    assert "running" in state(found)
    assert found["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3


@pytest.mark.parametrize(
    ("code", "reason", "phase", "shown"),
    [(0, "", "Succeeded", "Completed"), (1, "", "Failed", "Error"), (137, "OOMKilled", "Failed", "OOMKilled")],
)
def test_ended_for_good(code: int, reason: str, phase: str, shown: str) -> None:
    found = status(pod(policy="Never"), seen(exited(code=code, reason=reason)))
    assert found["phase"] == phase
    assert state(found)["terminated"]["reason"] == shown
    assert conditions(found)["Ready"] == "False"


def test_the_end_of_a_container_is_known_though_the_engine_has_it_no_more() -> None:
    verdict = Verdict("Evicted", "the node was low on resource")
    ended = status(pod(), seen(exited(code=137)), verdict=verdict)
    after = status(pod() | {"status": ended}, seen(), verdict=verdict)
    assert after["containerStatuses"] == ended["containerStatuses"] and after["phase"] == "Failed"
    assert state(after)["terminated"]["exitCode"] == 137
    never_run = status(pod(), seen(), verdict=verdict)
    assert never_run["containerStatuses"] == []


def test_failed_init_container_fails_the_pod() -> None:
    assert status(pod(inits=("one",), policy="Never"), seen(exited("one", code=1)))["phase"] == "Failed"


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"])
def test_failures_to_start_are_reasons(reason: str) -> None:
    found = status(pod(), seen(), failures={"app": Failure(reason, "because", NOW_S + 1)})
    assert found["phase"] == "Pending"
    assert state(found)["waiting"] == {"reason": reason, "message": "because"}


def test_refused_pod_says_so_and_missing_mounts_are_told_by_events() -> None:
    refused = status(pod(), None, failures={"": Failure("CreateContainerConfigError", "no", NOW_S + 1)})
    assert state(refused)["waiting"]["reason"] == "CreateContainerConfigError"
    waiting = status(pod(), None, failures={"": Failure("FailedMount", "no", NOW_S + 1)})
    assert state(waiting)["waiting"]["reason"] == "ContainerCreating"


def test_deleted_pod_ends_terminal() -> None:
    deleting = pod(deleting=True)
    assert status(deleting, seen(container()))["phase"] == "Running"
    found = status(deleting, seen(exited(code=0)))
    assert found["phase"] == "Succeeded" and "terminated" in state(found)
    assert status(deleting, seen(exited(code=143)))["phase"] == "Failed"


def test_times_of_conditions_stay_until_they_change() -> None:
    first = status(pod(), seen(container()))
    wanted = pod() | {"status": first}
    for condition in wanted["status"]["conditions"]:
        condition["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    second = status(wanted, seen(container()), ready=frozenset({"app-0"}))
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert times["PodScheduled"] == "2020-01-01T00:00:00Z"
    assert times["Ready"] == "2025-06-15T15:06:40Z"


def test_an_ended_pod_is_known_by_the_address_that_it_had() -> None:
    told = {"phase": "Succeeded", "podIP": "10.0.0.5", "podIPs": [{"ip": "10.0.0.5"}]}
    found = status(pod() | {"status": told}, None)
    assert (found["podIP"], found["podIPs"]) == ("10.0.0.5", [{"ip": "10.0.0.5"}])


def test_host_network_and_no_address_mean_the_nodes() -> None:
    assert status(pod(hostNetwork=True), seen(container()))["podIP"] == "192.0.2.1"


def test_removals_clear_what_was_told_before() -> None:
    waiting = status(pod(), seen())
    running = status(pod(), seen(container(state=ContainerState.RUNNING)), ready=frozenset({"app-0"}))
    patch = with_removals(running, waiting)
    assert patch["containerStatuses"][0]["state"]["waiting"] is None
    assert patch["containerStatuses"][0]["state"]["running"]["startedAt"]
    [ready] = [c for c in patch["conditions"] if c["type"] == "Ready"]
    assert ready["reason"] is None and ready["message"] is None
    assert with_removals(running) == running
    assert with_removals(running, {"nominatedNodeName": "x"}) == running


def test_a_container_that_has_not_started_up_is_neither_started_nor_ready() -> None:
    found = status(pod(), seen(container()), ready=frozenset({"app-0"}), unstarted=frozenset({"app-0"}))
    [app] = found["containerStatuses"]
    assert (app["started"], app["ready"]) == (False, False)


def test_one_container_that_never_ran_keeps_the_pod_pending() -> None:
    wanted = pod()
    wanted["spec"]["containers"].append({"name": "second", "image": "img"})
    failures = {"second": Failure("ErrImagePull", "no", NOW_S + 1)}
    assert status(wanted, seen(container()), failures=failures)["phase"] == "Pending"


def test_sidecars_count_for_readiness_and_hold_the_end() -> None:
    wanted = pod(inits=("side",), policy="Never")
    wanted["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    unready = status(wanted, seen(container("side"), container()), ready=frozenset({"app-0"}))
    [ready] = [c for c in unready["conditions"] if c["type"] == "ContainersReady"]
    assert ready["message"] == "containers with unready status: [side]"
    assert status(wanted, seen(container("side"), exited()))["phase"] == "Running"
    assert status(wanted, seen(exited("side", code=143), exited()))["phase"] == "Succeeded"


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([], 'corresponding condition of pod readiness gate "x/y" does not exist.'),
        ([{"type": "x/y", "status": "False"}], 'the status of pod readiness gate "x/y" is not "True", but False'),
        ([{"type": "x/y", "status": "True"}], ""),
    ],
)
def test_readiness_gates(known: list[dict[str, str]], expected: str) -> None:
    wanted = pod(readinessGates=[{"conditionType": "x/y"}]) | {"status": {"conditions": known}}
    found = status(wanted, seen(container()), ready=frozenset({"app-0"}))
    by_type = {c["type"]: c for c in found["conditions"]}
    assert by_type["ContainersReady"]["status"] == "True"
    assert by_type["Ready"].get("message", "") == expected
    assert by_type["Ready"]["status"] == ("False" if expected else "True")


def test_a_verdict_is_told_when_nothing_runs_any_more() -> None:
    verdict = Verdict("Evicted", "The node was low on resource: memory.")
    assert status(pod(), seen(container()), verdict=verdict)["phase"] == "Running"
    found = status(pod(), seen(exited(code=137)), verdict=verdict)
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "Evicted", verdict.message)
    assert conditions(found)["DisruptionTarget"] == "True"
    lost = pod() | {"status": {"containerStatuses": [{"name": "app", "containerID": "fake://app-0"}]}}
    never_ran = status(lost, None, verdict=Verdict("Evicted", "no"))
    assert never_ran["phase"] == "Failed" and state(never_ran)["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_pod_that_was_not_taken_shows_the_reason_and_no_containers() -> None:
    found = status(pod(inits=("one",)), None, verdict=Verdict("OutOfcpu", "no"))
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "OutOfcpu", "no")
    assert found["containerStatuses"] == [] and found["initContainerStatuses"] == []


def test_a_sandbox_that_failed_before_it_had_an_address_has_none() -> None:
    found = seen(ready=False)
    bare = replace(found, sandboxes=[replace(found.sandboxes[0], ips=())])
    assert "podIP" not in status(pod(), bare)
    assert status(pod(hostNetwork=True), bare)["podIP"] == "192.0.2.1"


def test_reason_of_a_failed_pod_stays_over_a_restart_of_the_agent() -> None:
    old = {"phase": "Failed", "reason": "DeadlineExceeded", "message": "late"}
    found = status(pod() | {"status": old}, seen(exited(code=137)))
    assert (found["reason"], found["message"]) == ("DeadlineExceeded", "late")


def test_quality_of_service_is_worked_out_where_the_cloud_did_not() -> None:
    wanted = pod()
    wanted["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    assert status(wanted, None)["qosClass"] == "Burstable"


def test_ephemeral_containers_have_their_own_list() -> None:
    wanted = pod(ephemeralContainers=[{"name": "debug", "image": "img"}])
    found = status(wanted, seen(container(), exited("debug", code=1)))
    assert found["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 1
    assert found["phase"] == "Running"


def test_a_resize_is_answered() -> None:
    wanted = pod()
    started = container()
    annotations = {**started.annotations, RESOURCES_ANNOTATION: resources_hash(wanted["spec"]["containers"][0])}
    observed = seen(replace(started, annotations=annotations))
    assert "PodResizePending" not in conditions(status(wanted, observed))
    wanted["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "2"}}
    found = status(wanted, observed)
    assert conditions(found)["PodResizePending"] == "True"
    again = status(pod() | {"status": found}, observed)
    assert conditions(again)["PodResizePending"] == "False"
