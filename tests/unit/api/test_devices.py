"""Device and DeviceModel as drivers see them."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api import devices
from skerry.api.devices import Point

MODEL: dict[str, Any] = {
    "metadata": {"name": "thermo", "namespace": "default"},
    "spec": {
        "protocol": "modbus",
        "protocolConfigData": {"port": 502, "unitId": 1},
        "properties": [
            {
                "name": "temperature",
                "type": "FLOAT",
                "accessMode": "ReadOnly",
                "visitors": {"protocolName": "modbus", "configData": {"table": "input", "address": 0, "kind": "int16"}},
            },
            {"name": "setpoint", "type": "INT", "accessMode": "ReadWrite", "minimum": "5", "maximum": "30"},
        ],
    },
}


def device(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "t1", "namespace": "default", "uid": "u1", "labels": {"description": "kitchen"}},
        "spec": {
            "deviceModelRef": {"name": "thermo"},
            "nodeName": "edge-1",
            "protocol": {"protocolName": "modbus", "configData": {"host": "127.0.0.1", "port": 1502}},
            "properties": [
                {
                    "name": "temperature",
                    "collectCycle": 500,
                    "visitors": {"protocolName": "other", "configData": {"address": 7, "scale": 0.1}},
                },
                {"name": "setpoint", "desired": {"value": "21"}, "reportToCloud": False},
                {"name": "ghost"},
            ],
        }
        | spec,
    }


def test_model_defaults_are_overlaid_by_the_instance() -> None:
    view = devices.view(device(), MODEL)
    assert view.device_id == "default/t1"
    assert view.description == "kitchen"
    assert view.config == {"host": "127.0.0.1", "port": 1502, "unitId": 1}
    temperature, setpoint = view.points
    assert temperature.visitor == {"table": "input", "address": 7, "kind": "int16", "scale": 0.1}
    assert (temperature.cycle_ms, temperature.report, temperature.is_writable) == (500, True, False)
    assert (setpoint.desired, setpoint.report, setpoint.is_writable) == ("21", False, True)
    assert view.problems == ("property 'ghost' is not in model default/thermo",)


def test_merging_keeps_the_model_s_protocol_name_and_changes_no_argument() -> None:
    before = device()
    merged = devices.merge(before, MODEL)
    assert merged["spec"]["properties"][0]["visitors"]["protocolName"] == "modbus"
    assert before == device()
    assert merged["spec"]["properties"][2] == {"name": "ghost"}


def test_only_wiring_forces_a_reconnect() -> None:
    first = devices.view(device(), MODEL)
    other = device()
    other["spec"]["properties"][1]["desired"]["value"] = "22"
    assert first.same_wiring(devices.view(other, MODEL))
    other["spec"]["protocol"]["configData"]["port"] = 9
    assert not first.same_wiring(devices.view(other, MODEL))


def test_spec_comparison_ignores_order_and_status() -> None:
    one, two = device(), device()
    two["spec"]["properties"].reverse()
    two["status"] = {"x": 1}
    assert devices.same_spec(one, two)
    two["spec"]["nodeName"] = "edge-2"
    assert not devices.same_spec(one, two)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(None, 1000), (0, 1000), (10, 50), (500, 500), (10_000_000_000, 10_000), (True, 1000), ("7", 1000)],
)
def test_cycles(raw: object, expected: int) -> None:
    assert devices.cycle_ms(raw) == expected


def test_keys_are_found_in_any_case_and_spelling() -> None:
    config = {"SlaveID": 3, "ip": "10.0.0.1", "port": None}
    assert devices.option(config, "unitId", "slaveID") == 3
    assert devices.option(config, "host", "ip") == "10.0.0.1"
    assert devices.option(config, "port", default=502) == 502


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (21.5, "FLOAT", "21.5"),
        (21.0, "FLOAT", "21"),
        (1e20, "DOUBLE", "100000000000000000000"),
        (1.5e-7, "DOUBLE", "0.00000015"),
        (-3, "INT", "-3"),
        (True, "BOOLEAN", "true"),
        (b"\xff\xfe", "BYTES", "__4"),
        ("a b", "STRING", "a b"),
    ],
)
def test_values_as_text_and_back(value: object, kind: str, text: str) -> None:
    assert devices.format_value(value, kind) == text  # type: ignore[arg-type]
    assert devices.parse_value(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind"), [("x", "INT"), ("1.5", "INT"), ("nan", "FLOAT"), ("yes", "BOOLEAN"), ("a!", "BYTES")]
)
def test_texts_that_are_no_values(text: str, kind: str) -> None:
    with pytest.raises(ValueError):
        devices.parse_value(text, kind)


@pytest.mark.parametrize(
    ("text", "kind", "problem"),
    [
        ("21", "INT", ""),
        ("31", "INT", "31 is above the maximum 30"),
        ("21.5", "INT", "'21.5' is not a INT"),
        ("4.5", "FLOAT", "4.5 is below the minimum 5"),
        ("warm", "DOUBLE", "'warm' is not a DOUBLE"),
        ("on", "BOOLEAN", "'on' is not a BOOLEAN"),
        ("anything", "STRING", ""),
    ],
)
def test_a_desired_value_is_judged_by_type_and_bounds(text: str, kind: str, problem: str) -> None:
    point = Point("setpoint", kind, "ReadWrite", minimum="5", maximum="30")
    found = devices.desired_problem(text, point)
    assert found.startswith(problem) and bool(found) == bool(problem)


def test_a_property_that_can_only_be_read_takes_no_value() -> None:
    assert "can only be read" in devices.desired_problem("21", Point("temperature", "FLOAT", "ReadOnly"))


def test_bounds() -> None:
    point = Point("p", minimum="5", maximum="30")
    assert devices.check_bounds(21, point) == ""
    assert devices.check_bounds(4.5, point) == "4.5 is below the minimum 5"
    assert devices.check_bounds(31, point) == "31 is above the maximum 30"
    assert devices.check_bounds("text", point) == ""
    assert devices.check_bounds(1, Point("p", minimum="soon")) == ""


def test_same_value_compares_numbers_as_numbers() -> None:
    assert devices.same_value("21.50", "21.5", "float")
    assert not devices.same_value("21.50", "21.5", "string")
    assert not devices.same_value("x", "21", "int")
    assert devices.same_value("True", "true", "boolean")
