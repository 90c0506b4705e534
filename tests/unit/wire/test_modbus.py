"""Modbus TCP frames and registers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.wire import modbus
from skerry.wire.errors import Malformed
from skerry.wire.modbus import Frame, ModbusRefused


def test_frames_as_the_specification_shows_them() -> None:
    pdu = modbus.read_request(modbus.READ_HOLDING, 0x6B, 3)
    assert modbus.encode(Frame(0x1501, 0xFF, pdu)).hex() == "15010000" + "0006" + "ff" + "03006b0003"
    assert modbus.write_request(modbus.WRITE_COIL, 0xAC, [1]).hex() == "0500acff00"
    assert modbus.write_request(modbus.WRITE_REGISTER, 1, [3]).hex() == "0600010003"
    assert modbus.write_request(modbus.WRITE_REGISTERS, 1, [10, 258]).hex() == "1000010002" + "04" + "000a0102"
    assert modbus.write_request(modbus.WRITE_COILS, 19, [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]).hex() == "0f0013000a02cd01"


@given(st.lists(st.binary(min_size=1, max_size=253), min_size=1, max_size=4), st.integers(1, 40))
def test_streams_cut_anywhere(pdus: list[bytes], step: int) -> None:
    frames = [Frame(number, 1, pdu) for number, pdu in enumerate(pdus)]
    stream = b"".join(map(modbus.encode, frames))
    decoder = modbus.Decoder()
    assert [f for at in range(0, len(stream), step) for f in decoder.feed(stream[at : at + step])] == frames


def test_other_protocols_are_refused() -> None:
    with pytest.raises(Malformed):
        list(modbus.Decoder().feed(b"GET / HTTP/1.1"))
    with pytest.raises(Malformed):
        list(modbus.Decoder().feed(bytes.fromhex("00010000000101")))


def test_answers() -> None:
    request = modbus.read_request(modbus.READ_HOLDING, 0x6B, 3)
    data = modbus.check_answer(request, bytes.fromhex("0306022b00000064"))
    assert modbus.unpack_registers(data) == [555, 0, 100]
    bits = modbus.read_request(modbus.READ_COILS, 0, 10)
    assert modbus.unpack_bits(modbus.check_answer(bits, bytes.fromhex("0102cd01")), 10) == [
        True, False, True, True, False, False, True, True, True, False,
    ]  # fmt: skip
    with pytest.raises(ModbusRefused) as caught:
        modbus.check_answer(request, bytes.fromhex("8302"))
    assert caught.value.code == 2
    assert "illegal data address" in str(caught.value)


@pytest.mark.parametrize("answer", ["", "04", "0304022b0000", "0306022b"])
def test_wrong_answers_are_malformed(answer: str) -> None:
    with pytest.raises(Malformed):
        modbus.check_answer(modbus.read_request(modbus.READ_HOLDING, 0x6B, 3), bytes.fromhex(answer))


def test_answer_to_a_write_names_the_address() -> None:
    request = modbus.write_request(modbus.WRITE_REGISTER, 1, [3])
    assert modbus.check_answer(request, request) == request[1:]
    with pytest.raises(Malformed):
        modbus.check_answer(request, bytes.fromhex("0600020003"))


def test_impossible_reads_are_refused() -> None:
    for address, count in ((0, 0), (0, 126), (65535, 2)):
        with pytest.raises(ValueError):
            modbus.read_request(modbus.READ_HOLDING, address, count)


@pytest.mark.parametrize(
    ("words", "kind", "options", "value"),
    [
        ([215], "int16", {"scale": 0.1}, 21.5),
        ([3], "uint16", {"scale": 0.1}, 0.3),
        ([0xFFFF], "int16", {}, -1),
        ([0xFFFF], "uint16", {}, 65535),
        ([1, 2], "uint32", {}, 65538),
        ([2, 1], "uint32", {"word_order": "little"}, 65538),
        ([0x0100], "uint16", {"byte_order": "little"}, 1),
        ([0x41AA, 0x6666], "float32", {}, 21.3),
        ([0x3FF0, 0, 0, 0], "float64", {}, 1.0),
        ([0xFFFF] * 4, "int64", {}, -1),
        ([0x4142, 0x4300], "string", {"count": 2}, "ABC"),
        ([1], "bool", {}, True),
        ([1, 0], "bits", {"count": 2}, 65536),
        ([100], "int16", {"scale": 0.5, "add": -40.0}, 10.0),
    ],
)
def test_registers_both_ways(words: list[int], kind: str, options: dict[str, object], value: object) -> None:
    reading = {key: v for key, v in options.items() if key != "count"}
    assert modbus.decode_registers(words, kind, **reading) == value  # type: ignore[arg-type]
    assert modbus.encode_registers(value, kind, **options) == words  # type: ignore[arg-type]


@given(st.sampled_from(["int16", "int32", "int64"]), st.integers(-(2**15), 2**15 - 1), st.booleans(), st.booleans())
def test_numbers_survive_every_order(kind: str, number: int, words: bool, octets: bool) -> None:
    orders = {"word_order": "little" if words else "big", "byte_order": "little" if octets else "big"}
    registers = modbus.encode_registers(number, kind, **orders)  # type: ignore[arg-type]
    assert len(registers) == modbus.register_count(kind)
    assert modbus.decode_registers(registers, kind, **orders) == number  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "kind"), [(70000, "uint16"), (-1, "uint32"), ("abcde", "string"), (1, "int128")])
def test_values_that_do_not_fit_are_refused(value: object, kind: str) -> None:
    with pytest.raises(ValueError):
        modbus.encode_registers(value, kind, count=2)  # type: ignore[arg-type]


def test_wrong_number_of_registers_is_refused() -> None:
    with pytest.raises(ValueError):
        modbus.decode_registers([1], "float32")
