"""The client of people and scripts against a real API server over TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.kube.served import served

from skerry.api.status import BadRequest, NotFound
from skerry.base.errors import ConfigError
from skerry.sdk.client import LAST_APPLIED, Client


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with served(tmp_path) as transport:
        yield Client(transport)


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}, "data": data}


@pytest.mark.parametrize(
    ("word", "plural"),
    [("po", "pods"), ("Pod", "pods"), ("deploy", "deployments"), ("deployments.apps", "deployments"), ("no", "nodes"),
     ("deployments.v1.apps", "deployments"), ("endpointslice", "endpointslices")],
)  # fmt: skip
async def test_words_for_kinds(client: Client, word: str, plural: str) -> None:
    assert (await client.resolve(word)).plural == plural


async def test_an_unknown_word_is_refused(client: Client) -> None:
    with pytest.raises(ConfigError, match="resource type"):
        await client.resolve("gizmos")
    with pytest.raises(ConfigError, match="no matches for kind"):
        await client.apply({"apiVersion": "x/v1", "kind": "Gizmo", "metadata": {"name": "g"}})


async def test_apply_creates_configures_removes_and_leaves_alone(client: Client) -> None:
    assert (await client.apply(config_map(a="1", b="2")))[1] == "created"
    assert (await client.apply(config_map(a="1", b="2")))[1] == "unchanged"
    found, what = await client.apply(config_map(a="3"))
    assert (what, found["data"]) == ("configured", {"a": "3"})
    assert LAST_APPLIED in found["metadata"]["annotations"]
    maps = await client.resolve("cm")
    await client.delete(maps, "c")
    with pytest.raises(NotFound):
        await client.get(maps, "c")


async def test_members_that_a_kind_does_not_have_are_refused_or_told(client: Client) -> None:
    odd = {**config_map(a="1"), "dataa": {"b": "2"}}
    with pytest.raises(BadRequest, match='unknown field "dataa"'):
        await client.apply(odd)
    assert (await client.apply(odd, validation="Warn"))[1] == "created"
    assert client.warnings == ['unknown field "dataa"']
    with pytest.raises(BadRequest, match='unknown field "datab"'):
        await client.apply({**config_map(a="2"), "datab": {}})
    client.warnings.clear()
    assert (await client.apply({**odd, "data": {"a": "3"}}, validation="Ignore"))[1] == "configured"
    assert client.warnings == []


async def test_tables_come_from_the_server(client: Client) -> None:
    await client.apply(config_map(a="1"))
    table = await client.table(await client.resolve("cm"), label_selector="")
    assert table["kind"] == "Table"
    assert [row["cells"][0] for row in table["rows"]] == ["c"]
    assert table["columnDefinitions"][0]["name"] == "Name"


async def test_logs_of_a_missing_pod_are_an_error(client: Client) -> None:
    with pytest.raises(NotFound):
        async for _ in client.logs("ghost"):
            pass
