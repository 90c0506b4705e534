"""Estimated costs against upstream's own numbers, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.unit.cel.costly import PROPERTIES, REFUSED, TAKEN

from skerry.api.structural import compile_structural
from skerry.cel.cost import shape_of
from skerry.cel.errors import CompileError
from skerry.cel.program import Environment, estimated_cost
from skerry.cel.rules import rule_errors
from skerry.cel.types import DYN

TEXT: dict[str, Any] = {"type": "string"}
NUMBER: dict[str, Any] = {"type": "number"}


def bounded(node: dict[str, Any], keyword: str, most: int | None) -> dict[str, Any]:
    return node if most is None else node | {keyword: most}


def listed(item: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    return bounded({"type": "array", "items": item}, "maxItems", most)


def mapped(value: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    return bounded({"type": "object", "additionalProperties": value}, "maxProperties", most)


def text(most: int | None = None, **more: Any) -> dict[str, Any]:
    return bounded(TEXT | more, "maxLength", most)


MIXED = {"x-kubernetes-int-or-string": True}


@pytest.mark.parametrize(
    ("schema", "rule", "cost"),
    [
        (listed(NUMBER), "self.all(x, true)", 4718591),
        (listed(NUMBER, 10), "self.all(x, true)", 32),
        (listed(TEXT), "self.all(x, true)", 3145727),
        (listed({"type": "boolean"}), "self.all(x, true)", 1887437),
        (listed(listed(NUMBER)), "self.all(x, true)", 3145727),
        (listed(MIXED), "self.all(x, true)", 4718591),
        (listed(text(format="date")), "self.all(x, true)", 725936),
        (listed(text(format="date-time")), "self.all(x, true)", 428963),
        (listed(text(format="duration")), "self.all(x, true)", 2359295),
        (listed(NUMBER), "self.all(x, x == 0.0)", 6291454),
        (listed(NUMBER, 10), "self.all(x, self.all(y, true))", 352),
        (listed(NUMBER, 10), "self.all(x, self.all(y, self.all(z, true)))", 3552),
        (mapped(NUMBER), "self.all(x, true)", 1348169),
        (mapped(TEXT), "self.all(x, true)", 1179647),
        (mapped({"type": "boolean"}, 100), "self.all(x, true)", 302),
        (mapped(text(format="date-time")), "self.all(x, true)", 349526),
        (mapped(TEXT), "self.all(x, x.contains(self[x]))", 2752507),
        (listed(mapped(NUMBER)), "self.all(x, x.y == 25.2)", 6291452),
        (text(), "self.contains('test')", 314574),
        (text(10), "self.contains('test')", 5),
        (text(), "self.startsWith('test')", 2),
        (text(), 'size(self + "hello") > size("hello")', 314578),
        (text(4), 'size(self + "hello") > size("hello")', 7),
        (text(), 'self.matches("x")', 314574),
        (text(50), 'self.matches("x")', 22),
        (text(), '"".matches("(((((((((())))))))))[0-9]")', 7),
        (text(), "self.find('[0-9]+') == ''", 629147),
        (text(), 'self == "x"', 2),
        (text(enum=["A", "B", "C", "LongValue"]), "self.contains('A')", 2),
        (text(1000, enum=["A", "B", "C", "LongValue"]), "self.contains('A')", 401),
        (listed(NUMBER), "self[1] == 0.0", 2),
        (listed(TEXT), "self[1] == self[1]", 314577),
        (listed(MIXED), "self[0] == 5", 3),
        (listed(text(format="duration")), "self[0].getHours() == 2", 4),
        (mapped({"type": "integer"}), "oldSelf.size() == self.size()", 5),
        (mapped(text(format="duration")), 'self["c"] == self["d"]', 8),
        (TEXT, "duration(self) > duration('1s')", 4),
        (TEXT, "timestamp(self) == timestamp('2000-01-01T00:00:00Z')", 4),
        (TEXT, "isURL(self)", 2),
        (text(10), "ip(self) == ip('::1')", 7),
        (text(10), "ip.isCanonical(self)", 9),
        (text(10), "cidr('10.0.0.0/8').containsIP(self)", 10),
        (text(10), "cidr('10.0.0.0/8').containsCIDR(self)", 13),
        (text(10), "quantity(self) == quantity('1M')", 7),
        (listed(NUMBER, 4), "sets.contains(self, [2.0, 3.0])", 20),
        (listed(NUMBER, 4), "sets.equivalent(self, [2.0, 3.0])", 28),
        (listed(NUMBER, 4), "!sets.intersects(self, [2.0, 3.0])", 21),
        (text(10), "self.split(',', 3).all(x, true)", 19),
        (text(10), "!format.dns1123Label().validate(self).hasValue()", 132),
    ],
)
def test_costs_are_those_of_upstream(schema: dict[str, Any], rule: str, cost: int) -> None:
    own = shape_of(compile_structural(schema))
    assert estimated_cost(rule, {"self": own, "oldSelf": own}) == cost


@pytest.mark.parametrize(
    ("rule", "is_taken"), [*((rule, True) for rule in TAKEN), *((rule, False) for rule in REFUSED)]
)
def test_the_same_rules_are_taken(rule: str, is_taken: bool) -> None:
    own = shape_of(compile_structural({"type": "object", "properties": PROPERTIES}))
    assert (estimated_cost(rule, {"self": own}) < 10_000_000) is is_taken


@pytest.mark.parametrize("rule", ["1" + "+1" * 4000 + " > 0", "self" + ".a" * 4000 + " == 1"])
def test_what_nests_too_deeply_is_refused_not_estimated(rule: str) -> None:
    assert estimated_cost(rule, {"self": shape_of(compile_structural(TEXT))}) == math.inf
    with pytest.raises(CompileError, match="nests too deeply"):
        Environment({"self": DYN}).compile(rule)


def errors(schema: dict[str, Any], *rules: str) -> list[tuple[str, str]]:
    ruled = schema | {"x-kubernetes-validations": [{"rule": rule} for rule in rules]}
    root = {"type": "object", "properties": {"spec": ruled}}
    return [(error.field, error.message) for error in rule_errors(compile_structural(root), "schema")]


NESTED = (
    "self.all(x, self.all(y, x == y))",
    "self.exists(x, self.exists(y, x == y))",
    "self.map(x, self.map(y, x + y)).size() > 0",
    "self.filter(x, self.exists_one(y, x == y)).size() > 0",
)


@pytest.mark.parametrize("rule", NESTED)
def test_nested_loops_need_a_bound(rule: str) -> None:
    [(field, message)] = [found for found in errors(listed(TEXT), rule) if found[0].endswith(".rule")][:1]
    assert field == "schema.properties[spec].x-kubernetes-validations[0].rule"
    assert "estimated rule cost exceeds budget by factor of more than 100x" in message
    assert "maxItems" in message
    assert errors(listed(text(20), 20), rule) == []


def test_a_rule_counts_as_often_as_its_place_may_be_there() -> None:
    ruled = text(1000) | {"x-kubernetes-validations": [{"rule": "self.contains('abc')"}]}
    inner = {"type": "object", "properties": {"name": ruled}}
    assert errors(listed(inner, 100)) == []
    [(field, message)] = errors(listed(inner, 100_000))
    assert field == "schema.properties[spec].items.properties[name].x-kubernetes-validations[0].rule"
    assert "by factor of 4.0x" in message


def test_all_rules_together_have_a_bound_of_their_own() -> None:
    costly = "self.all(x, x.contains('abc'))"
    schema = listed(text(2_000), 12_000)
    assert errors(schema, costly) == []
    found = errors(schema, *[costly] * 12)
    assert len(found) == 5
    assert {message for field, message in found if field.endswith(".rule")} == {
        "Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
    }
    assert found[-1][0] == "schema"
    assert "estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of 1.15" in found[-1][1]
