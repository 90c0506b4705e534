"""Sets of paths as ``managedFields`` writes them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skerry.api.apply.fieldsets import (
    difference,
    has,
    intersection,
    is_well_formed,
    path_text,
    paths,
    union,
)

PARTS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"s"', "i:0"])
PATHS = st.sets(st.lists(PARTS, min_size=1, max_size=4).map(tuple), max_size=12)


def tree_of(wanted: set[tuple[str, ...]]) -> dict[str, Any]:
    """The tree of a plain set of paths."""
    root: dict[str, Any] = {}
    for path in wanted:
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node["."] = {}
    return _tidy(root)


def _tidy(node: dict[str, Any]) -> dict[str, Any]:
    children = {part: _tidy(child) for part, child in node.items() if part != "."}
    return {".": {}, **children} if children and "." in node else children


@given(PATHS, PATHS)
def test_operations_agree_with_those_on_plain_sets(left: set[Any], right: set[Any]) -> None:
    a, b = tree_of(left), tree_of(right)
    assert set(paths(a)) == left
    assert union(a, b) == tree_of(left | right)
    assert difference(a, b) == tree_of(left - right)
    assert intersection(a, b) == tree_of(left & right)
    assert all(has(a, path) for path in left)
    assert not any(has(a, path) for path in right - left)
    assert is_well_formed(a)


def test_arguments_stay_as_they_were() -> None:
    a, b = tree_of({("f:a",), ("f:a", "f:b")}), tree_of({("f:a", "f:b"), ("f:b",)})
    before = repr((a, b))
    union(a, b), difference(a, b), intersection(a, b)
    assert repr((a, b)) == before


def test_paths_read_as_people_write_them() -> None:
    path = ("f:spec", "f:containers", 'k:{"name":"web","port":80}', "f:env", 'v:"A"', "i:3")
    assert path_text(path) == '.spec.containers[name="web",port=80].env[="A"][3]'


def test_what_is_no_tree_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"f:a": deep}
    for bad in ([], {"a": {}}, {"f:a": None}, {"k:{": {}}, {"k:1": {}}, {"i:x": {}}, {".": {"f:a": {}}}, deep):
        assert not is_well_formed(bad)
