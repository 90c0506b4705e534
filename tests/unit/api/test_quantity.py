"""Resource quantities."""

# ruff: noqa: E501 - one row per case

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.quantity import Quantity, add_resources, canonical, is_quantity, milli_cpu, parse_quantity, whole_units


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0", "0"), ("0Gi", "0"), ("100m", "100m"), ("0.1", "100m"), ("1.5", "1500m"), ("1000m", "1"), ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"), ("1000Mi", "1000Mi"), ("1000k", "1M"), ("1e3", "1e3"), ("12e4", "120e3"), ("5E", "5E"),
        ("1.", "1"), (".5", "500m"), ("-1Ki", "-1Ki"), ("100Ki", "100Ki"), ("0.5Ki", "512"), ("1n", "1n"),
        ("0.1n", "1n"), ("250u", "250u"), ("+3", "3"), ("2Ei", "2Ei"),
    ],
)  # fmt: skip
def test_canonical_form(text: str, written: str) -> None:
    assert canonical(text) == written


def test_numbers_are_quantities() -> None:
    assert canonical(2) == "2"
    assert canonical(0.25) == "250m"


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1.5.2", "1ki", "1Zi", "--1", "e3", "1e", "٣"])
def test_what_is_no_quantity(text: str) -> None:
    assert not is_quantity(text)
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


def test_rounding_is_up() -> None:
    assert milli_cpu("0.0001") == 1
    assert whole_units("1500m") == 2
    assert milli_cpu(None) == whole_units(None) == 0
    assert whole_units("1Gi") == 1 << 30


def test_arithmetic_and_order() -> None:
    assert str(parse_quantity("1Gi") + parse_quantity("1Gi")) == "2Gi"
    assert str(parse_quantity("1") - parse_quantity("100m")) == "900m"
    assert parse_quantity("999m") < parse_quantity("1") <= parse_quantity("1000m")
    total = add_resources({"cpu": parse_quantity("1")}, {"cpu": parse_quantity("500m"), "pods": parse_quantity(3)})
    assert {name: str(amount) for name, amount in total.items()} == {"cpu": "1500m", "pods": "3"}


@given(st.integers(-(10**20), 10**20), st.sampled_from(["binary", "decimal", "exponent"]))
def test_what_is_written_reads_back(nano: int, form: str) -> None:
    assert parse_quantity(str(Quantity(nano, form))).nano == nano
