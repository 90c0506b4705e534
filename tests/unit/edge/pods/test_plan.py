"""Decisions for one pod."""

from typing import Any

import pytest
from tests.unit.edge.pods.cases import NOW_S, SANDBOX, container, exited, now, pod, seen

from skerry.api.meta import rfc3339
from skerry.base.values import replace
from skerry.edge.pods.plan import (
    CreateSandbox,
    GiveUp,
    Plan,
    RemoveContainer,
    RemoveDirectory,
    RemoveSandbox,
    RemoveVolumes,
    ReportEnd,
    RequestDelete,
    StartContainer,
    StopContainer,
    StopSandbox,
    plan,
    plan_removal,
)
from skerry.edge.pods.view import EVICTED, Failure, Verdict, spec_hash
from skerry.runtime.ports import ContainerState

END = (ReportEnd(), StopSandbox(SANDBOX), RemoveSandbox(SANDBOX), RemoveDirectory(), RequestDelete())


def test_a_new_pod_gets_a_sandbox_then_its_containers() -> None:
    assert plan(pod(), None, now()).actions == (CreateSandbox(0),)
    assert plan(pod(), seen(), now()).actions == (StartContainer("app", 0, SANDBOX),)
    assert plan(pod(), seen(container()), now()) == Plan()


def test_init_containers_run_in_order() -> None:
    wanted = pod(inits=("one", "two"))
    assert plan(wanted, seen(), now()).actions == (StartContainer("one", 0, SANDBOX),)
    assert plan(wanted, seen(container("one")), now()) == Plan()
    assert plan(wanted, seen(exited("one")), now()).actions == (StartContainer("two", 0, SANDBOX),)
    done = seen(exited("one"), exited("two"))
    assert plan(wanted, done, now()).actions == (StartContainer("app", 0, SANDBOX),)


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    wanted = pod(inits=("one",))
    observed = seen(exited("one", sandbox="older"), exited(sandbox="older"))
    assert plan(wanted, observed, now()).actions == (StartContainer("one", 1, SANDBOX, 10.0),)


def test_a_clock_that_was_set_back_holds_nothing_for_ever() -> None:
    ended_tomorrow = seen(exited(ended_ago_s=-86_400, backoff_s=300))
    assert plan(pod(), ended_tomorrow, now()).actions == (StartContainer("app", 1, SANDBOX, 300.0),)
    failure = Failure("ErrImagePull", "no", NOW_S + 86_400, 10.0)
    assert plan(pod(), seen(), now(failures={"app": failure})).actions == (StartContainer("app", 0, SANDBOX),)
    held = Failure("ErrImagePull", "no", NOW_S + 9, 10.0)
    assert plan(pod(), seen(), now(failures={"app": held})) == Plan((), NOW_S + 9)


def test_failed_init_container_is_run_again_unless_never() -> None:
    failed = seen(exited("one", code=1))
    assert plan(pod(inits=("one",)), failed, now()).actions == (StartContainer("one", 1, SANDBOX, 10.0),)
    assert plan(pod(inits=("one",), policy="Never"), failed, now()).actions == (StopSandbox(SANDBOX),)


def test_sidecar_is_started_before_and_restarted_beside_the_containers() -> None:
    wanted = pod(inits=("side",))
    wanted["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    assert plan(wanted, seen(), now()).actions == (StartContainer("side", 0, SANDBOX),)
    assert plan(wanted, seen(container("side")), now()).actions == (StartContainer("app", 0, SANDBOX),)
    observed = seen(exited("side"), container())
    assert plan(wanted, observed, now()).actions == (StartContainer("side", 1, SANDBOX, 10.0),)


@pytest.mark.parametrize(
    ("policy", "code", "restarts"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policy(policy: str, code: int, restarts: bool) -> None:
    actions = plan(pod(policy=policy), seen(exited(code=code)), now()).actions
    assert actions == ((StartContainer("app", 1, SANDBOX, 10.0),) if restarts else (StopSandbox(SANDBOX),))


@pytest.mark.parametrize(("waited_s", "ran_s", "next_s"), [(10, 1, 20), (160, 1, 300), (300, 1, 300), (300, 601, 10)])
def test_back_off_doubles_up_to_five_minutes_and_ends_after_a_good_run(
    waited_s: float, ran_s: float, next_s: float
) -> None:
    ended = exited(attempt=3, code=1, backoff_s=waited_s, ran_s=ran_s, ended_ago_s=waited_s)
    assert plan(pod(), seen(ended), now()).actions == (StartContainer("app", 4, SANDBOX, next_s),)


def test_a_crash_loop_waits() -> None:
    ended = exited(attempt=1, code=1, backoff_s=10, ended_ago_s=3)
    assert plan(pod(), seen(ended), now()) == Plan((), NOW_S + 7)


def test_a_failed_start_waits() -> None:
    failures = {"app": Failure("ErrImagePull", "", NOW_S + 4)}
    assert plan(pod(), seen(), now(failures=failures)) == Plan((), NOW_S + 4)
    assert plan(pod(), None, now(failures={"": Failure("FailedMount", "", NOW_S + 9)})) == Plan((), NOW_S + 9)


def test_a_container_that_was_not_started_is_made_again() -> None:
    created = container(state=ContainerState.CREATED)
    assert plan(pod(), seen(created), now()).actions == (RemoveContainer("app-0"), StartContainer("app", 0, SANDBOX))


def test_a_lost_sandbox_is_replaced() -> None:
    assert plan(pod(), seen(exited(), ready=False), now()).actions == (CreateSandbox(1),)


def test_another_image_stops_the_container() -> None:
    wanted = pod()
    running = replace(container(), spec_hash=spec_hash(wanted["spec"]["containers"][0]))
    assert plan(wanted, seen(running), now()) == Plan()
    wanted["spec"]["containers"][0]["image"] = "other"
    why = "Container app definition changed, will be restarted"
    assert plan(wanted, seen(running), now()).actions == (StopContainer("app-0", "app", 30.0, why),)


def test_old_attempts_are_removed() -> None:
    observed = seen(container(attempt=2), exited(attempt=1), exited(attempt=0))
    assert plan(pod(), observed, now()).actions == (RemoveContainer("app-0"),)


def test_deletion_stops_reports_removes_and_asks() -> None:
    deleting = pod(deleting=True)
    running = plan(deleting, seen(container()), now()).actions
    assert running == (StopContainer("app-0", "app", 11.0),)
    assert plan(deleting, seen(exited(code=143)), now()).actions == END
    assert plan(deleting, None, now()).actions == (ReportEnd(), RemoveDirectory(), RequestDelete())
    assert plan(deleting, None, now(is_finished=True)) == Plan()


def test_no_restart_while_deleting() -> None:
    actions = plan(pod(deleting=True), seen(exited(code=1)), now()).actions
    assert not any(isinstance(action, StartContainer) for action in actions)


def test_a_finished_pod_stays_finished_though_its_containers_are_forgotten() -> None:
    done = pod() | {"status": {"phase": "Succeeded"}}
    assert plan(done, None, now()) == Plan()


def test_an_ended_pod_gives_its_volumes_back_when_nothing_runs_any_more() -> None:
    verdict = Verdict("Terminated", "the machine shuts down", 1.0)
    running = plan(pod(), seen(container()), now(verdict=verdict, has_volumes=True))
    assert running.actions == (StopContainer("app-0", "app", 1.0), StopSandbox(SANDBOX))
    ended = plan(pod(), seen(exited()), now(verdict=verdict, has_volumes=True))
    assert ended.actions == (StopSandbox(SANDBOX), RemoveVolumes())
    done = pod() | {"status": {"phase": "Succeeded"}}
    assert plan(done, None, now(has_volumes=True)).actions == (RemoveVolumes(),)
    assert plan(pod(), seen(container()), now(has_volumes=True)) == Plan()


def test_an_evicted_pod_gives_back_what_its_containers_wrote() -> None:
    verdict = Verdict(EVICTED, "the node was low on resource", 1.0)
    running = plan(pod(), seen(container()), now(verdict=verdict, has_volumes=True))
    assert running.actions == (StopContainer("app-0", "app", 1.0), StopSandbox(SANDBOX))
    ended = plan(pod(), seen(exited()), now(verdict=verdict, has_volumes=True))
    assert ended.actions == (StopSandbox(SANDBOX), RemoveContainer("app-0"), RemoveVolumes())


def test_a_pod_that_is_gone_is_removed() -> None:
    assert plan_removal(pod(), seen(container()), grace_s=5).actions == (
        StopContainer("app-0", "app", 5),
        StopSandbox(SANDBOX),
        RemoveSandbox(SANDBOX),
        RemoveDirectory(),
    )


def sidecar_pod(**more: Any) -> dict[str, Any]:
    wanted = pod(inits=("one", "two"), **more)
    for init in wanted["spec"]["initContainers"]:
        init["restartPolicy"] = "Always"
    return wanted


def test_the_next_waits_until_a_sidecar_has_started_up() -> None:
    observed = seen(container("one"))
    assert plan(sidecar_pod(), observed, now(unstarted=frozenset({"one-0"}))) == Plan()
    assert plan(sidecar_pod(), observed, now()).actions == (StartContainer("two", 0, SANDBOX),)


def test_sidecars_end_after_the_containers_in_reverse_order() -> None:
    observed = seen(container("one"), container("two"), container())
    stops = plan(sidecar_pod(deleting=True), observed, now()).actions
    assert [(stop.name, stop.after) for stop in stops if isinstance(stop, StopContainer)] == [
        ("app", ()),
        ("two", ("app",)),
        ("one", ("app", "two")),
    ]


def test_sidecars_end_when_the_containers_are_done() -> None:
    observed = seen(container("one"), container("two"), exited())
    actions = plan(sidecar_pod(policy="Never"), observed, now()).actions
    assert [getattr(action, "name", "") for action in actions] == ["two", "one", ""]


@pytest.mark.parametrize(("own", "grace_s"), [(None, 30.0), (3, 3.0)])
def test_an_unhealthy_container_is_stopped_with_its_probes_grace(own: int | None, grace_s: float) -> None:
    wanted = pod()
    wanted["spec"]["containers"][0]["livenessProbe"] = {"terminationGracePeriodSeconds": own}
    why = "Container app failed liveness probe, will be restarted"
    found = plan(wanted, seen(container()), now(unhealthy={"app-0": "liveness"})).actions
    assert found == (StopContainer("app-0", "app", grace_s, why),)
    never = plan(pod(policy="Never"), seen(container()), now(unhealthy={"app-0": "startup"})).actions
    assert never == (StopContainer("app-0", "app", 30.0, "Container app failed startup probe"),)


def test_the_deadline_ends_the_pod_for_good() -> None:
    wanted = pod(activeDeadlineSeconds=60) | {"status": {"startTime": rfc3339(NOW_S - 50)}}
    assert plan(wanted, seen(container()), now()) == Plan((), NOW_S + 10)
    late = pod(activeDeadlineSeconds=50) | {"status": {"startTime": rfc3339(NOW_S - 50)}}
    [action] = plan(late, seen(container()), now()).actions
    assert isinstance(action, GiveUp) and action.verdict.reason == "DeadlineExceeded"
    ended = plan(late, seen(container()), now(verdict=action.verdict)).actions
    assert ended == (StopContainer("app-0", "app", 30.0), StopSandbox(SANDBOX))


def test_the_deadline_counts_from_the_sandbox_while_nothing_was_reported() -> None:
    assert plan(pod(activeDeadlineSeconds=60), seen(container()), now()) == Plan((), NOW_S + 50)


def test_a_container_has_its_own_policy_and_rules() -> None:
    wanted = pod(policy="Never")
    wanted["spec"]["containers"][0]["restartPolicy"] = "OnFailure"
    assert plan(wanted, seen(exited(code=1)), now()).actions == (StartContainer("app", 1, SANDBOX, 10.0),)
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    ruled = pod(policy="Never")
    ruled["spec"]["containers"][0] |= {"restartPolicy": "Never", "restartPolicyRules": [rule]}
    assert plan(ruled, seen(exited(code=42)), now()).actions == (StartContainer("app", 1, SANDBOX, 10.0),)
    assert plan(ruled, seen(exited(code=1)), now()).actions == (StopSandbox(SANDBOX),)


def test_ephemeral_containers_are_started_once() -> None:
    wanted = pod(ephemeralContainers=[{"name": "debug", "image": "img"}])
    assert plan(wanted, seen(container()), now()).actions == (StartContainer("debug", 0, SANDBOX),)
    assert plan(wanted, seen(container(), exited("debug", code=1)), now()) == Plan()


def test_containers_of_a_lost_sandbox_do_not_wait() -> None:
    ended = exited(attempt=4, code=255, backoff_s=300, sandbox="older")
    assert plan(pod(), seen(ended), now()).actions == (StartContainer("app", 5, SANDBOX, 300.0),)
