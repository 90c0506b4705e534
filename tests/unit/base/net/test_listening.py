"""Which port is a free one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from skerry.base.errors import ConfigError
from skerry.base.net.listening import bind, check_bindable, free_port

LOW, HIGH = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())


@pytest.mark.parametrize("host", ["127.0.0.1", "", "::1"])
def test_a_free_port_is_none_that_the_kernel_gives_to_outgoing_connections(host: str) -> None:
    if host == "::1" and not Path("/proc/sys/net/ipv6").exists():
        host = "localhost"
    with bind(host, 0, 8) as listener:
        port = listener.getsockname()[1]
        assert port and not LOW <= port <= HIGH
        with socket.create_connection((host or "127.0.0.1", port), timeout=5):
            pass
        with pytest.raises(ConfigError, match=f"cannot listen on {host}:{port}: Address already in use"):
            check_bindable(host, [port])
    check_bindable(host, [0, port])


def test_free_ports_differ() -> None:
    assert len({free_port() for _ in range(50)}) > 40


def test_an_address_of_another_machine_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address") as told:
        bind("192.0.2.1", 0, 8)
    assert "no such address" in str(told.value.hint)
