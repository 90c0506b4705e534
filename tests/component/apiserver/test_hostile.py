"""Hostile requests at the API server: each is refused with its reason, and nothing grows or stalls."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from skerry.base import json

MAPS = "/api/v1/namespaces/default/configmaps"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def test_copies_of_a_json_patch_cannot_grow_the_object_without_bounds(api: Any) -> None:
    await api.ask("POST", MAPS, {"metadata": {"name": "seed"}, "data": {"a": "x" * 1000}})
    doubling = [{"op": "copy", "from": "/data", "path": f"/data/k{number}"} for number in range(60)]
    headers = {"Content-Type": "application/json-patch+json"}
    async with asyncio.timeout(5):
        async with api.open("PATCH", f"{MAPS}/seed", data=json.dumps(doubling), headers=headers) as response:
            assert response.status == 413
            assert "copy" in (await response.json())["message"]
    fair = [{"op": "copy", "from": "/data/a", "path": "/data/b"}, {"op": "remove", "path": "/data/a"}]
    async with api.open("PATCH", f"{MAPS}/seed", data=json.dumps(fair), headers=headers) as response:
        assert (response.status, (await response.json())["data"]) == (200, {"b": "x" * 1000})


def _crd(pattern: str) -> dict[str, Any]:
    field = {"type": "object", "properties": {"s": {"type": "array", "items": {"type": "string", "pattern": pattern}}}}
    schema = {"type": "object", "properties": {"spec": field}}
    return {
        "metadata": {"name": "locks.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "locks", "singular": "lock", "kind": "Lock", "listKind": "LockList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?=a)b", "((a{1000}){1000}){1000}", "((", "a)?(b", "a\\", "[a"])
async def test_patterns_that_only_a_backtracking_engine_knows_are_refused(api: Any, pattern: str) -> None:
    status, body = await api.ask("POST", CRDS, _crd(pattern))
    assert status == 422
    assert "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[s].items.pattern" in body["message"]


async def test_a_pattern_that_explodes_elsewhere_is_fine(api: Any) -> None:
    assert (await api.ask("POST", CRDS, _crd("^(a+)+$|(?i)b")))[0] == 201


async def test_a_large_yaml_text_does_not_stall_other_requests(api: Any) -> None:
    text = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: large}\ndata:\n"
    text += "".join(f'  k{number}: "v"\n' for number in range(20_000))
    headers = {"Content-Type": "application/yaml"}

    async def send() -> int:
        async with api.open("POST", MAPS, data=text, headers=headers) as response:
            return int(response.status)

    sending = asyncio.ensure_future(send())
    slowest_s = 0.0
    while not sending.done():
        started_s = time.monotonic()
        assert (await api.ask("GET", "/api/v1/nodes"))[0] == 200
        slowest_s = max(slowest_s, time.monotonic() - started_s)
    assert await sending == 201
    assert slowest_s < 0.7


MIRROR = {"kubernetes.io/config.mirror": "hash"}


async def test_a_mirror_pod_gets_no_service_account(api: Any) -> None:
    pods, spec = "/api/v1/namespaces/default/pods", {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
    pod = {"metadata": {"name": "mirror", "annotations": MIRROR}, "spec": spec}
    status, made = await api.ask("POST", pods, pod)
    assert status == 201
    assert "serviceAccountName" not in made["spec"] and not made["spec"].get("volumes")
    token = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    for more in ({"serviceAccountName": "default"}, {"serviceAccount": "default"}, {"volumes": [token]}):
        status, refused = await api.ask("POST", pods, {"metadata": pod["metadata"], "spec": spec | more})
        assert (status, "a mirror pod may not" in refused["message"]) == (403, True)


@pytest.mark.parametrize("value", [1, None, [], "x"])
async def test_a_patch_that_leaves_no_object_is_a_bad_request(api: Any, value: Any) -> None:
    await api.ask("POST", MAPS, {"metadata": {"name": "seed"}})
    patch = json.dumps([{"op": "replace", "path": "", "value": value}])
    headers = {"Content-Type": "application/json-patch+json"}
    async with api.open("PATCH", f"{MAPS}/seed", data=patch, headers=headers) as response:
        assert response.status == 400
        assert "no object" in (await response.json())["message"]
