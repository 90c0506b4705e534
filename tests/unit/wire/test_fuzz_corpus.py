"""Every fuzz target bears its corpus, its seeds, and plain mutations of both."""

from __future__ import annotations

import random

import pytest
from tests.fuzz.__main__ import CORPUS, KEPT_BYTES
from tests.fuzz.targets import TARGETS


def inputs(name: str) -> list[bytes]:
    directory = CORPUS / name
    kept = [path.read_bytes() for path in sorted(directory.iterdir())] if directory.exists() else []
    return [*TARGETS[name].seeds, *kept, b"", b"\x00", b"\xff" * 64, b"{" * 300, b"[" * 300]


def mutated(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data or b"\x00")
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(changed) or 1)
        match dice.randrange(4):
            case 0:
                changed[at:at] = bytes([dice.randrange(256)])
            case 1:
                del changed[at : at + dice.randint(1, 4)]
            case 2:
                changed[at : at + 1] = bytes([dice.randrange(256)])
            case _:
                changed[at:at] = changed[at : at + dice.randint(1, 8)]
        if not changed:
            changed = bytearray(b"\x00")
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks_a_decoder(name: str) -> None:
    dice = random.Random(name)
    for data in inputs(name):
        TARGETS[name].run(data)
        for _ in range(5 if len(data) <= KEPT_BYTES else 0):
            TARGETS[name].run(mutated(data, dice))


def test_the_corpus_belongs_to_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)
