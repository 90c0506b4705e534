"""When a container counts as alive, started and ready: outcomes of its probes → what counts. Pure.

Source: kubernetes pkg/kubelet/prober/{worker,prober_manager}.go (1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from skerry.base.values import Struct, replace


class ProbeKind(StrEnum):
    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


class ProbeTimes(Struct, frozen=True):
    """How often and how long, with the defaults of the API.

    Args:
        failure_count, success_count: how many equal outcomes in a row count.
    """

    initial_delay_s: float
    period_s: float
    timeout_s: float
    failure_count: int
    success_count: int


class Tally(Struct, frozen=True):
    """What the probes of one kind have told about one container so far.

    Args:
        counts: the answer that counts; None while there is none.
        last: the newest outcome.
        run: how many times in a row ``last`` came.
    """

    counts: bool | None
    last: bool | None = None
    run: int = 0


def probe_of(container: Mapping[str, Any], kind: ProbeKind) -> dict[str, Any] | None:
    """A container's probe of a kind."""
    found: dict[str, Any] | None = container.get(f"{kind}Probe") or None
    return found


def times_of(probe: Mapping[str, Any]) -> ProbeTimes:
    """The numbers of a probe; what is missing or not positive has its default."""
    return ProbeTimes(
        initial_delay_s=float(probe.get("initialDelaySeconds") or 0),
        period_s=float(probe.get("periodSeconds") or 10),
        timeout_s=float(probe.get("timeoutSeconds") or 1),
        failure_count=int(probe.get("failureThreshold") or 3),
        success_count=int(probe.get("successThreshold") or 1),
    )


def first(kind: ProbeKind) -> Tally:
    """What counts before the first outcome: alive, not ready, not known to have started."""
    return Tally({ProbeKind.LIVENESS: True, ProbeKind.READINESS: False, ProbeKind.STARTUP: None}[kind])


def tally(before: Tally, outcome: bool | None, times: ProbeTimes) -> Tally:
    """Count one outcome; None (the probe itself could not be made) changes nothing."""
    if outcome is None:
        return before
    run = before.run + 1 if before.last is outcome else 1
    if run < (times.success_count if outcome else times.failure_count):
        return replace(before, last=outcome, run=run)
    return Tally(outcome, outcome, run)


def is_over(kind: ProbeKind, found: Tally) -> bool:
    """Whether no further probe is made: started up for good, or waiting for the container's restart."""
    if kind is ProbeKind.STARTUP:
        return found.counts is not None
    return kind is ProbeKind.LIVENESS and found.counts is False
