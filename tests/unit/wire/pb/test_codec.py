"""Plain proto3 by table, against bytes that other implementations wrote."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from skerry.wire.errors import Malformed, TooLarge
from skerry.wire.pb.codec import CRI, DMI, Interface, decode, encode
from skerry.wire.pb.scan import read_varint, varint

VECTORS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "MapperRegisterRequest",
        "080112310a016d120276311a0676312e302e3022066d6f646275732a142f6574632f6b756265656467652f6d2e736f636b32026f6b",
        {
            "withData": True,
            "mapper": {
                "name": "m",
                "version": "v1",
                "api_version": "v1.0.0",
                "protocol": "modbus",
                "address": b"/etc/kubeedge/m.sock",
                "state": "ok",
            },
        },
    ),
    (
        "ReportDeviceStatesRequest",
        "0a016412026e731a066f6e6c696e65",
        {"deviceName": "d", "deviceNamespace": "ns", "state": "online"},
    ),
    (
        "RegisterDeviceRequest",
        "0a5b0a016412520a036d6f64124b0a066d6f6462757312410a3f0a04706f727412370a2e747970652e676f6f676c65617069732e636f6d"
        "2f676f6f676c652e70726f746f6275662e466c6f617456616c756512050d00c0bb4422026e73",
        {
            "device": {
                "name": "d",
                "namespace": "ns",
                "spec": {
                    "deviceModelReference": "mod",
                    "protocol": {
                        "protocolName": "modbus",
                        "configData": {
                            "data": {
                                "port": {
                                    "type_url": "type.googleapis.com/google.protobuf.FloatValue",
                                    "value": bytes.fromhex("0d00c0bb44"),
                                }
                            }
                        },
                    },
                },
            }
        },
    ),
]

REPORT = (
    "0a0164123d0a3b0a0474656d7012001a310a0432312e35121a0a0974696d657374616d70120d313730303030303030303030"
    "30120d0a04747970651205666c6f61741a026e73"
)

SMALL = Interface(
    messages={
        "M": {
            1: ("i", "int32", "", ""),
            2: ("u", "uint64", "", ""),
            3: ("d", "double", "", ""),
            4: ("f", "float", "", ""),
            5: ("packed", "int64", "", "repeated"),
            6: ("names", "string", "", "repeated"),
            7: ("sub", "message", "M", ""),
            8: ("subs", "message", "M", "repeated"),
            9: ("map", "message", "M", "map"),
            10: ("choice", "bool", "", "oneof"),
            11: ("e", "enum", "E", ""),
            12: ("doubles", "double", "", "repeated"),
        }
    },
    enums={"E": {0: "ZERO", 1: "ONE"}},
    methods={},
)


@pytest.mark.parametrize(("message", "hexes", "value"), VECTORS)
def test_known_bytes_decode_and_encode(message: str, hexes: str, value: dict[str, Any]) -> None:
    assert decode(DMI, message, bytes.fromhex(hexes)) == value
    assert encode(DMI, message, value).hex() == hexes


def test_a_present_but_empty_message_stays_present() -> None:
    report = decode(DMI, "ReportDeviceStatusRequest", bytes.fromhex(REPORT))
    twin = report["reportedDevice"]["twins"][0]
    assert twin["observedDesired"] == {}
    assert twin["reported"] == {"value": "21.5", "metadata": {"timestamp": "1700000000000", "type": "float"}}
    assert encode(DMI, "ReportDeviceStatusRequest", report).hex() == REPORT


def test_every_kind_survives_a_round_trip() -> None:
    value = {
        "i": -1,
        "u": 2**64 - 1,
        "d": 0.1,
        "f": 1.5,
        "packed": [0, -5, 2**62],
        "names": ["", "ü"],
        "sub": {"sub": {}},
        "subs": [{}, {"i": 3}],
        "map": {"": {}, "k": {"e": 1}},
        "choice": False,
        "e": 1,
        "doubles": [0.0, -2.5],
    }
    assert decode(SMALL, "M", encode(SMALL, "M", value)) == value


def test_defaults_are_absent_both_ways() -> None:
    assert encode(SMALL, "M", {"i": 0, "u": None, "names": [], "map": {}, "d": 0.0}) == b""
    assert decode(SMALL, "M", b"\x08\x00") == {}


def test_unpacked_numbers_and_unknown_fields_are_read() -> None:
    unknown = varint(99 << 3 | 2) + b"\x03abc" + varint(98 << 3 | 1) + bytes(8) + varint(97 << 3 | 5) + bytes(4)
    assert decode(SMALL, "M", b"\x28\x01" + unknown + b"\x28\x02") == {"packed": [1, 2]}


def test_a_singular_message_that_comes_twice_is_merged() -> None:
    assert decode(SMALL, "M", b"\x3a\x02\x08\x01\x3a\x02\x10\x02") == {"sub": {"i": 1, "u": 2}}


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",
        b"\x08\xff",
        b"\x08" + b"\xff" * 10 + b"\x01",
        b"\x3a\x05\x08",
        b"\x0b",
        b"\x00\x01",
        b"\x0a\x01\x00",
        b"\x19\x00\x00",
        b"\x32\x01\xff",
        b"\x62\x03abc",
    ],
)
def test_bad_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(SMALL, "M", data)


def test_depth_and_size_are_limited() -> None:
    deep = b""
    for _ in range(120):
        deep = b"\x3a" + varint(len(deep)) + deep
    with pytest.raises(TooLarge, match="deeply"):
        decode(SMALL, "M", deep)
    with pytest.raises(TooLarge, match="limit"):
        decode(SMALL, "M", bytes(11), limit_bytes=10)


def test_a_small_body_cannot_become_a_huge_object() -> None:
    with pytest.raises(TooLarge, match="parts"):
        decode(SMALL, "M", b"\x42\x00" * 260_000)


@pytest.mark.parametrize(("member", "value"), [("unknown", 1), ("i", 2**31), ("u", -1)])
def test_what_does_not_fit_cannot_be_encoded(member: str, value: int) -> None:
    with pytest.raises(ValueError, match="field|fit"):
        encode(SMALL, "M", {member: value})


def test_varint_matches_the_documented_example() -> None:
    assert varint(150) == b"\x96\x01"
    assert read_varint(b"\x96\x01", 0, 2) == (150, 2)
    assert len(varint(-1)) == 10


def test_interfaces_know_methods_and_enum_values() -> None:
    assert CRI.methods["/runtime.v1.RuntimeService/GetContainerEvents"] == (
        "GetEventsRequest",
        "ContainerEventResponse",
        "server",
    )
    assert CRI.value_of("NamespaceMode", "NODE") == 2
    assert CRI.messages["SecurityProfile"][1][1:3] == ("enum", "SecurityProfile.ProfileType")
    for interface in (CRI, DMI):
        for request, response, _ in interface.methods.values():
            assert request in interface.messages
            assert response in interface.messages


def test_float_is_32_bit() -> None:
    assert decode(SMALL, "M", b"\x25" + struct.pack("<f", 0.1))["f"] != 0.1
