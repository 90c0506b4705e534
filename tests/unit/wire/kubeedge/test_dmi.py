"""DMI messages."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.wire.errors import Malformed
from skerry.wire.kubeedge import dmi
from skerry.wire.kubeedge.dmi import MapperInfo, Report
from skerry.wire.kubeedge.twin import Value
from skerry.wire.pb import codec

MODEL: dict[str, Any] = {
    "metadata": {"name": "mod", "namespace": "ns"},
    "spec": {"properties": [{"name": "temp", "type": "FLOAT", "accessMode": "ReadOnly", "minimum": "0"}]},
}
DEVICE: dict[str, Any] = {
    "metadata": {"name": "d", "namespace": "ns"},
    "spec": {
        "deviceModelRef": {"name": "mod"},
        "protocol": {"protocolName": "modbus", "configData": {"port": 1502, "host": "h", "tls": False}},
        "properties": [
            {"name": "temp", "visitors": {"protocolName": "modbus", "configData": {"scale": 0.1}}, "collectCycle": 500},
            {"name": "ghost"},
        ],
        "methods": [{"name": "set", "propertyNames": ["temp"]}],
        "stateReport": {"reportToCloud": True, "reportCycle": 1000},
    },
}


@pytest.mark.parametrize(
    ("value", "kind", "data"),
    [
        ("ab", "StringValue", "0a026162"),
        ("", "StringValue", ""),
        (True, "BoolValue", "0801"),
        (False, "BoolValue", ""),
        (1502, "Int64Value", "08de0b"),
        (-1, "Int64Value", "08ffffffffffffffffff01"),
        (0, "Int64Value", ""),
        (0.5, "FloatValue", "0d0000003f"),
    ],
)
def test_values_are_the_wrappers_that_go_knows(value: object, kind: str, data: str) -> None:
    message = dmi.to_any(value)
    assert message == {"type_url": dmi.TYPE_PREFIX + kind, "value": bytes.fromhex(data)}
    assert dmi.from_any(message) == value


def test_values_from_go() -> None:
    float_1502 = {"type_url": dmi.TYPE_PREFIX + "FloatValue", "value": bytes.fromhex("0d00c0bb44")}
    assert dmi.from_any(float_1502) == 1502.0
    assert dmi.from_any({"type_url": dmi.TYPE_PREFIX + "FloatValue", "value": bytes.fromhex("0dcdcccc3d")}) == 0.1
    double = {"type_url": dmi.TYPE_PREFIX + "DoubleValue", "value": bytes.fromhex("090000000000000440")}
    assert dmi.from_any(double) == 2.5
    assert dmi.from_any({"type_url": dmi.TYPE_PREFIX + "UInt32Value", "value": b"\x08\x07"}) == 7
    assert dmi.from_any({"type_url": dmi.TYPE_PREFIX + "BytesValue", "value": b"\x0a\x01\xff"}) == b"\xff"


@pytest.mark.parametrize(
    ("kind", "data"),
    [("Struct", b""), ("StringValue", b"\x0a\x09a"), ("FloatValue", b"\x0d\x00"), ("Int64Value", b"\x08\x80")],
)
def test_unreadable_values_are_malformed(kind: str, data: bytes) -> None:
    with pytest.raises(Malformed):
        dmi.from_any({"type_url": dmi.TYPE_PREFIX + kind, "value": data})


def test_structures_travel_as_json_text() -> None:
    assert dmi.from_any(dmi.to_any({"a": [1]})) == '{"a":[1]}'


def test_a_device_has_every_part_that_go_mappers_follow() -> None:
    message = dmi.device_message(DEVICE, MODEL)
    (temp,) = message["spec"]["properties"]
    assert temp["desired"] == {"value": "", "metadata": {}}
    assert set(temp["visitors"]["configData"]["data"]) == {"scale"}
    assert message["status"] == {"twins": [], "reportToCloud": True, "reportCycle": 1000}
    bare = dmi.device_message({"metadata": {"name": "d"}, "spec": {"properties": [{"name": "temp"}]}}, MODEL)
    assert bare["namespace"] == "default"
    assert bare["spec"]["protocol"]["configData"] == {"data": {}}
    assert bare["spec"]["properties"][0]["visitors"]["configData"] == {"data": {}}


def test_objects_come_out_as_they_went_in() -> None:
    back = dmi.device_object(dmi.device_message(DEVICE, MODEL))
    assert back["metadata"] == {"name": "d", "namespace": "ns"}
    assert back["spec"]["protocol"] == DEVICE["spec"]["protocol"]
    assert back["spec"]["properties"][0]["visitors"]["configData"] == {"scale": 0.1}
    assert back["spec"]["properties"][0]["collectCycle"] == 500
    assert [p["name"] for p in back["spec"]["properties"]] == ["temp"]
    model = dmi.model_object(dmi.model_message(MODEL))
    assert model["spec"]["properties"][0]["type"] == "FLOAT"


def test_unreadable_configuration_is_left_out() -> None:
    message = dmi.device_message(DEVICE, MODEL)
    message["spec"]["protocol"]["configData"]["data"]["odd"] = {"type_url": "x", "value": b""}
    assert "odd" not in dmi.device_object(message)["spec"]["protocol"]["configData"]


def test_registration_round_trip() -> None:
    info = MapperInfo("m", "modbus", "/run/m.sock", "v1", "v1.0.0", "ok")
    assert dmi.parse_mapper(dmi.register_request(info)) == (info, True)
    raw = {"mapper": {"name": "m", "protocol": "p", "address": b"unix:///run/m.sock"}}
    assert dmi.parse_mapper(raw) == (MapperInfo("m", "p", "/run/m.sock"), False)


@pytest.mark.parametrize(
    "mapper",
    [{}, {"name": "m"}, {"name": "m", "protocol": "p"}, {"name": "m", "protocol": "p", "address": b"relative.sock"},
     {"name": "m", "protocol": "p", "address": b"/\xff"}],
)  # fmt: skip
def test_registrations_that_cannot_be_driven_are_malformed(mapper: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        dmi.parse_mapper({"mapper": mapper})


def test_reports_tolerate_missing_parts() -> None:
    twins = [{"propertyName": "a"}, {"propertyName": "b", "reported": {}}]
    request = {"deviceName": "d", "reportedDevice": {"twins": twins}}
    device_id, reports = dmi.parse_report(request)
    assert device_id == "default/d"
    assert reports == {"a": Report(None, None), "b": Report(Value(""), None)}
    assert dmi.parse_report({"deviceName": "d", "deviceNamespace": "ns"}) == ("ns/d", {})
    for broken in ({}, {"deviceName": "d", "reportedDevice": {"twins": [{"reported": {}}]}}):
        with pytest.raises(Malformed):
            dmi.parse_report(broken)


def test_reports_keep_time_and_type_and_have_both_sides() -> None:
    request = dmi.report_request("ns/d", {"t": Report(Value("21.5", 1700000000000), None, "float")})
    (twin,) = request["reportedDevice"]["twins"]
    assert twin["observedDesired"] == {}
    assert dmi.parse_report(request) == ("ns/d", {"t": Report(Value("21.5", 1700000000000), None, "float")})
    observed = dmi.report_request("ns/d", {"t": Report(Value("1", 2), Value("3"))})
    assert dmi.parse_report(observed)[1]["t"].observed == Value("3")


def test_bytes_as_a_go_mapper_sends_them() -> None:
    register = bytes.fromhex(
        "080112310a016d120276311a0676312e302e3022066d6f646275732a142f6574632f6b756265656467652f6d2e736f636b32026f6b"
    )
    info, with_data = dmi.parse_mapper(codec.decode(codec.DMI, "MapperRegisterRequest", register))
    assert (info, with_data) == (MapperInfo("m", "modbus", "/etc/kubeedge/m.sock", "v1", "v1.0.0", "ok"), True)
    assert codec.encode(codec.DMI, "MapperRegisterRequest", dmi.register_request(info)) == register
    report = bytes.fromhex(
        "0a0164123d0a3b0a0474656d7012001a310a0432312e35121a0a0974696d657374616d70120d31373030303030303030303030120d0a"
        "04747970651205666c6f61741a026e73"
    )
    found = dmi.parse_report(codec.decode(codec.DMI, "ReportDeviceStatusRequest", report))
    assert found == ("ns/d", {"temp": Report(Value("21.5", 1700000000000), None, "float")})
    assert codec.encode(codec.DMI, "ReportDeviceStatusRequest", dmi.report_request(*found)) == report


def test_a_device_in_bytes_keeps_its_empty_parts() -> None:
    data = codec.encode(codec.DMI, "RegisterDeviceRequest", {"device": dmi.device_message(DEVICE, MODEL)})
    device = codec.decode(codec.DMI, "RegisterDeviceRequest", data)["device"]
    assert device["spec"]["properties"][0]["desired"] == {}
    assert device["status"] == {"reportToCloud": True, "reportCycle": 1000}
    assert dmi.device_object(device)["spec"]["protocol"] == DEVICE["spec"]["protocol"]
