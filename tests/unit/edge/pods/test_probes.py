"""When outcomes of probes count."""

import pytest

from skerry.edge.pods.probes import ProbeKind, Tally, first, is_over, tally, times_of


def run(kind: ProbeKind, outcomes: str, **probe: int) -> Tally:
    found = first(kind)
    for outcome in outcomes:
        found = tally(found, {"+": True, "-": False, "?": None}[outcome], times_of(probe))
    return found


@pytest.mark.parametrize(
    ("kind", "outcomes", "counts"),
    [
        (ProbeKind.LIVENESS, "", True),
        (ProbeKind.LIVENESS, "--", True),
        (ProbeKind.LIVENESS, "---", False),
        (ProbeKind.LIVENESS, "--+--", True),
        (ProbeKind.LIVENESS, "--?-", False),
        (ProbeKind.LIVENESS, "???", True),
        (ProbeKind.READINESS, "", False),
        (ProbeKind.READINESS, "+", True),
        (ProbeKind.READINESS, "+--", True),
        (ProbeKind.READINESS, "+---", False),
        (ProbeKind.STARTUP, "--", None),
        (ProbeKind.STARTUP, "--+", True),
        (ProbeKind.STARTUP, "---", False),
    ],
)
def test_three_failures_and_one_success_count(kind: ProbeKind, outcomes: str, counts: bool | None) -> None:
    assert run(kind, outcomes).counts is counts


def test_thresholds_are_the_probes_own() -> None:
    assert run(ProbeKind.READINESS, "++", successThreshold=3).counts is False
    assert run(ProbeKind.READINESS, "+++", successThreshold=3).counts is True
    assert run(ProbeKind.LIVENESS, "-", failureThreshold=1).counts is False


def test_numbers_that_are_missing_or_zero_have_their_default() -> None:
    times = times_of({"periodSeconds": 0, "timeoutSeconds": None})
    assert (times.initial_delay_s, times.period_s, times.timeout_s) == (0, 10, 1)
    assert (times.failure_count, times.success_count) == (3, 1)


def test_startup_ends_with_its_answer_and_liveness_with_the_restart() -> None:
    assert is_over(ProbeKind.STARTUP, Tally(True)) and is_over(ProbeKind.STARTUP, Tally(False))
    assert not is_over(ProbeKind.STARTUP, Tally(None))
    assert is_over(ProbeKind.LIVENESS, Tally(False)) and not is_over(ProbeKind.LIVENESS, Tally(True))
    assert not is_over(ProbeKind.READINESS, Tally(False))
