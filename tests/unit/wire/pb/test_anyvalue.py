"""Values in google.protobuf.Any."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.wire.errors import Malformed
from skerry.wire.pb.anyvalue import PREFIX, is_float32, pack_any, unpack_any
from skerry.wire.pb.codec import DMI, encode


@pytest.mark.parametrize("value", [True, False, 0, -5, 2**63 - 1, 1502.0, 0.1, 0.0, "", "ü"])
def test_scalars_come_back(value: Any) -> None:
    back = unpack_any(pack_any(value))
    assert back == value
    assert type(back) is type(value)


def test_the_type_is_one_that_go_mappers_read() -> None:
    names = [pack_any(value)["type_url"].removeprefix(PREFIX) for value in (True, 1, 1.5, "x", [1], {"a": 1}, None)]
    assert names == [
        "BoolValue",
        "Int64Value",
        "FloatValue",
        "StringValue",
        "StringValue",
        "StringValue",
        "StringValue",
    ]
    assert unpack_any(pack_any({"a": [1]})) == '{"a":[1]}'


def test_known_bytes() -> None:
    assert pack_any(1502.0)["value"].hex() == "0d00c0bb44"


def test_nested_values_for_a_peer_that_reads_them() -> None:
    value = {"a": [1, 2.5, None, "x", True, {"b": []}]}
    assert unpack_any(pack_any(value, has_nested=True)) == value
    assert unpack_any(pack_any([1], has_nested=True)) == [1]


@pytest.mark.parametrize(("name", "value"), [("Int32Value", -7), ("UInt64Value", 2**64 - 1), ("DoubleValue", 0.1)])
def test_other_wrappers_are_read(name: str, value: Any) -> None:
    packed = {"type_url": PREFIX + name, "value": encode(DMI, f"google.protobuf.{name}", {"value": value})}
    assert unpack_any(packed) == value


@pytest.mark.parametrize(("value", "fits"), [(0.1, True), (21.5, True), (16777217.0, False), (1e300, False)])
def test_what_fits_32_bit(value: float, fits: bool) -> None:
    assert is_float32(value) is fits


def test_too_large_for_the_wrapper_goes_as_text() -> None:
    assert unpack_any(pack_any(1e300)) == "1e300"
    assert unpack_any(pack_any(2**63)) == "9223372036854775808"


def test_another_type_is_malformed() -> None:
    with pytest.raises(Malformed, match=r"example\.Thing"):
        unpack_any({"type_url": "type.googleapis.com/example.Thing", "value": b""})
