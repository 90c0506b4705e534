"""Signatures of join tokens, hosts of addresses, limits of failures."""

from __future__ import annotations

import base64

import pytest

from skerry.base import json
from skerry.cloud.join.ca import host_of
from skerry.cloud.join.tokens import sign, verify
from skerry.cloud.refusals import MAX_KEYS, FailureLimit, Refusals
from skerry.testing.clock import VirtualClock


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value)).rstrip(b"=").decode()


def test_only_our_key_makes_valid_tokens() -> None:
    jwt = sign({"exp": 1, "jti": "a"}, b"key")
    assert verify(jwt, b"key") == {"exp": 1, "jti": "a"}
    assert verify(jwt, b"other") is None
    head, _, signature = jwt.split(".")
    assert verify(f"{head}.{_part({'exp': 9})}.{signature}", b"key") is None


@pytest.mark.parametrize(
    "jwt", ["", ".", "..", "a.b.c", "é.é.é", _part({"alg": "none"}) + "." + _part({"exp": 9}) + "."]
)
def test_forgeries_are_not_valid(jwt: str) -> None:
    assert verify(jwt, b"key") is None


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("cloud.example", "cloud.example"),
        ("cloud.example:30002", "cloud.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1:1", "10.0.0.1"),
        ("::1", "::1"),
        ("[::1]:443", "::1"),
        ("[::1]", "::1"),
    ],
)
def test_hosts(text: str, host: str) -> None:
    assert host_of(text) == host


def test_failures_are_free_up_to_a_number_and_then_cost_time() -> None:
    clock = VirtualClock()
    limit = FailureLimit(clock, burst=3, refill_s=10)
    for _ in range(3):
        assert limit.wait_s("a") == 0
        limit.failed("a")
    assert limit.wait_s("a") == pytest.approx(10)
    assert limit.wait_s("b") == 0
    clock._elapsed_s += 10.5
    assert limit.wait_s("a") == 0


def test_the_memory_of_strangers_is_bounded() -> None:
    clock = VirtualClock()
    limit, refusals = FailureLimit(clock), Refusals(clock)
    for number in range(MAX_KEYS + 50):
        limit.failed(f"10.0.{number // 256}.{number % 256}")
        refusals.note("x.refused", f"10.0.{number // 256}.{number % 256}")
    assert len(limit._debts) == len(refusals._seen) == MAX_KEYS
    assert refusals.count == MAX_KEYS + 50
