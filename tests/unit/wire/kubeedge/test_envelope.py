"""Envelopes: recorded frames keep every member, broken ones are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.base import json
from skerry.testing.recorded import Frame, hub_frames, hub_handshake
from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope, decode, encode

VECTORS = Path(__file__).parents[3] / "vectors" / "kubeedge-hub-frames.jsonl"


def test_every_recorded_frame_is_there() -> None:
    assert len(hub_frames(VECTORS)) == 79
    headers = {name.lower(): value for name, value in hub_handshake(VECTORS)["headers"]}
    assert headers[c.HEADER_CONNECTION_USE.lower()] == c.CONNECTION_USE_MESSAGES
    assert headers[c.HEADER_NODE_ID] == "edge-1"
    assert headers[c.HEADER_PROJECT_ID] == c.PROJECT_ID


@pytest.mark.parametrize("frame", hub_frames(VECTORS), ids=lambda f: f"{f.direction}-{f.operation}")
def test_recorded_frames_round_trip_without_loss(frame: Frame) -> None:
    again = encode(decode(frame.data))
    assert again.endswith(b"\n")
    assert json.loads(again) == frame.message


def test_go_escapes_are_plain_text_after_decoding() -> None:
    frame = b'{"header":{"msg_id":"1","timestamp":1},"route":{},"content":"\\u003ca\\u0026b\\u003e"}\n'
    assert decode(frame).content == "<a&b>"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\n",
        b"[]",
        b"null",
        b"{",
        b'{"header":{},"content":1}',
        b'{"header":[],"route":{}}',
        b'{"header":{"msg_id":1},"route":{}}',
        b'{"header":{"timestamp":"1"},"route":{}}',
        b'{"header":{"timestamp":true},"route":{}}',
        b'{"header":{},"route":{"operation":{}}}',
        b'{"header":{},"route":{}}' + b"]",
        b"\xff\xfe",
        b'{"header":{},"route":{},"content":' + b"[" * 100_000,
    ],
)
def test_broken_frames_are_malformed(frame: bytes) -> None:
    with pytest.raises(Malformed):
        decode(frame)


def test_large_frames_are_refused_before_parsing() -> None:
    with pytest.raises(TooLarge):
        decode(b"x" * 101, limit_bytes=100)


@pytest.mark.parametrize("content", [None, "", "OK", 0, [], {}, {"a": None}])
def test_content_is_always_written(content: Any) -> None:
    frame = json.loads(encode(Envelope("1", "", "", "", "", content)))
    assert frame == {"header": {"msg_id": "1", "timestamp": 0}, "route": {}, "content": content}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
ENVELOPES = st.builds(
    Envelope,
    msg_id=st.text(), source=st.text(), group=st.text(), operation=st.text(), resource=st.text(), content=JSON,
    parent_id=st.text(), timestamp_ms=st.integers(0, 2**53), resource_version=st.text(),
)  # fmt: skip


@given(ENVELOPES)
def test_what_is_written_is_read_again(envelope: Envelope) -> None:
    frame = encode(envelope)
    assert frame.endswith(b"\n")
    assert frame.count(b"\n") == 1
    assert decode(frame) == envelope


@given(JSON)
def test_whatever_comes_is_read_or_refused(value: Any) -> None:
    for message in (
        value,
        {"header": value, "route": {}},
        {"header": {}, "route": value},
        {"header": {"msg_id": value}},
    ):
        try:
            envelope = decode(json.dumps(message))
        except Malformed:
            continue
        assert isinstance(envelope.msg_id, str)
