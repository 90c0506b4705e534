"""What a client of the proxy for pulls asks for, and how long bytes wait."""

import pytest

from skerry.edge.images.pullproxy import Asked, ByteRate, asked


def test_a_tunnel_is_asked_for_by_host_and_port() -> None:
    established = b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert asked(b"CONNECT ghcr.io:443 HTTP/1.1\r\nHost: ghcr.io:443\r\n\r\n") == Asked("ghcr.io", 443, established)
    assert asked(b"CONNECT [2001:db8::1]:5000 HTTP/1.1\r\n\r\n") == Asked("2001:db8::1", 5000, established)
    assert asked(b"CONNECT ghcr.io HTTP/1.1\r\n\r\n").port == 443


def test_a_plain_request_goes_on_without_what_was_for_the_proxy() -> None:
    head = (
        b"GET http://mirror.local:5000/v2/a/blobs/x?y=http://z HTTP/1.1\r\nHost: mirror.local:5000\r\n"
        b"Range: bytes=5-\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n"
        b"Connection: keep-alive\r\n\r\n"
    )
    found = asked(head)
    assert (found.host, found.port, found.greeting) == ("mirror.local", 5000, b"")
    assert found.opening == (
        b"GET /v2/a/blobs/x?y=http://z HTTP/1.1\r\nHost: mirror.local:5000\r\nRange: bytes=5-\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert asked(b"GET http://mirror.local HTTP/1.1\r\n\r\n").opening.startswith(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET https://x/ HTTP/1.1\r\n\r\n", b"CONNECT :443 HTTP/1.1\r\n\r\n",
        b"CONNECT x:0 HTTP/1.1\r\n\r\n", b"CONNECT x:99999 HTTP/1.1\r\n\r\n", b"CONNECT x:\xb2 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n",
    ],
)  # fmt: skip
def test_anything_else_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError):
        asked(head)


def test_all_connections_share_one_rate_and_nothing_is_saved_up() -> None:
    rate = ByteRate(1000)
    assert rate.take(500, 100.0) == pytest.approx(0.5)
    assert rate.take(1000, 100.0) == pytest.approx(1.5)  # another connection, at the same moment
    assert rate.take(500, 101.0) == pytest.approx(1.0)
    assert rate.take(500, 900.0) == pytest.approx(0.5)
