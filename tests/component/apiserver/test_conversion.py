"""A custom resource with versions of different form: a webhook process turns them into each other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.component.apiserver.custom_kit import CRDS, define, definition
from tests.component.apiserver.webhook_kit import Hook, running

V1, V2 = (f"/apis/q.io/{version}/namespaces/default/gizmos" for version in ("v1", "v2"))
MERGE = "application/merge-patch+json"


@pytest.fixture
async def hook(api: Any, tmp_path: Path) -> AsyncIterator[Hook]:
    async with running(tmp_path, api) as found:
        yield found


def schema(*names: str) -> dict[str, Any]:
    spec = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    return {"type": "object", "properties": {"spec": spec}}


def gizmos(hook: Hook, *, stores: str = "v1", strategy: str = "Webhook") -> dict[str, Any]:
    forms = {"v1": schema("hostPort"), "v2": schema("host", "port")}
    versions = [
        {"name": name, "served": True, "storage": name == stores, "schema": {"openAPIV3Schema": form}}
        for name, form in forms.items()
    ]
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": hook.service("/convert")}
    conversion: dict[str, Any] = {"strategy": strategy}
    if strategy == "Webhook":
        conversion["webhook"] = webhook
    return definition(forms["v1"], versions=versions, conversion=conversion)


def gizmo(version: str, name: str, **spec: str) -> dict[str, Any]:
    return {"apiVersion": f"q.io/{version}", "kind": "Gizmo", "metadata": {"name": name}, "spec": spec}


async def test_objects_are_seen_and_written_in_every_version(site: Any, api: Any, hook: Hook) -> None:
    await define(site, api, gizmos(hook))
    status, made = await api.ask("POST", V2, gizmo("v2", "new", host="h", port="80"))
    assert (status, made["spec"], made["apiVersion"]) == (201, {"host": "h", "port": "80"}, "q.io/v2"), made
    status, seen = await api.ask("GET", f"{V1}/new")
    assert (seen["spec"], seen["apiVersion"], "@version" in seen) == ({"hostPort": "h:80"}, "q.io/v1", False)
    assert seen["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert (await api.ask("POST", V1, gizmo("v1", "old", hostPort="g:81")))[0] == 201
    status, listed = await api.ask("GET", V2)
    assert [item["spec"] for item in listed["items"]] == [{"host": "h", "port": "80"}, {"host": "g", "port": "81"}]
    status, patched = await api.ask("PATCH", f"{V2}/old", {"spec": {"port": "99"}}, kind=MERGE)
    assert (status, patched["spec"]) == (200, {"host": "g", "port": "99"})
    assert (await api.ask("GET", f"{V1}/old"))[1]["spec"] == {"hostPort": "g:99"}
    assert (await api.ask("DELETE", f"{V2}/old"))[0] == 200


async def test_a_new_storage_version_leaves_what_is_stored_readable(site: Any, api: Any, hook: Hook) -> None:
    await define(site, api, gizmos(hook))
    assert (await api.ask("POST", V1, gizmo("v1", "a", hostPort="h:1")))[0] == 201
    await define(site, api, gizmos(hook, stores="v2"), is_new=False)
    async with asyncio.timeout(10):
        while site.core.registry.find("q.io", "v1", "gizmos").custom.storage_version != "v2":
            await asyncio.sleep(0.005)
    assert (await api.ask("POST", V1, gizmo("v1", "b", hostPort="h:2")))[0] == 201
    _, listed = await api.ask("GET", V2)
    assert [item["spec"]["port"] for item in listed["items"]] == ["1", "2"]
    _, crd = await api.ask("GET", f"{CRDS}/gizmos.q.io")
    assert crd["status"]["storedVersions"] == ["v1", "v2"]


async def test_a_watch_shows_the_version_that_it_asks_for(site: Any, api: Any, hook: Hook) -> None:
    await define(site, api, gizmos(hook))
    async with api.open("GET", f"{V2}?watch=1") as answer:
        assert (await api.ask("POST", V1, gizmo("v1", "w", hostPort="h:5")))[0] == 201
        async with asyncio.timeout(10):
            event = json.loads(await answer.content.readline())
    assert (event["type"], event["object"]["spec"]) == ("ADDED", {"host": "h", "port": "5"})


def selectable(hook: Hook) -> dict[str, Any]:
    """Stored as v1, selected by the fields of each version."""
    crd = gizmos(hook)
    for version, paths in zip(crd["spec"]["versions"], (["hostPort"], ["host", "port"]), strict=True):
        version["selectableFields"] = [{"jsonPath": f".spec.{path}"} for path in paths]
    return crd


async def names(api: Any, path: str, selector: str, **query: str) -> list[str]:
    more = "".join(f"&{key}={value}" for key, value in query.items())
    status, listed = await api.ask("GET", f"{path}?fieldSelector={selector}{more}")
    assert status == 200, listed
    return [item["metadata"]["name"] for item in listed["items"]]


async def test_field_selectors_read_the_version_that_is_asked_for(site: Any, api: Any, hook: Hook) -> None:
    await define(site, api, selectable(hook))
    for name, host, port in (("a", "h1", "80"), ("b", "h1", "8080"), ("c", "h2", "80")):
        assert (await api.ask("POST", V2, gizmo("v2", name, host=host, port=port)))[0] == 201
    assert await names(api, V2, "spec.host%3Dh1") == ["a", "b"]
    assert await names(api, V2, "spec.host%3Dh1", limit="1") == ["a", "b"]
    assert await names(api, V2, "spec.host%3Dh1,spec.port%3D80") == ["a"]
    assert await names(api, V2, "spec.host%3Dh1,metadata.name!%3Da") == ["b"]
    assert await names(api, V1, "spec.hostPort%3Dh1:8080") == ["b"]
    assert (await api.ask("DELETE", f"{V2}?fieldSelector=spec.host%3Dh1"))[0] == 200
    assert await names(api, V1, "") == ["c"]


async def test_watches_with_field_selectors_read_the_version_that_they_ask_for(site: Any, api: Any, hook: Hook) -> None:
    await define(site, api, selectable(hook))
    assert (await api.ask("POST", V2, gizmo("v2", "a", host="h1", port="80")))[0] == 201
    _, listed = await api.ask("GET", V2)
    for since, seen in (("", ["ADDED a h1"]), ("&resourceVersion=", [])):
        path = f"{V2}?watch=1&fieldSelector=spec.host%3Dh1{since}"
        path += listed["metadata"]["resourceVersion"] if since else ""
        async with api.open("GET", path) as answer:
            assert (await api.ask("POST", V2, gizmo("v2", "b", host="h2", port="80")))[0] == 201
            for host in ("h1", "h1", "h3"):
                change = {"spec": {"host": host, "port": f"{host}1"}, "metadata": {"labels": {"at": host}}}
                assert (await api.ask("PATCH", f"{V2}/b", change, kind=MERGE))[0] == 200
                assert (await api.ask("PATCH", f"{V2}/b", {"spec": {"port": "9"}}, kind=MERGE))[0] == 200
            assert (await api.ask("DELETE", f"{V2}/b"))[0] == 200
            assert (await api.ask("PATCH", f"{V2}/a", {"spec": {"port": "81"}}, kind=MERGE))[0] == 200
            told = []
            async with asyncio.timeout(30):
                while not told or told[-1] != "MODIFIED a h1":
                    event = json.loads(await answer.content.readline())
                    found = event["object"]
                    told.append(f"{event['type']} {found['metadata']['name']} {found['spec']['host']}")
        changes = ["ADDED b h1", "MODIFIED b h1", "MODIFIED b h1", "MODIFIED b h1", "DELETED b h1", "MODIFIED a h1"]
        assert told == [*seen, *changes]
        assert (await api.ask("PATCH", f"{V2}/a", {"spec": {"port": "80"}}, kind=MERGE))[0] == 200
        _, listed = await api.ask("GET", V2)


async def test_a_conversion_that_fails_is_told(site: Any, api: Any, hook: Hook) -> None:
    await define(site, api, gizmos(hook))
    assert (await api.ask("POST", V1, gizmo("v1", "a", hostPort="h:1")))[0] == 201
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    assert (await api.ask("DELETE", f"{slices}/hook-1"))[0] == 200
    status, answer = await api.ask("GET", f"{V2}/a")
    assert (status, answer["message"]) == (
        500,
        'conversion webhook for q.io/v1, Kind=Gizmo failed: no endpoints available for service "hook"',
    )
    assert (await api.ask("GET", f"{V1}/a"))[0] == 200


async def test_definitions_of_conversions_are_checked(api: Any, hook: Hook) -> None:
    crd = gizmos(hook)
    del crd["spec"]["conversion"]["webhook"]
    status, answer = await api.ask("POST", CRDS, crd)
    assert (status, answer["details"]["causes"][0]["field"]) == (422, "spec.conversion.webhook.clientConfig")
    crd = gizmos(hook)
    crd["spec"]["conversion"]["webhook"]["conversionReviewVersions"] = ["v9"]
    status, answer = await api.ask("POST", CRDS, crd)
    assert (status, answer["details"]["causes"][0]["field"]) == (
        422,
        "spec.conversion.webhook.conversionReviewVersions",
    )


async def test_deprecated_versions_warn(site: Any, api: Any, hook: Hook) -> None:
    crd = gizmos(hook, strategy="None")
    crd["spec"]["versions"][0] |= {"deprecated": True}
    await define(site, api, crd)
    async with api.open("GET", V1) as answer:
        assert answer.headers["Warning"] == '299 - "q.io/v1 Gizmo is deprecated"'
    async with api.open("GET", V2) as answer:
        assert "Warning" not in answer.headers
