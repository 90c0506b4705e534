"""The patch that apply sends."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.sdk.client import three_way_patch


@pytest.mark.parametrize(
    ("last", "wanted", "live", "patch"),
    [
        ({}, {"a": 1}, {"a": 1}, {}),
        ({}, {"a": 2}, {"a": 1, "b": 5}, {"a": 2}),
        ({"b": 1}, {}, {"b": 1}, {"b": None}),
        ({"b": 1}, {}, {}, {}),
        ({"m": {"x": 1, "y": 1}}, {"m": {"x": 1}}, {"m": {"x": 1, "y": 1, "z": 9}}, {"m": {"y": None}}),
        ({}, {"l": [1, 2]}, {"l": [1]}, {"l": [1, 2]}),
        ({}, {"m": {"x": None}}, {"m": {}}, {}),
    ],
)
def test_three_way_patch(last: Any, wanted: Any, live: Any, patch: Any) -> None:
    assert three_way_patch(last, wanted, live) == patch
