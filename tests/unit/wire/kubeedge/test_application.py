"""The Application envelope."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.base import json
from skerry.wire.errors import Malformed
from skerry.wire.kubeedge import application
from skerry.wire.kubeedge.application import Key


def encoded(value: Any) -> str:
    return base64.b64encode(json.dumps(value)).decode()


def test_a_request_of_a_go_edge() -> None:
    # Shape of a captured list request.
    asked = application.read(
        {
            "ID": "abc", "Key": "/example.com/v1/widgets/default/null", "Verb": "list", "Nodename": "edge-1",
            "Option": "e30=", "ReqBody": None, "Subresource": "", "RespBody": None, "Status": "InApplying",
            "Reason": "", "Error": {"ErrStatus": {"metadata": {}}}, "Timestamp": "0001-01-01T00:00:00Z",
        }
    )  # fmt: skip
    assert asked.key == Key("example.com", "v1", "widgets", "default", "")
    assert (asked.verb, asked.option, asked.body) == ("list", {}, None)
    answer = application.approved(asked, "edge-2", {"items": []})
    assert (answer["Status"], answer["Nodename"], answer["ID"]) == ("Approved", "edge-2", "abc")
    assert json.loads(base64.b64decode(answer["RespBody"])) == {"items": []}
    assert application.approved(asked, "edge-2")["RespBody"] is None
    refused = application.rejected(asked, "edge-2", {"message": "no", "code": 403})
    assert (refused["Status"], refused["Reason"], refused["RespBody"]) == ("Rejected", "no", None)
    assert refused["Error"] == {"ErrStatus": {"message": "no", "code": 403}}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("/core/v1/pods/default/web", Key("", "v1", "pods", "default", "web")),
        ("/core/v1/nodes/null/null", Key("", "v1", "nodes")),
        ("/version", Key(path="/version")),
        ("/apis/example.com/v1", Key(path="/apis/example.com/v1")),
    ],
)
def test_keys(text: str, key: Key) -> None:
    assert application.parse_key(text) == key


@pytest.mark.parametrize("text", ["", "/", "/core/v1/pods", "/a/b/c/d/e/f", "/a//c/d/e", "/a/b/c/d/\n"])
def test_other_keys_are_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        application.parse_key(text)


@pytest.mark.parametrize(
    "member", [{"Option": "!"}, {"Option": encoded([1])}, {"Option": 1}, {"ReqBody": "e30"}, {"Verb": 1}, {"Key": "x"}]
)
def test_other_requests_are_malformed(member: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        application.read({"Key": "/core/v1/pods/default/web", "Verb": "get", **member})
    with pytest.raises(Malformed):
        application.read([member])


def test_patches() -> None:
    def patch(option: dict[str, Any]) -> Any:
        return application.patch_of(
            application.read({"Key": "/core/v1/pods/a/b", "Verb": "patch", "Option": encoded(option)})
        )

    data = {"metadata": {"labels": {"a": "b"}}}
    option = {"Name": "web", "PatchType": "application/merge-patch+json", "Data": encoded(data)}
    assert patch(option) == ("web", "merge", data, [])
    assert patch(option | {"Subresources": ["status"]})[3] == ["status"]
    for wrong in ({"PatchType": "x"}, {"Subresources": "status"}, {"Subresources": [1]}, {"Name": 1}):
        with pytest.raises(Malformed):
            patch(option | wrong)


LEAVES = st.none() | st.booleans() | st.text() | st.integers()
NAMES = st.sampled_from(["ID", "Key", "Verb", "Option", "ReqBody", "Subresource", "x"])


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)))
def test_whatever_comes_is_read_or_refused(content: Any) -> None:
    try:
        asked = application.read(content)
    except Malformed:
        return
    assert asked.key.path or asked.key.resource
