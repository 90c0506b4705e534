"""Lists and watches: every resourceVersion mode, pages, streamed lists, Tables and metadata, collections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skerry.base import json

MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIALS = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


def names(listing: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"] for item in listing["items"]]


async def fill(api: Any) -> tuple[int, int]:
    """Two maps, then a third; revisions after the second and after the third."""
    for name in ("a", "b"):
        _, made = await api.ask("POST", MAPS, {"metadata": {"name": name, "labels": {"n": name}}})
    _, last = await api.ask("POST", MAPS, {"metadata": {"name": "c", "labels": {"n": "c"}}})
    return int(made["metadata"]["resourceVersion"]), int(last["metadata"]["resourceVersion"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a", "b", "c"]),
        ("resourceVersion=0", ["a", "b", "c"]),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan", ["a", "b", "c"]),
        ("resourceVersion={old}", ["a", "b", "c"]),
        ("resourceVersion={old}&resourceVersionMatch=NotOlderThan", ["a", "b", "c"]),
        ("resourceVersion={old}&resourceVersionMatch=NotOlderThan&limit=2", ["a", "b"]),
        ("resourceVersion={old}&resourceVersionMatch=Exact", ["a", "b"]),
        ("resourceVersion={old}&limit=500", ["a", "b"]),
        ("resourceVersion={old}&resourceVersionMatch=Exact&limit=1", ["a"]),
        ("labelSelector=n%20in%20(a,c)", ["a", "c"]),
        ("labelSelector=n!=a", ["b", "c"]),
        ("fieldSelector=metadata.name=b", ["b"]),
    ],
)
async def test_what_a_list_shows(api: Any, query: str, expected: list[str]) -> None:
    old, _ = await fill(api)
    status, found = await api.ask("GET", f"{MAPS}?{query.format(old=old)}")
    assert (status, names(found)) == (200, expected)


@pytest.mark.parametrize(
    ("query", "code", "part"),
    [
        ("resourceVersion=abc", 400, "invalid resource version"),
        ("resourceVersion=-1", 400, "invalid resource version"),
        ("resourceVersion=99999999999999999999", 400, "value out of range"),
        ("resourceVersionMatch=Exact", 422, "forbidden unless resourceVersion is provided"),
        ("resourceVersion=1&resourceVersionMatch=Newest", 422, 'supported values: "Exact", "NotOlderThan", ""'),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422, 'forbidden for resourceVersion "0"'),
        ("resourceVersion={future}&resourceVersionMatch=NotOlderThan", 504, "Too large resource version"),
        ("resourceVersion={future}", 504, "Too large resource version"),
        ("continue=nonsense", 400, "continue key is not valid"),
        ("continue=x&resourceVersion=1", 400, "not allowed when using continue"),
        ("sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list"),
        ("limit=many", 400, "limit"),
        ("labelSelector=a=b=c", 400, "expected: ',' or 'end of string'"),
        ("labelSelector=!!a", 400, "unable to parse requirement"),
        ("fieldSelector=data.x=1", 400, "field label not supported|not a known field selector"),
    ],
)
async def test_what_a_list_refuses(api: Any, query: str, code: int, part: str) -> None:
    _, last = await fill(api)
    async with api.open("GET", f"{MAPS}?{query.format(future=last + 1000)}") as answer:
        body = json.loads(await answer.read())
        assert answer.status == code
        assert any(each in body["message"] for each in part.split("|")), body["message"]
        if code == 504:
            assert answer.headers["Retry-After"] == "1"
            assert body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_pages_show_one_state(api: Any) -> None:
    await fill(api)
    _, first = await api.ask("GET", f"{MAPS}?limit=2")
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["a", "b"], 1)
    await api.ask("DELETE", f"{MAPS}/c")
    await api.ask("POST", MAPS, {"metadata": {"name": "d"}})
    _, second = await api.ask("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert names(second) == ["c"]
    assert second["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}
    _, selected = await api.ask("GET", f"{MAPS}?limit=1&labelSelector=n")
    assert "remainingItemCount" not in selected["metadata"]


async def test_an_expired_page_can_go_on_with_the_newest_state(site: Any, api: Any) -> None:
    await fill(api)
    _, first = await api.ask("GET", f"{MAPS}?limit=1")
    await api.ask("DELETE", f"{MAPS}/b")
    site.core.store.collection("configmaps").ring.floor_rv = site.core.store.rv
    status, gone = await api.ask("GET", f"{MAPS}?limit=1&continue={first['metadata']['continue']}")
    assert (status, gone["reason"]) == (410, "Expired")
    _, rest = await api.ask("GET", f"{MAPS}?continue={gone['metadata']['continue']}")
    assert names(rest) == ["c"]
    status, exact = await api.ask("GET", f"{MAPS}?resourceVersion=2&resourceVersionMatch=Exact")
    assert (status, exact["message"]) == (410, "The resourceVersion for the provided list is too old.")


async def test_tables_and_metadata_of_lists(api: Any) -> None:
    await fill(api)
    _, table = await api.ask("GET", f"{MAPS}?limit=2", Accept=TABLE)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert [row["cells"][:2] for row in table["rows"]] == [["a", 0], ["b", 0]]
    _, plain = await api.ask("GET", f"{MAPS}/a")
    assert table["rows"][0]["object"] == {
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": plain["metadata"],
    }  # fmt: skip
    assert table["metadata"]["remainingItemCount"] == 1
    _, whole = await api.ask("GET", f"{MAPS}?includeObject=Object", Accept=TABLE)
    assert whole["rows"][0]["object"]["kind"] == "ConfigMap"
    _, bare = await api.ask("GET", f"{MAPS}?includeObject=None", Accept=TABLE)
    assert "object" not in bare["rows"][0]
    _, metas = await api.ask("GET", MAPS, Accept=PARTIALS)
    assert (metas["kind"], metas["items"][2]["metadata"]["name"]) == ("PartialObjectMetadataList", "c")
    assert metas["items"][0]["metadata"] == plain["metadata"]
    assert (await api.ask("GET", MAPS, Accept="application/json;as=Nonsense;v=v1;g=meta.k8s.io"))[0] == 406


async def lines(answer: Any, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        return [json.loads(await answer.content.readline()) for _ in range(count)]


async def test_a_streamed_list_ends_with_a_bookmark_and_goes_on(api: Any) -> None:
    await fill(api)
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with api.open("GET", f"{MAPS}?{query}", headers={"Accept": PARTIAL}) as answer:
        await api.ask("DELETE", f"{MAPS}/a")
        seen = await lines(answer, 5)
    assert [event["type"] for event in seen] == ["ADDED", "ADDED", "ADDED", "BOOKMARK", "DELETED"]
    assert {event["object"]["kind"] for event in seen} == {"PartialObjectMetadata"}
    mark = seen[3]["object"]["metadata"]
    assert mark["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["resourceVersion"]) >= int(seen[2]["object"]["metadata"]["resourceVersion"])


async def test_a_table_watch_names_its_columns_once(api: Any) -> None:
    await fill(api)
    async with api.open("GET", f"{MAPS}?watch=1", headers={"Accept": TABLE}) as answer:
        first, second = await lines(answer, 2)
    assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["object"]["columnDefinitions"] is None
    row = second["object"]["rows"][0]
    assert second["object"]["metadata"]["resourceVersion"] == row["object"]["metadata"]["resourceVersion"]


async def test_all_watchers_see_one_order_and_share_their_texts(api: Any) -> None:
    async with api.open("GET", f"{MAPS}?watch=1") as one, api.open("GET", f"{MAPS}?watch=1") as two:
        async with api.open("GET", f"{MAPS}?watch=1&labelSelector=n") as narrow:
            await fill(api)
            await api.ask("PATCH", f"{MAPS}/b", {"metadata": {"labels": None}}, kind="application/merge-patch+json")
            a, b, c = await lines(one, 4), await lines(two, 4), await lines(narrow, 4)
    assert a == b
    assert [event["type"] for event in a] == ["ADDED", "ADDED", "ADDED", "MODIFIED"]
    assert [event["type"] for event in c] == ["ADDED", "ADDED", "ADDED", "DELETED"]
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in a]
    assert revisions == sorted(revisions)


async def test_collections_are_deleted_by_selector_and_for_trial(api: Any) -> None:
    await fill(api)
    status, trial = await api.ask("DELETE", f"{MAPS}?labelSelector=n%20in%20(a,b)&dryRun=All")
    assert (status, names(trial)) == (200, ["a", "b"])
    status, gone = await api.ask("DELETE", f"{MAPS}?labelSelector=n%20in%20(a,b)", {"propagationPolicy": "Background"})
    assert (status, gone["kind"], names(gone)) == (200, "ConfigMapList", ["a", "b"])
    _, left = await api.ask("GET", MAPS)
    assert names(left) == ["c"]
    options = {"kind": "DeleteOptions", "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "dryRun": ["All"]}
    status, body = await api.ask("DELETE", f"{MAPS}/c", options)
    assert (status, body["status"]) == (200, "Success")
    for wrong in ("dryRun=Some", "propagationPolicy=Sideways", "gracePeriodSeconds=soon"):
        assert (await api.ask("DELETE", f"{MAPS}/c?{wrong}"))[0] in (400, 422)
    assert (await api.ask("GET", f"{MAPS}/c"))[0] == 200
