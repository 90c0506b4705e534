"""Values are the same to their users whether msgspec makes them or, where it is missing, dataclasses do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from skerry.base import values as own


def without_msgspec() -> ModuleType:
    hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "msgspec"}
    for name in hidden:
        del sys.modules[name]
    sys.modules["msgspec"] = None  # type: ignore[assignment]
    try:
        spec = importlib.util.spec_from_file_location("values_without_msgspec", own.__file__)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        del sys.modules["msgspec"]
        sys.modules.update(hidden)


@pytest.fixture(params=["msgspec", "dataclasses"])
def values(request: pytest.FixtureRequest) -> Any:
    found = own if request.param == "msgspec" else without_msgspec()
    assert hasattr(found, "msgspec") is (request.param == "msgspec")
    return found


def test_values_are_equal_by_their_fields_and_cannot_be_changed(values: Any) -> None:
    class Point(values.Struct, frozen=True):
        x: int
        y: int = 2

    class Other(values.Struct, frozen=True):
        x: int
        y: int = 2

    assert Point(1) == Point(1, y=2) != Point(1, 3)
    assert Point(1) != Other(1)
    assert len({Point(1), Point(1), Point(2)}) == 2
    assert repr(Point(1)).endswith("Point(x=1, y=2)")
    assert Point.__struct_fields__ == Point.__match_args__ == ("x", "y")
    assert values.replace(Point(1), y=5) == Point(1, 5)
    assert values.asdict(Point(1)) == {"x": 1, "y": 2}
    with pytest.raises(AttributeError):
        Point(1).x = 3
    with pytest.raises(TypeError):
        Point()


def test_fields_have_defaults_of_their_own_and_what_changes_has_no_hash(values: Any) -> None:
    class Tally(values.Struct):
        seen: list[int] = values.field(default_factory=list)

    one, two = Tally(), Tally()
    one.seen.append(1)
    assert (one.seen, two.seen) == ([1], [])
    two.seen = [1]
    assert one == two
    with pytest.raises(TypeError):
        hash(one)


def test_order_and_identity(values: Any) -> None:
    class Version(values.Struct, frozen=True, order=True):
        major: int
        minor: int

    class Job(values.Struct, eq=False):
        name: str

    assert sorted([Version(1, 3), Version(1, 2), Version(0, 9)])[-1] == Version(1, 3)
    job = Job("a")
    assert job != Job("a") and len({job, Job("a")}) == 2


@pytest.mark.parametrize("door", ["skerry.sdk.mapper", "skerry.sdk.client", "skerry.base.grpc"])
def test_msgspec_is_loaded_without_what_it_does_not_need(door: str) -> None:
    code = f"import sys, {door}; print('msgspec' in sys.modules, 'typing_extensions' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"]
