"""Entries of ``advertise``."""

from __future__ import annotations

import pytest

from skerry.api.config.advertise import parse, places
from skerry.base.errors import ConfigError

OWN = {"api": 6443, "hub": 10000, "join": 10002, "tunnel": 10004}


@pytest.mark.parametrize(
    ("entry", "hub", "join"),
    [
        ("cloud.example", ("cloud.example", 10000), ("cloud.example", 10002)),
        ("cloud.example:30002", ("cloud.example", 30000), ("cloud.example", 30002)),
        ("192.0.2.7:10002", ("192.0.2.7", 10000), ("192.0.2.7", 10002)),
        ("2001:db8::1", ("2001:db8::1", 10000), ("2001:db8::1", 10002)),
        ("[2001:db8::1]:30002", ("2001:db8::1", 30000), ("2001:db8::1", 30002)),
        ("[2001:db8::1]", ("2001:db8::1", 10000), ("2001:db8::1", 10002)),
        ("lb.example:hub=31000:join=32000", ("lb.example", 31000), ("lb.example", 32000)),
        ("[::1]:tunnel=5", ("::1", 10000), ("::1", 10002)),
    ],
)
def test_an_entry_says_where_each_server_is(entry: str, hub: tuple[str, int], join: tuple[str, int]) -> None:
    assert parse(entry).place("hub", OWN) == hub
    assert parse(entry).place("join", OWN) == join


@pytest.mark.parametrize(
    "entry",
    [
        "", " ", "http://cloud.example", "https://cloud.example:10002", "cloud.example/", "a b", ":10002", "a:x", "a:0",
        "a:65536", "a:hub=", "a:hub=x", "a:console=1", "[::1", "[::1]x", "a:10002:hub=1", "[]:1",
    ],
)  # fmt: skip
def test_what_is_no_entry_is_refused_with_the_form_that_is_wanted(entry: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(entry)
    assert "advertise" in str(refused.value)
    assert refused.value.hint


def test_a_port_that_would_be_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="hub would be at port -1 of a"):
        parse("a:1").place("hub", OWN)
    with pytest.raises(ConfigError, match="tunnel would be at port 65537"):
        parse("a:65535").place("tunnel", OWN)


def test_places_come_in_order_without_repeats() -> None:
    assert places(["a", "b:30002", "a"], "tunnel", OWN) == [("a", 10004), ("b", 30004)]
    assert places([], "tunnel", OWN) == []
