"""The bound for Events."""

from __future__ import annotations

import pytest

from skerry.api.gvk import EVENTS
from skerry.api.status import TooManyRequests
from skerry.apiserver.admission.events import BURST, EventRate
from skerry.apiserver.admission.request import AdmissionRequest
from skerry.apiserver.auth.authn import User
from skerry.apiserver.registry import Kind


def event(component: str, *, is_dry_run: bool = False) -> AdmissionRequest:
    kind = Kind(EVENTS, "event", storage="events")
    obj = {"metadata": {"name": "e"}, "source": {"component": component, "host": "h"}}
    return AdmissionRequest(User("u", ()), kind, "create", "", "default", "e", obj, is_dry_run=is_dry_run)


def test_a_source_that_floods_is_held_back_and_others_are_not() -> None:
    now = [0.0]
    rate = EventRate(lambda: now[0])
    for _ in range(BURST):
        rate(event("kubelet"))
    with pytest.raises(TooManyRequests, match="100 events per second reached for kubelet in namespace default"):
        rate(event("kubelet"))
    rate(event("scheduler"))
    rate(event("kubelet", is_dry_run=True))
    now[0] = 1.0
    for _ in range(100):
        rate(event("kubelet"))
    with pytest.raises(TooManyRequests):
        rate(event("kubelet"))
