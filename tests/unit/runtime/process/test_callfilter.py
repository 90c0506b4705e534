"""What the filter answers, by a small interpreter of classic BPF."""

from __future__ import annotations

import errno
import struct

import pytest

from skerry.runtime.process.callfilter import call_filter

AMD64, I386, ARM64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
ALLOWED = 0x7FFF0000


def answer(program: bytes, abi: int, number: int, argument: int = 0) -> int:
    """What the kernel would do with a call: ALLOWED, or the error number."""
    data = struct.pack("<IIQ6Q", number, abi, 0, argument, 0, 0, 0, 0, 0)
    steps = list(struct.iter_unpack("<HBBI", program))
    at = value = 0
    while True:
        code, if_true, if_false, word = steps[at]
        at += 1
        if code == 0x20:
            value = struct.unpack_from("<I", data, word)[0]
        elif code == 0x06:
            return int(word if word == ALLOWED else word & 0xFFFF)
        else:
            holds = {0x15: value == word, 0x35: value >= word, 0x45: bool(value & word)}[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize(
    ("machine", "abi", "unshare", "clone", "read"),
    [
        ("x86_64", AMD64, 272, 56, 0),
        ("x86_64", I386, 310, 120, 3),
        ("aarch64", ARM64, 97, 220, 63),
        ("aarch64", ARM, 337, 120, 3),
        ("armv7l", ARM, 337, 120, 3),
        ("i686", I386, 310, 120, 3),
        ("riscv64", 0xC00000F3, 97, 220, 63),
    ],
)
def test_namespaces_are_refused_and_plain_calls_are_not(
    machine: str, abi: int, unshare: int, clone: int, read: int
) -> None:
    program = call_filter(machine)
    assert answer(program, abi, read) == ALLOWED
    assert answer(program, abi, unshare) == errno.EPERM
    assert answer(program, abi, clone, 0x01200011) == ALLOWED  # fork
    assert answer(program, abi, clone, 0x003D0F00) == ALLOWED  # a thread
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(program, abi, clone, flag | 17) == errno.EPERM
    assert answer(program, abi, 435) == errno.ENOSYS  # clone3


def test_every_other_abi_is_refused() -> None:
    assert answer(call_filter("armv7l"), 0x28, 3) == errno.EPERM  # big endian
    assert answer(call_filter("x86_64"), AMD64, 0x40000000 | 1) == errno.EPERM  # x32


def test_an_unknown_machine_has_no_filter() -> None:
    assert call_filter("vax") == b""
    assert len(call_filter("x86_64")) % 8 == 0
