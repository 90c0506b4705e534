"""Events end after their time; what is seen again stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry.api import gvk
from skerry.api.meta import rfc3339
from skerry.apiserver.expiry import EventExpiry
from skerry.base.aio.clock import SystemClock


def event(name: str, **times: str) -> dict[str, Any]:
    about = {"kind": "Pod", "name": "p", "namespace": "default"}
    return {
        "metadata": {"name": name},
        "involvedObject": about,
        "reason": "R",
        "message": "m",
        "type": "Normal",
        **times,
    }


async def test_old_events_go(serve: Callable[..., Any], client: Callable[..., Any]) -> None:
    clock = SystemClock()
    site = await serve()
    api, place = client(site), gvk.EVENTS.path("default")
    now_s = clock.now_s()
    long_ago, lately = rfc3339(now_s - 7200), rfc3339(now_s - 600)
    for name, times in (
        ("old", {"firstTimestamp": long_ago, "lastTimestamp": long_ago}),
        ("seen-again", {"firstTimestamp": long_ago, "lastTimestamp": lately}),
        ("new", {}),
    ):
        assert (await api.ask("POST", place, event(name, **times)))[0] == 201
    site.core.store.collection("events")
    expiry = EventExpiry(site.core.store, clock=Later(0), ttl_s=3600)
    assert await expiry.sweep() == 0  # the server made all of them a moment ago
    expiry = EventExpiry(site.core.store, clock=Later(3601), ttl_s=3600)
    patch = {"lastTimestamp": rfc3339(now_s + 3000)}
    await api.ask("PATCH", f"{place}/seen-again", patch, kind="application/merge-patch+json")
    assert await expiry.sweep() == 2
    _, left = await api.ask("GET", place)
    assert [item["metadata"]["name"] for item in left["items"]] == ["seen-again"]
    assert await EventExpiry(site.core.store, clock=Later(9e9), ttl_s=0).sweep() == 0


class Later(SystemClock):
    """A clock that is ahead."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s

    def now_s(self) -> float:
        return super().now_s() + self._ahead_s


async def test_pages_of_an_old_list_end_and_go_on_in_the_newest_state(api: Any, site: Any) -> None:
    place = gvk.CONFIGMAPS.path("default")
    for name in ("a", "b", "c"):
        await api.ask("POST", place, {"metadata": {"name": name}})
    _, page = await api.ask("GET", f"{place}?limit=1")
    token = page["metadata"]["continue"]
    assert (await api.ask("GET", f"{place}?limit=1&continue={token}"))[0] == 200
    await api.ask("DELETE", f"{place}/b")
    site.core.store.oldest_page_rv = site.core.store.rv
    status, gone = await api.ask("GET", f"{place}?limit=1&continue={token}")
    assert (status, gone["reason"]) == (410, "Expired")
    _, rest = await api.ask("GET", f"{place}?limit=5&continue={gone['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c"]
