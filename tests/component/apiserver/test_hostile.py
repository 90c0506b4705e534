"""Hostile requests at the API server: each is refused with its reason, and nothing grows or stalls."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry.apiserver.http import ApiServer
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
    assert "openAPIV3Schema.properties[spec].properties[s].items.pattern" in body["message"]


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
    answered = 0
    while not sending.done():
        assert (await api.ask("GET", "/api/v1/nodes"))[0] == 200
        answered += 1
    assert await sending == 201
    assert answered >= 5  # read in one piece, it would leave room for the one that came before it


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


SLEEPERS = """
import socket, ssl, sys
count, host, port, ca, cert, key, path = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(cert, key)
held = []
for _ in range(int(count)):
    plain = socket.create_connection((host, int(port)))
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    secure = context.wrap_socket(plain, server_hostname=host)
    secure.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n".encode())
    assert secure.recv(12) == b"HTTP/1.1 200"
    held.append(secure)
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.asynccontextmanager
async def sleepers(site: Any, count: int, path: str) -> AsyncIterator[None]:
    """So many clients in another process, which read the status of their answer and no more."""
    host, port = site.url.removeprefix("https://").split(":")
    files = [str(name) for name in (site.files.ca_cert, site.files.admin_cert, site.files.admin_key)]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SLEEPERS, str(count), host, port, *files, path,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        assert await asyncio.wait_for(child.stdout.readline(), 45) == b"ready\n"
        yield
    finally:
        child.stdin.close()
        await child.wait()


@pytest.mark.timeout(60)
async def test_watchers_that_read_nothing_cost_little(site: Any, api: Any) -> None:
    body = {"metadata": {"name": "large"}, "data": {"text": "x" * 900_000}}
    async with sleepers(site, 60, f"{MAPS}?watch=1"):
        before, seen = rss_mib(), 0
        async with api.open("GET", f"{MAPS}?watch=1", read_bufsize=8 * 1024 * 1024) as watched:
            assert (await api.ask("POST", MAPS, body))[0] == 201
            seen += len(await asyncio.wait_for(watched.content.readline(), 20)) > 900_000
            for number in range(5):
                body["data"]["number"] = str(number)
                assert (await api.ask("PUT", f"{MAPS}/large", body))[0] == 200
                seen += len(await asyncio.wait_for(watched.content.readline(), 20)) > 900_000
        assert seen == 6
        assert rss_mib() - before < 75


@pytest.mark.timeout(60)
async def test_bodies_that_never_end_and_answers_that_nobody_reads_have_a_bound(site: Any, api: Any) -> None:
    tight = ApiServer(site.core, body_room_bytes=8_000_000, answer_room_bytes=4_000_000)
    port = await tight.listen(
        "127.0.0.1", 0, cert_file=site.files.cert, key_file=site.files.key, client_ca_file=site.files.ca_cert
    )
    opened = []

    async def begin(head: str) -> asyncio.StreamReader:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        reader, writer = await asyncio.open_connection(
            sock=plain, ssl=site.tls(), server_hostname="127.0.0.1", limit=1024
        )
        opened.append(writer)
        writer.write(f"{head}\r\nHost: x\r\n".encode())
        return reader

    try:
        readers = [await begin(f"POST {MAPS} HTTP/1.1\r\nContent-Length: 3000000") for _ in range(3)]
        for writer in opened:
            writer.write(b"\r\n{")
        heads = [asyncio.ensure_future(reader.readuntil(b"\r\n\r\n")) for reader in readers]
        done, waiting = await asyncio.wait(heads, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        answer = done.pop().result()
        assert (b" 429 " in answer.splitlines()[0], b"Retry-After: 1" in answer, len(waiting)) == (True, True, 2)
        for head in waiting:
            head.cancel()
        small = await begin(f"POST {MAPS} HTTP/1.1\r\nContent-Length: 2")
        opened[-1].write(b"\r\n{}")
        assert b" 422 " in (await asyncio.wait_for(small.readuntil(b"\r\n\r\n"), 10)).splitlines()[0]

        for number in range(7):
            body = {"metadata": {"name": f"m{number}"}, "data": {"text": "x" * 900_000}}
            assert (await api.ask("POST", MAPS, body))[0] == 201
        idle = await begin(f"GET {MAPS} HTTP/1.1")
        opened[-1].write(b"\r\n")
        assert b" 200 " in (await asyncio.wait_for(idle.readline(), 10))
        crowded = await begin(f"GET {MAPS} HTTP/1.1")
        opened[-1].write(b"\r\n")
        assert b" 429 " in (await asyncio.wait_for(crowded.readline(), 10))
        opened[-2].transport.abort()
        status, listed = await api.ask("GET", MAPS)
        assert (status, len(listed["items"])) == (200, 7)
    finally:
        for writer in opened:
            writer.transport.abort()
        await tight.aclose()


def rss_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
