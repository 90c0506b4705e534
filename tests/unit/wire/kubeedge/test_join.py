"""Join token, certificate request headers, subjects."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.base import json
from skerry.wire.errors import Malformed, ProtocolError, TooLarge
from skerry.wire.kubeedge import join

CA = b"certificate"


def _jwt(claims: object) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims)).rstrip(b"=").decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{part}.c2ln"


def test_a_token_pins_its_ca() -> None:
    token = join.parse_token(f"  {join.ca_hash(CA)}.{_jwt({'exp': 1})}\n")
    assert join.is_ca_of(token, CA)
    assert not join.is_ca_of(token, CA + b"!")
    assert join.parse_token(token.text) == token
    assert join.unverified_claims(token.jwt) == {"exp": 1}


@pytest.mark.parametrize("text", ["", "a.b.c.d", "0" * 64 + ".a.b", "0" * 64 + ".a.b.c.d", "G" * 64 + ".a.b.c"])
def test_broken_tokens_name_the_remedy(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        join.parse_token(text)
    assert "skerry token create" in caught.value.hint


def test_a_long_token_is_refused() -> None:
    with pytest.raises(TooLarge):
        join.parse_token("0" * 64 + ".a.b." + "c" * 5000)


@pytest.mark.parametrize("jwt", ["", "a", "a.!.c", _jwt([1]), "a.e30x.c"])
def test_unreadable_claims(jwt: str) -> None:
    with pytest.raises(Malformed):
        join.unverified_claims(jwt)


@given(st.text(max_size=120))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        join.parse_token(text)
    except ProtocolError:
        return
    raise AssertionError("random text was taken for a token")


def test_headers_round_trip() -> None:
    request = join.parse_request(join.request_headers("edge-1", jwt="a.b.c"))
    assert request == join.CertificateRequest("edge-1", "a.b.c")
    assert join.parse_request({"nodename": "edge-1"}) == join.CertificateRequest("edge-1", "")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"NodeName": "Edge_1"},
        {"NodeName": "a/b"},
        {"NodeName": "e" * 217},
        {"NodeName": "edge-1", "ExtKeyUsages": "[1,2]"},
        {"NodeName": "edge-1", "ExtKeyUsages": "[1"},
        {"NodeName": "edge-1", "Authorization": "Basic eDp5"},
        {"NodeName": "edge-1", "Authorization": "Bearer"},
        {"NodeName": "edge-1", "Authorization": "Bearer " + "x" * 5000},
    ],
)
def test_wrong_headers_are_malformed(headers: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        join.parse_request(headers)


@pytest.mark.parametrize(
    ("common", "organizations", "node"),
    [
        ("system:node:edge-1", ["system:nodes"], "edge-1"),
        ("system:node:edge-1", ["KubeEdge"], ""),
        ("system:node:edge-1", [], ""),
        ("kubeedge.io", ["KubeEdge"], ""),
        ("edge-1", ["system:nodes"], ""),
    ],
)
def test_subjects_name_nodes(common: str, organizations: list[str], node: str) -> None:
    assert join.node_of_subject(common, organizations) == node
    if node:
        assert join.common_name(node) == common
