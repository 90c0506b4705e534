"""A bound for Events, so that one noisy component cannot fill the store.

Each source (namespace and reporting component) has a bucket; buckets are forgotten, the oldest first.

Source of the idea: kubernetes plugin/pkg/admission/eventratelimit (v1.36).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from skerry.api.status import TooManyRequests
from skerry.apiserver.admission.request import AdmissionRequest

BURST = 2000
PER_SECOND = 100.0
MOST_SOURCES = 4096


class EventRate:
    """Answers 429 to a source that reports more than ``PER_SECOND`` events for long.

    Args:
        now_s: a clock that never goes back.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def __call__(self, request: AdmissionRequest) -> None:
        if request.kind.storage != "events" or request.operation not in ("create", "update") or request.is_dry_run:
            return
        source = request.obj.get("source") or {}
        component = str(request.obj.get("reportingComponent") or source.get("component") or "")
        key = (request.namespace, f"{component}@{source.get('host', '')}")
        now = self._now_s()
        level, since = self._buckets.pop(key, (float(BURST), now))
        level = min(float(BURST), level + max(0.0, now - since) * PER_SECOND)
        is_full = level < 1.0
        self._buckets[key] = (level if is_full else level - 1.0, now)
        while len(self._buckets) > MOST_SOURCES:
            self._buckets.popitem(last=False)
        if is_full:
            raise TooManyRequests(
                f"limit of {PER_SECOND:g} events per second reached for {component or 'this source'} "
                f"in namespace {request.namespace}",
                details={"retryAfterSeconds": 1},
            )
