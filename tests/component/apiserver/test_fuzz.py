"""Random requests at a real server: whatever comes, it answers with a reason of the client's, and goes on."""

# ruff: noqa: E501 - tables of odd values stand on one line

from __future__ import annotations

import asyncio
import copy
import os
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.component.apiserver.test_hostile import rss_mib

from skerry.base import json

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1.5, 1e308, "", "a", "A_b", "a" * 300, "é\u202e\u0000", "10m",
    "-1Gi", "2026-13-45T99:99:99Z", "{}", [], [None], [[]], [{}], {}, {"": None}, {"a": {"b": {}}}, {"$patch": "delete"},
    {"$patch": "merge"}, {"$retainKeys": ["x"]}, {"$setElementOrder/containers": [{}]}, [{"name": "x"}, {"name": "x"}],
)  # fmt: skip
CONTAINER = {
    "name": "c", "image": "i:1", "env": [{"name": "A", "value": "1"}], "resources": {"limits": {"cpu": "1"}},
    "ports": [{"containerPort": 80}], "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
}  # fmt: skip
TEMPLATE = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [CONTAINER], "volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"a": "b"}},
}
WORKLOAD = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE, "replicas": 1}
RULE = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
SCHEMA = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}}
OBJECTS: dict[str, dict[str, Any]] = {
    "/api/v1/namespaces/default/pods": {**TEMPLATE, "metadata": {"name": "x"}},
    "/api/v1/namespaces/default/configmaps": {"metadata": {"name": "x"}, "data": {"a": "1"}},
    "/api/v1/namespaces/default/secrets": {"metadata": {"name": "x"}, "data": {"a": "MQ=="}, "type": "Opaque"},
    "/api/v1/namespaces/default/services": {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}},
    "/api/v1/namespaces/default/events": {
        "metadata": {"name": "x"}, "involvedObject": {"kind": "Pod", "namespace": "default"}, "reason": "R",
    },
    "/api/v1/nodes": {"metadata": {"name": "x"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
    "/apis/apps/v1/namespaces/default/deployments": {"metadata": {"name": "x"}, "spec": WORKLOAD},
    "/apis/apps/v1/namespaces/default/daemonsets": {"metadata": {"name": "x"}, "spec": WORKLOAD},
    "/apis/batch/v1/namespaces/default/jobs": {"metadata": {"name": "x"}, "spec": {"template": TEMPLATE}},
    "/apis/rbac.authorization.k8s.io/v1/clusterroles": {"metadata": {"name": "x"}, "rules": [RULE]},
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}],
    },
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": {
        "metadata": {"name": "xs.x.io"},
        "spec": {
            "group": "x.io", "scope": "Namespaced", "names": {"plural": "xs", "kind": "X"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}],
        },
    },
    "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices": {
        "metadata": {"name": "x"},
        "spec": {"deviceModelRef": {"name": "m"}, "protocol": {"protocolName": "modbus"}, "properties": [{"name": "t"}]},
    },
}  # fmt: skip
EXPECTED = (b"failed to create typed patch", b"resourceVersion should not be set", b"Too large resource version")
"""Answers of 500 and more that Kubernetes gives to these faults of the client's, too."""
PATCHES = ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml")
SELECTORS = (
    "a=b",
    "a in (b",
    "!a",
    "((",
    "a,,b",
    "a notin ()",
    "\u0000",
    "metadata.name=x",
    "spec.nodeName!=",
    "=",
    "a\\",
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        yield from places(child, (*path, key))


def bent(obj: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A copy with some places made odd."""
    obj = copy.deepcopy(obj)
    for _ in range(rng.randint(1, 3)):
        *way, last = rng.choice(list(places(obj)) or [("metadata",)])
        holder: Any = obj
        try:
            for part in way:
                holder = holder[part]
            how = rng.random()
            if how < 0.7:
                holder[last] = copy.deepcopy(rng.choice(ODD))
            elif how < 0.85 and isinstance(holder, dict):
                holder[f"{last}x"] = holder.pop(last)
            else:
                del holder[last]
        except (KeyError, IndexError, TypeError):
            continue
    return obj


def request(rng: random.Random) -> tuple[str, str, bytes | None, str]:
    """Method, path, body and content type."""
    base, obj = rng.choice(list(OBJECTS.items()))
    name = obj["metadata"]["name"]
    kind = rng.random()
    if kind < 0.3:
        return "POST", base, json.dumps(bent(obj, rng)), "application/json"
    if kind < 0.4:
        return "PUT", f"{base}/{name}", json.dumps(bent(obj, rng)), "application/json"
    if kind < 0.7:
        patch = rng.choice(PATCHES)
        document: Any = bent(obj, rng)
        if patch.startswith("json"):
            operation = rng.choice(("add", "remove", "replace", "test", "move", "copy", "x"))
            way = "/" + "/".join(str(part) for part in rng.choice(list(places(obj))))
            document = [
                {
                    "op": operation,
                    "path": way,
                    "from": rng.choice(("/metadata", "/spec", way)),
                    "value": rng.choice(ODD),
                }
            ]
        elif patch.startswith("apply"):
            document = {
                "apiVersion": base.split("/namespaces")[0].removeprefix("/apis/").removeprefix("/api/"),
                **document,
            }
        sub = rng.choice(("", "", "/status", "/scale", "/nonsense"))
        query = rng.choice(("", "?fieldManager=f", "?fieldManager=f&force=true", "?dryRun=All&fieldManager=g"))
        return "PATCH", f"{base}/{name}{sub}{query}", json.dumps(document), f"application/{patch}"
    if kind < 0.8:
        query = rng.choice(("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "x"))
        value = quote(rng.choice((*SELECTORS, "-1", "99999999999999999999", "e30")), safe="")
        return rng.choice(("GET", "DELETE")), f"{base}?{query}={value}", None, ""
    if kind < 0.9:
        text = bytearray(json.dumps(obj))
        for _ in range(rng.randint(1, 8)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        types = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain")
        body = bytes(text) if rng.random() < 0.6 else b"k8s\x00" + rng.randbytes(rng.randint(0, 80))
        return rng.choice(("POST", "DELETE")), base, body, rng.choice(types)
    path = "/".join(
        rng.choice(("api", "apis", "v1", "%00", "..", "%2e%2e", "namespaces", "pods", "é", "a" * 300, ""))
        for _ in range(6)
    )
    return (
        rng.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")),
        f"/{quote(path, safe='/%')}",
        None,
        "",
    )


async def storm(api: Any, seed: int, count: int) -> list[str]:
    """What was answered with a fault of the server's."""
    rng = random.Random(seed)
    faults = []
    for obj_path, obj in OBJECTS.items():
        await api.ask("POST", obj_path, obj)
    for number in range(count):
        method, path, body, kind = request(rng)
        if "watch" in path:
            continue
        async with asyncio.timeout(10):
            headers = {"Content-Type": kind} if kind else {}
            async with api.open(method, path, data=body, headers=headers) as answer:
                text = await answer.read()
                if answer.status >= 500 and not any(words in text for words in EXPECTED):
                    faults.append(f"{seed}/{number}: {method} {path} {kind} {body!r} -> {answer.status} {text[:300]!r}")
    return faults


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(int(os.environ.get("SKERRY_FUZZ_SEEDS", "2"))))
async def test_random_requests_are_the_clients_fault(api: Any, seed: int) -> None:
    faults = await storm(api, seed, 400)
    assert not faults, "\n".join(faults[:10])
    assert await api.ask("GET", "/readyz") == (200, "ok")


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_long_storm_leaves_no_memory_behind(api: Any) -> None:
    await storm(api, 1000, 1000)
    before, faults = rss_mib(), []
    for seed in range(1001, 1016):
        faults += await storm(api, seed, 1000)
    assert not faults, "\n".join(faults[:10])
    assert rss_mib() - before < 60
