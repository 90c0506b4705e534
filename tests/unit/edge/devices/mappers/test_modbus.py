"""Visitor keys of the built-in Modbus mapper, and how reads are grouped."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.devices import DeviceView, Point
from skerry.edge.devices.mappers.modbus import ModbusConfigError, ModbusDrivers, Register, blocks, register
from skerry.wire import modbus


def at(of: str = "INT", /, **visitor: Any) -> Register:
    return register(Point("p", of, visitor=visitor), where="Device ns/d")


def test_own_keys() -> None:
    found = at("FLOAT", table="input", address=4, kind="float32", wordOrder="little", scale=2, add=1)
    assert found == Register(modbus.READ_INPUT, 4, 2, "float32", word_order="little", scale=2.0, add=1.0)


def test_kubeedge_spellings() -> None:
    found = at("INT", register="HoldingRegister", offset=2, limit=2, isSwap=True, isRegisterSwap=True)
    assert found == Register(modbus.READ_HOLDING, 2, 2, "uint32", word_order="little", byte_order="little")
    assert at("BOOLEAN", register="CoilRegister", offset=2, limit=1) == Register(modbus.READ_COILS, 2, 1, "bool")
    assert at("BOOLEAN", register="DiscreteInputRegister", offset=2).function == modbus.READ_DISCRETE


@pytest.mark.parametrize(
    ("kind", "count", "expected"),
    [("INT", 1, "uint16"), ("INT", 4, "uint64"), ("FLOAT", 1, "int16"), ("FLOAT", 2, "float32"),
     ("DOUBLE", 0, "float64"), ("DOUBLE", 4, "float64"), ("STRING", 8, "string"), ("BOOLEAN", 1, "bool")],
)  # fmt: skip
def test_kinds_follow_from_type_and_count(kind: str, count: int, expected: str) -> None:
    assert at(kind, address=0, count=count).kind == expected


@pytest.mark.parametrize(
    ("visitor", "text"),
    [
        ({}, "address is missing"),
        ({"address": "x"}, "address 'x' is not a number"),
        ({"address": 70000}, "address 70000 is not within 0 to 65535"),
        ({"address": 0, "table": "coyl"}, "table 'coyl'"),
        ({"address": 0, "kind": "int128"}, "kind 'int128'"),
        ({"address": 0, "scale": "big"}, "scale 'big'"),
        ({"address": 0, "wordOrder": "middle"}, "wordOrder 'middle'"),
        ({"address": 0, "bit": 16}, "bit 16 is not within 0 to 15"),
    ],
)
def test_wrong_keys_are_named(visitor: dict[str, Any], text: str) -> None:
    with pytest.raises(ModbusConfigError) as caught:
        at(**visitor)
    assert str(caught.value).startswith("Device ns/d property p visitors.configData: ")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("config", "text"),
    [({}, "host is missing"), ({"host": "h", "mode": "rtu"}, "mode 'rtu'"), ({"ip": "h", "port": 0}, "port 0")],
)
def test_wrong_connections_are_named(config: dict[str, Any], text: str) -> None:
    view = DeviceView("ns", "d", "u", "m", "modbus", config, ())
    with pytest.raises(ModbusConfigError, match=text):
        ModbusDrivers().factory(view)


def test_adjacent_registers_are_read_together() -> None:
    def at_address(address: int, count: int = 1, function: int = modbus.READ_HOLDING) -> tuple[str, Register]:
        return f"{function}:{address}", Register(function, address, count, "uint16")

    named = [at_address(10), at_address(0, 2), at_address(2), at_address(0, function=modbus.READ_INPUT), at_address(1)]
    grouped = [[name for name, _ in block] for block in blocks(named, max_block=120)]
    assert grouped == [["3:0", "3:1", "3:2"], ["3:10"], ["4:0"]]
    assert len(blocks([at_address(n) for n in range(10)], max_block=4)) == 3
