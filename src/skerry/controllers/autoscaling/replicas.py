"""How many pods a metric asks for. Pure.

Source of behaviour: kubernetes pkg/controller/podautoscaler/replica_calculator.go (v1.36).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from skerry.api.gvk import Object
from skerry.api.meta import is_deleting, parse_rfc3339
from skerry.api.quantity import milli_cpu
from skerry.base.errors import SkerryError
from skerry.base.values import Struct
from skerry.controllers.objects import condition_of, phase_of

TOLERANCE = 0.1
"""A ratio so near to 1 changes nothing."""
WARM_UP_S, SETTLE_S = 300.0, 30.0
"""CPU of a pod that is not ready counts not at all in the first time after its start, nor when it was never ready."""


class NoMetric(SkerryError):
    """A metric cannot be had or computed; ``reason`` goes into the condition."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def milli(text: str | int | float | None) -> int:
    """A quantity in thousandths; 0 when there is none or it cannot be read."""
    try:
        return milli_cpu(text) if text is not None else 0
    except ValueError:
        return 0


class Groups(Struct, frozen=True):
    """Pods by what is known of them.

    Args:
        counted: names with a value.
        unready: names of those whose value means nothing yet.
        missing: names without a value.
    """

    counted: frozenset[str]
    unready: frozenset[str]
    missing: frozenset[str]


def group(pods: Sequence[Object], values: Mapping[str, int], *, is_cpu: bool, now_s: float) -> Groups:
    """Sort pods; those that end or have failed are left out."""
    counted, unready, missing = set(), set(), set()
    for pod in pods:
        name = pod["metadata"]["name"]
        if is_deleting(pod) or phase_of(pod) == "Failed":
            continue
        if phase_of(pod) == "Pending":
            unready.add(name)
        elif name not in values:
            missing.add(name)
        elif is_cpu and _is_warming_up(pod, now_s):
            unready.add(name)
        else:
            counted.add(name)
    return Groups(frozenset(counted), frozenset(unready), frozenset(missing))


def _is_warming_up(pod: Object, now_s: float) -> bool:
    ready = condition_of(pod, "Ready")
    started_s = parse_rfc3339((pod.get("status") or {}).get("startTime"))
    if ready is None or started_s is None:
        return True
    if ready.get("status") == "True":
        return False
    changed_s = parse_rfc3339(ready.get("lastTransitionTime")) or started_s
    return now_s < started_s + WARM_UP_S or changed_s < started_s + SETTLE_S


def requests_milli(pods: Sequence[Object], resource: str, container: str = "") -> dict[str, int]:
    """What each pod asks of a resource, in thousandths.

    Raises:
        NoMetric: a container does not say.
    """
    found = {}
    for pod in pods:
        total = 0
        for item in pod["spec"].get("containers") or ():
            if container and item["name"] != container:
                continue
            asked = ((item.get("resources") or {}).get("requests") or {}).get(resource)
            if asked is None:
                name = pod["metadata"]["name"]
                text = f"missing request for {resource} in container {item['name']} of Pod {name}"
                raise NoMetric("FailedGetResourceMetric", text)
            total += milli(asked)
        found[pod["metadata"]["name"]] = total
    return found


class Proposal(Struct, frozen=True):
    """What one metric asks for.

    Args:
        replicas: number of pods.
        average_milli: of the pods that were counted.
        utilization: percent of what they ask for; None when the target is a value.
    """

    replicas: int
    average_milli: int
    utilization: int | None = None


def by_utilization(
    current: int, groups: Groups, values: Mapping[str, int], requests: Mapping[str, int], target: int
) -> Proposal:
    """Pods for a target in percent of requests.

    Args:
        current: replicas asked for now.
        groups: the pods.
        values: pod → usage in thousandths.
        requests: pod → request in thousandths.
        target: percent.
    """
    total = sum(requests[name] for name in groups.counted)
    if not groups.counted or not total:
        raise NoMetric("FailedGetResourceMetric", "did not receive metrics for targeted pods (pods might be unready)")
    usage = sum(values[name] for name in groups.counted)
    ratio = 100 * usage / total / target

    def with_guesses(guess: Mapping[str, float]) -> float:
        names = groups.counted | set(guess)
        used = usage + sum(guess[name] * requests[name] for name in guess)
        return 100 * used / max(1, sum(requests[name] for name in names)) / target

    replicas = _replicas(current, groups, ratio, full=max(1.0, target / 100), with_guesses=with_guesses)
    return Proposal(replicas, round(usage / len(groups.counted)), round(100 * usage / total))


def by_value(current: int, groups: Groups, values: Mapping[str, int], target_milli: int) -> Proposal:
    """Pods for a target per pod.

    Args:
        target_milli: in thousandths.
    """
    if not groups.counted:
        raise NoMetric("FailedGetPodsMetric", "did not receive metrics for targeted pods (pods might be unready)")
    usage = sum(values[name] for name in groups.counted)
    ratio = usage / len(groups.counted) / target_milli

    def with_guesses(guess: Mapping[str, float]) -> float:
        used = usage + sum(share * target_milli for share in guess.values())
        return used / len(groups.counted | set(guess)) / target_milli

    replicas = _replicas(current, groups, ratio, full=1.0, with_guesses=with_guesses)
    return Proposal(replicas, round(usage / len(groups.counted)))


def _replicas(current: int, groups: Groups, ratio: float, *, full: float, with_guesses: object) -> int:
    """Be careful with what is not known: it is full when that keeps pods, idle when that adds none."""
    assert callable(with_guesses)
    counts_unready = bool(groups.unready) and ratio > 1.0
    if not counts_unready and not groups.missing:
        return current if abs(1.0 - ratio) <= TOLERANCE else math.ceil(ratio * len(groups.counted))
    guess: dict[str, float] = dict.fromkeys(groups.missing, full if ratio < 1.0 else 0.0)
    if counts_unready:
        guess.update(dict.fromkeys(groups.unready, 0.0))
    careful: float = with_guesses(guess)
    if abs(1.0 - careful) <= TOLERANCE or (ratio < 1.0 < careful) or (ratio > 1.0 > careful):
        return current
    replicas = math.ceil(careful * (len(groups.counted) + len(guess)))
    if (careful < 1.0 and replicas > current) or (careful > 1.0 and replicas < current):
        return current
    return replicas
