"""Addresses as a person types them after ``skerry join``."""

import pytest

from skerry.app.join import split_address
from skerry.base.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cloud.example.com", ("cloud.example.com", 10002)),
        ("cloud.example.com:443", ("cloud.example.com", 443)),
        ("192.0.2.1:65535", ("192.0.2.1", 65535)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("[2001:db8::1]", ("2001:db8::1", 10002)),
        ("2001:db8::1", ("2001:db8::1", 10002)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text, 10002) == expected


@pytest.mark.parametrize("text", ["", ":443", "host:x", "host:0", "host:65536", "host:-1", "host:²", "[::1]x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        split_address(text, 10002)
