"""Hosts as URLs write them."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from skerry.base.net.hosts import in_url


@pytest.mark.parametrize(
    ("host", "written"),
    [("node-1.example", "node-1.example"), ("10.0.0.7", "10.0.0.7"), ("fd00::7", "[fd00::7]"), ("[::1]", "[::1]")],
)
def test_only_an_ipv6_address_gets_brackets(host: str, written: str) -> None:
    assert in_url(host) == written
    assert urlsplit(f"https://{written}:6443").port == 6443
