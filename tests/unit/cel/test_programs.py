"""Expressions and their values, function by function; and how they fail."""

# ruff: noqa: E501 - cases stand on one line

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.cel.expressions import REFUSED, TRUE

from skerry.cel.errors import CompileError, CostExceeded, EvalError
from skerry.cel.program import Environment
from skerry.cel.types import BOOL, DYN, INT, STRING, object_type, parse_type
from skerry.cel.values import KeyedList, SetList

SELF = {"a": 1, "b": {"c": "x"}, "list": [3, 1, 2], "none": None}
ENVIRONMENT = Environment(
    {
        "self": DYN,
        "n": INT,
        "s": STRING,
        "words": parse_type("list<string>"),
        "typed": object_type("Typed", {"name": STRING, "count": INT}),
    }
)
VARIABLES = {"self": SELF, "n": 7, "s": "a,b,c", "words": ["ab", "ac"], "typed": {"name": "t", "count": 2}}


def run(source: str) -> Any:
    return ENVIRONMENT.compile(source).run(VARIABLES)[0]


@pytest.mark.parametrize("source", TRUE)
def test_true(source: str) -> None:
    assert run(source) is True


@pytest.mark.parametrize(("source", "text"), REFUSED)
def test_refused_before_it_runs(source: str, text: str) -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile(source)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("self.missing", "no such key: missing"),
        ("self['missing']", "no such key: missing"),
        ("self.list[9]", "index out of bounds: 9"),
        ("1 / (n - 7)", "division by zero"),
        ("1 % (n - 7)", "modulus by zero"),
        ("9223372036854775807 + n", "integer overflow"),
        ("self.a + self.b.c", "no such overload"),
        ("self.a.x", "no such overload: (int)"),
        ("self.b && true", "no such overload: (map)"),
        ("self.a ? 1 : 2", "no such overload: (int)"),
        ("int('x')", "invalid syntax"),
        ("timestamp('yesterday')", "failed"),
        ("duration('1 hour')", "invalid duration"),
        ("[].max()", "max called on empty list"),
        ("optional.none().value()", "optional.none() dereference"),
        ("quantity('x')", "quantities must match"),
        ("ip('x')", "parse error"),
        ("'x'.matches(s + '(')", "error parsing regexp"),
        ("'abc'.substring(2, 1)", "invalid substring range"),
        ("'%d'.format(['x'])", "%d cannot be applied to string"),
        ("'%s %s'.format(['x'])", "too few arguments"),
        ("{'a': 1, 'a': 2}", "duplicate key in map: a"),
        ("self.list.all(x, x.missing)", "no such overload"),
    ],
)
def test_fails_while_it_runs(source: str, text: str) -> None:
    with pytest.raises(EvalError) as caught:
        run(source)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "l.all(a, l.all(b, l.all(c, l.all(d, a + b + c + d >= 0))))",
        "l.map(a, l.map(b, l.map(c, c))).size() > 0",
        "cel.bind(a, t + t, cel.bind(b, a + a, cel.bind(c, b + b, cel.bind(d, c + c, l.all(x, d + d != ''))))) && l.all(x, l.all(y, t.contains('z') == false))",
        "l.all(x, t.replace('a', t).size() > 0)",
    ],
)
def test_no_run_is_unbounded(source: str) -> None:
    environment = Environment({"l": parse_type("list<int>"), "t": STRING})
    with pytest.raises(EvalError) as caught:
        environment.compile(source).run({"l": list(range(1000)), "t": "a" * 100_000})
    assert "operation cancelled" in str(caught.value) or "result of more than" in str(caught.value)


def test_the_cost_limit_is_the_caller_s() -> None:
    program = Environment({"l": parse_type("list<int>")}).compile("l.all(x, x >= 0)")
    value, cost = program.run({"l": list(range(100))})
    assert (value, 100 <= cost <= 1000) == (True, True)
    with pytest.raises(CostExceeded, match=r"actual cost limit exceeded \(50\)"):
        program.run({"l": list(range(100))}, limit=50)
    with pytest.raises(CostExceeded, match="took too long"):
        program.run({"l": list(range(100))}, deadline_s=-1.0)


def test_lists_that_a_schema_calls_sets_or_maps() -> None:
    program = Environment({"a": parse_type("list<dyn>"), "b": parse_type("list<dyn>")}).compile("a == b")
    assert program.run({"a": SetList([1, 2]), "b": SetList([2, 1])})[0] is True
    assert program.run({"a": [1, 2], "b": [2, 1]})[0] is False
    first, second = {"name": "x", "v": 1}, {"name": "y", "v": 2}
    keyed = KeyedList([first, second], ("name",))
    assert program.run({"a": keyed, "b": KeyedList([second, first], ("name",))})[0] is True
    plus = Environment({"a": parse_type("list<dyn>"), "b": parse_type("list<dyn>")}).compile("a + b")
    merged = plus.run({"a": keyed, "b": [{"name": "y", "v": 3}, {"name": "z", "v": 4}]})[0]
    assert merged == [first, {"name": "y", "v": 3}, {"name": "z", "v": 4}]


def test_what_an_expression_must_give() -> None:
    with pytest.raises(CompileError, match="must evaluate to bool"):
        ENVIRONMENT.compile("n + 1", wants=(BOOL,))
    assert ENVIRONMENT.compile("self.a", wants=(BOOL,)).result == DYN
    assert ENVIRONMENT.compile("n > 1 && s != ''").names == {"n", "s"}
