"""Resource paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.wire.errors import Malformed, ProtocolError, TooLarge
from skerry.wire.kubeedge import route
from skerry.wire.kubeedge.route import Route

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,60}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("default/pod/web", Route("default", "pod", "web")),
        ("null/node/edge-1", Route("", "node", "edge-1")),
        ("default/podlist", Route("default", "podlist")),
        ("kube-node-lease/lease/e", Route("kube-node-lease", "lease", "e")),
    ],
)
def test_paths_are_split(path: str, found: Route) -> None:
    assert route.parse(path) == found
    assert found.path == path


@pytest.mark.parametrize("path", ["", "pod", "a/b/c/d", "a//c", "/b/c", "a/b/", "a/b/c\n", "a/\x00/c"])
def test_broken_paths_are_malformed(path: str) -> None:
    with pytest.raises(Malformed):
        route.parse(path)


@pytest.mark.parametrize("path", ["a/b/" + "c" * 254, "a/" * 2000])
def test_long_paths_are_refused(path: str) -> None:
    with pytest.raises(TooLarge):
        route.parse(path)


@given(NAMES.filter(lambda n: n != "null"), NAMES, st.one_of(st.just(""), NAMES))
def test_build_and_parse_are_inverse(namespace: str, kind: str, name: str) -> None:
    assert route.parse(route.build(namespace, kind, name)) == Route(namespace, kind, name)


@given(NAMES, NAMES, NAMES, NAMES)
def test_the_node_prefix_comes_and_goes(node: str, namespace: str, kind: str, name: str) -> None:
    path = route.build(namespace, kind, name)
    inside = route.add_node(node, path)
    assert route.node_of(inside) == node
    assert route.trim_node(inside) == path


def test_a_namespace_that_begins_with_node_keeps_its_parts() -> None:
    assert route.trim_node("node-tools/pod/web") == "node-tools/pod/web"


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(path: str) -> None:
    route.resource_type(path)
    route.node_of(path)
    try:
        assert route.parse(path).path == path
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("default/pod/web", "pod"),
        ("default/podstatus", "podstatus"),
        ("device/pod/web", "pod"),
        ("device/default/d1/twin/edge_updated", "device/twin/edge_updated"),
        ("device/default/d1/state/update", "device/state/update"),
        ("membership/detail", "membership/detail"),
        ("membership", "membership"),
        ("k8s/ca.crt", "k8s/ca.crt"),
        ("watchapp/sync", "watchapp/sync"),
        ("null", "null"),
        ("node", "node"),
        ("operations.kubeedge.io/v1alpha2/nodeupgradejob/j/node/n", "operations.kubeedge.io"),
        ("", ""),
        ("x", ""),
        ("a/b/c/d", ""),
        ("a/" * 2000, ""),
    ],
)
def test_the_type_chooses_the_handler(path: str, kind: str) -> None:
    assert route.resource_type(path) == kind
