"""Ranges of pod addresses, how long nodes keep things, and mirrored Endpoints."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.base.errors import ConfigError
from skerry.controllers.endpoint_mirror import is_mirrored, mirrored
from skerry.controllers.node_ipam import Network, RangePool, parse_range, ranges_of
from skerry.controllers.node_ttl import ttl_s


def nets(*texts: str) -> list[Network]:
    return [ipaddress.ip_network(text) for text in texts]


def test_ranges_are_given_out_without_overlap() -> None:
    pool = RangePool(parse_range("10.244.0.0/22", 24), 24)
    assert pool.find() == "10.244.0.0/24"
    pool.hold("a", nets("10.244.0.0/24"))
    pool.hold("b", nets("10.244.2.0/24", "192.168.0.0/24", "fd00::/64"))
    assert pool.find() == "10.244.1.0/24"
    pool.hold("c", nets("10.244.1.0/25"))
    assert pool.find() == "10.244.3.0/24"
    pool.hold("d", nets("10.244.3.0/24"))
    assert pool.find() is None
    pool.release("b")
    assert pool.find() == "10.244.2.0/24"
    pool.hold("c", nets("10.244.2.0/24"))
    assert pool.find() == "10.244.1.0/24"
    pool.hold("wide", nets("10.0.0.0/8"))
    assert pool.find() is None
    pool.release("wide")
    pool.release("never held")
    assert pool.find() == "10.244.1.0/24"


def test_ranges_of_ipv6() -> None:
    pool = RangePool(parse_range("fd00::/48", 64), 64)
    pool.hold("a", nets("fd00::/64"))
    assert pool.find() == "fd00:0:0:1::/64"


@pytest.mark.parametrize(("text", "prefix"), [("nonsense", 24), ("10.244.0.1/16", 24), ("10.244.0.0/25", 24)])
def test_a_range_that_makes_no_sense_is_refused(text: str, prefix: int) -> None:
    with pytest.raises(ConfigError, match="podRange"):
        parse_range(text, prefix)


def test_what_a_node_has() -> None:
    assert ranges_of({"spec": {"podCIDR": "10.1.0.0/24"}}) == [ipaddress.ip_network("10.1.0.0/24")]
    assert ranges_of({"spec": {"podCIDRs": ["10.1.0.0/24", "odd"]}}) == [ipaddress.ip_network("10.1.0.0/24")]
    assert ranges_of({}) == []


@pytest.mark.parametrize(
    ("count", "now_s", "expected"),
    [(1, None, 0), (101, None, 15), (5000, None, 300), (99, 15, 15), (89, 15, 0), (600, 15, 30)],
)
def test_ttl_by_size(count: int, now_s: int | None, expected: int) -> None:
    assert ttl_s(count, now_s) == expected


def endpoints(**meta: Any) -> Object:
    return {
        "metadata": {"name": "db", "namespace": "d", "uid": "E", "labels": {"x": "y"}, **meta},
        "subsets": [
            {
                "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "notReadyAddresses": [{"ip": "10.0.0.2", "hostname": "h"}],
                "ports": [{"port": 5432}],
            }
        ],
    }


def test_one_slice_per_subset_and_family() -> None:
    four, six = mirrored(endpoints())
    assert (four["addressType"], six["addressType"]) == ("IPv4", "IPv6")
    assert [(e["addresses"], e["conditions"]["ready"]) for e in four["endpoints"]] == [
        (["10.0.0.1"], True), (["10.0.0.2"], False),
    ]  # fmt: skip
    assert four["ports"] == [{"name": "", "protocol": "TCP", "port": 5432}]
    assert four["metadata"]["labels"]["kubernetes.io/service-name"] == "db"


def test_only_endpoints_that_nobody_else_minds_are_mirrored() -> None:
    service: Object = {"metadata": {}, "spec": {}}
    assert is_mirrored(endpoints(), service)
    assert not is_mirrored(endpoints(), None)
    assert not is_mirrored(endpoints(), {"metadata": {}, "spec": {"selector": {"a": "b"}}})
    assert not is_mirrored(endpoints(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}), service)
