"""Expressions and their values, function by function; and how they fail."""

# ruff: noqa: E501 - cases stand on one line

from __future__ import annotations

from typing import Any

import pytest

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


@pytest.mark.parametrize(
    "source",
    [
        # operators
        "1 + 2 * 3 == 7 && -7 / 2 == -3 && -7 % 3 == -1",
        "1u + 2u == 3u && 2.5 * 2.0 == 5.0",
        "'a' + 'b' == 'ab' && b'a' + b'b' == b'ab' && [1] + [2] == [1, 2]",
        "1 < 2 && 'a' < 'b' && 1 < 1.5 && 2u > 1 && false < true",
        "2 in [1, 2] && 'a' in {'a': 1} && !('b' in {'a': 1})",
        "dyn(1) == dyn(1.0) && dyn(1u) == dyn(1) && dyn('1') != dyn(1)",
        "{'a': [{'c': 1}, {'b': 2}]} == {'a': [{'c': 1}, {'b': 2}]}",
        "n == 7 ? true : 1 / 0 == 1",
        "self.a == 1 || self.missing == 2",
        "self.missing == 2 || self.a == 1",
        "!(self.a == 2 && self.missing == 1)",
        "!!true && - -1 == 1 && -n == -7",
        "0x10 == 16 && 1e3 == 1000.0 && .5 == 0.5",
        # texts
        "'\\x41\\u00e9\\101\\n' == 'A\\u00e9A\\n' && r'\\n' == '\\\\n'",
        "'''a'b''' == \"a'b\" && b'\\xff'.size() == 1",
        "'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')",
        "'hello'.matches('^h.*o$') && matches('abc', 'b')",
        "s.split(',') == ['a', 'b', 'c'] && s.split(',', 2) == ['a', 'b,c'] && s.split(',', 0) == []",
        "['a', 'b'].join('-') == 'a-b' && ['a', 'b'].join() == 'ab'",
        "'tacocat'.indexOf('ac') == 1 && 'tacocat'.indexOf('c', 3) == 4 && 'x'.indexOf('y') == -1",
        "'tacocat'.lastIndexOf('c') == 4 && 'tacocat'.lastIndexOf('c', 3) == 2",
        "'hello'.replace('l', 'L') == 'heLLo' && 'hello'.replace('l', 'L', 1) == 'heLlo'",
        "'TacoCat'.lowerAscii() == 'tacocat' && 'é a'.upperAscii() == 'é A'",
        "'hello'.substring(1, 3) == 'el' && 'hello'.substring(2) == 'llo' && 'hi'.charAt(1) == 'i'",
        "'  x '.trim() == 'x' && 'abc'.reverse() == 'cba' && strings.quote('a\"b') == '\"a\\\\\"b\"'",
        "'%s is %d, %.2f, %b, %x, %e %%'.format(['x', 3, 2.5, 5, 255, 1.0]) == 'x is 3, 2.50, 101, ff, 1.000000e+00 %'",
        "'%s'.format([[dyn(1), 'a', null, true, {'k': 1.5}]]) == '[1, a, null, true, {k: 1.5}]'",
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'1 22 3'.findAll('[0-9]+') == ['1', '22', '3'] && '1 22 3'.findAll('[0-9]+', 2) == ['1', '22']",
        "base64.encode(b'hi') == 'aGk=' && base64.decode('aGk') == b'hi'",
        "'é'.size() == 1 && size(b'\\xc3\\xa9') == 2 && [1, 2].size() == 2 && size({'a': 1}) == 1",
        # lists
        "[1, 2].all(i, i > 0) && [1, 2].exists(i, i == 2) && [1, 2].exists_one(i, i == 2) && [1, 1].existsOne(i, i == 2) == false",
        "[1, 2, 3].map(i, i * 2) == [2, 4, 6] && [1, 2, 3].map(i, i > 1, i * 2) == [4, 6] && [1, 2].filter(i, i > 1) == [2]",
        "{'a': 1, 'b': 2}.all(k, k < 'c') && {'a': 1}.exists(k, v, v == 1) && [5].all(i, v, i == 0 && v == 5)",
        "[1, 2].transformList(i, v, i * v) == [0, 2] && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
        "{'a': 1}.transformMapEntry(k, v, {v: k}) == {1: 'a'}",
        "[1, 2].isSorted() && ![2, 1].isSorted() && ['a', 'b'].isSorted()",
        "[1, 2].sum() == 3 && [1.5, 2.5].sum() == 4.0 && [duration('1m'), duration('1s')].sum() == duration('61s')",
        "[3, 1, 2].min() == 1 && [3, 1, 2].max() == 3 && self.list.max() == 3",
        "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && [1].indexOf(5) == -1",
        "[1, 2, 3].slice(1, 3) == [2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3] && [[[1]], [[2]]].flatten(2) == [1, 2] && [1, 2, 1].distinct() == [1, 2]",
        "[3, 1].sort() == [1, 3] && ['bb', 'a'].sortBy(w, w.size()) == ['a', 'bb'] && lists.range(3) == [0, 1, 2] && [1, 2].reverse() == [2, 1]",
        "[1, 2].first().value() == 1 && [1, 2].last().orValue(0) == 2 && !dyn([]).first().hasValue()",
        "sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2, 2], [2, 1]) && sets.intersects([1], [1, 2]) && !sets.contains([1], [2])",
        "self.list.all(x, self.list.exists(y, x == y))",
        # optional values
        "self.?missing.orValue(5) == 5 && self.?a.orValue(5) == 1 && self.?b.?c.orValue('') == 'x' && self.?b.c.hasValue()",
        "self[?'missing'].hasValue() == false && self.list[?9].orValue(0) == 0 && self.list[?0].value() == 3",
        "[?self.?a, ?self.?missing] == [1] && {?'a': self.?a, ?'z': self.?missing} == {'a': 1}",
        "optional.of(1).optMap(x, x + 1).value() == 2 && optional.none().optMap(x, 1).hasValue() == false",
        "optional.of(1).optFlatMap(x, optional.of(x + 1)).value() == 2 && optional.ofNonZeroValue('').hasValue() == false",
        "self.?missing.or(self.?a).value() == 1 && optional.unwrap([optional.of(1), optional.none()]) == [1]",
        "cel.bind(x, 'a' + 'b', x + x) == 'abab'",
        "has(self.a) && !has(self.missing) && has(self.none) && has(self.b.c)",
        # types and conversions
        "int('12') == 12 && int(2.9) == 2 && uint('3') == 3u && double('1.5') == 1.5 && string(1.0) == '1' && bool('true')",
        "string(b'x') == 'x' && bytes('x') == b'x' && string(true) == 'true' && int(timestamp('1970-01-01T00:00:05Z')) == 5",
        "type(1) == int && type('') == string && type([]) == list && type({}) == map && type(null) == null_type && type(type(1)) == type",
        "type(timestamp('2024-01-01T00:00:00Z')) == google.protobuf.Timestamp",
        # times
        "timestamp('2024-02-29T10:20:30.5Z').getFullYear() == 2024 && timestamp('2024-02-29T10:20:30.5Z').getMonth() == 1",
        "timestamp('2024-02-29T10:20:30.5Z').getDate() == 29 && timestamp('2024-02-29T10:20:30.5Z').getDayOfWeek() == 4",
        "timestamp('2024-02-29T10:20:30.5Z').getHours('+02:00') == 12 && timestamp('2024-02-29T10:20:30.5Z').getMilliseconds() == 500",
        "timestamp('2024-01-01T00:00:00+01:00') == timestamp('2023-12-31T23:00:00Z')",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "timestamp('2024-01-01T00:00:00Z') + duration('1h30m') > timestamp('2024-01-01T01:00:00Z')",
        "duration('1h30m').getMinutes() == 90 && duration('-1.5s').getMilliseconds() == -1500 && string(duration('90s')) == '90s'",
        "string(timestamp('2024-01-01T00:00:00.25Z')) == '2024-01-01T00:00:00.25Z'",
        # quantities and versions
        "quantity('1Gi').isGreaterThan(quantity('1Mi')) && quantity('500m').add(quantity('0.5')).asInteger() == 1",
        "isQuantity('100m') && !isQuantity('1x') && quantity('50k').compareTo(quantity('50000')) == 0 && quantity('-1').sign() == -1",
        "quantity('1500m').isInteger() == false && quantity('2').sub(1).asInteger() == 1 && quantity('1.5').asApproximateFloat() == 1.5",
        "quantity('1') == quantity('1000m')",
        "semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && semver('1.10.0').minor() == 10 && !isSemver('v1.0') && isSemver('v1.0', true)",
        # networks and URLs
        "ip('192.168.0.1').family() == 4 && ip('::1').isLoopback() && isIP('::1') && !isIP('1.2.3') && !isIP('::ffff:1.2.3.4') && !isIP('01.2.3.4')",
        "ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1') && string(ip('2001:DB8::1')) == '2001:db8::1'",
        "ip('0.0.0.0').isUnspecified() && ip('224.0.0.1').isLinkLocalMulticast() && ip('169.254.1.1').isLinkLocalUnicast() && ip('10.0.0.1').isGlobalUnicast()",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3') && cidr('10.0.0.0/8').prefixLength() == 8",
        "cidr('10.0.0.0/8').containsIP('10.2.3.4') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.0.0.0/8').containsCIDR(cidr('0.0.0.0/0')) && !isCIDR('10.0.0.0/33')",
        "url('https://u@example.com:80/a b?k=1&k=2').getHost() == 'example.com:80' || true",
        "url('https://example.com:80/a%20b?k=1&k=2').getQuery() == {'k': ['1', '2']} && url('https://[::1]:80/').getHostname() == '::1'",
        "url('https://example.com:80/p').getPort() == '80' && url('https://example.com/p').getScheme() == 'https' && url('/p').getEscapedPath() == '/p'",
        "isURL('https://example.com') && isURL('/abs') && !isURL('../rel') && !isURL('')",
        # named formats
        "!format.dns1123Label().validate('abc').hasValue() && format.dns1123Label().validate('A_').value().size() == 1",
        "format.named('uuid').value().validate('x').hasValue() && !format.named('nope').hasValue()",
        "!format.datetime().validate('2024-01-01T00:00:00Z').hasValue() && format.date().validate('2024-13-01').hasValue()",
        # typed objects
        "typed.name == 't' && typed.count + 1 == 3 && has(typed.name)",
    ],
)
def test_true(source: str) -> None:
    assert run(source) is True


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("foo + 1", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo + 1\n | ^"),
        (
            "1 + 's'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 's'\n | ..^",
        ),
        ("typed.nme == 't'", "undefined field 'nme'"),
        ("s.x", "type 'string' does not support field selection"),
        ("s.nothing()", "undeclared reference to 'nothing'"),
        ("nothing(s)", "undeclared reference to 'nothing'"),
        ("s.split(1)", "found no matching overload for 'split' applied to 'string.(int)'"),
        ("typed.count == 'x'", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("[1, 'a']", "expected type 'int' but found 'string'"),
        ("n.all(i, true)", "cannot be range of a comprehension"),
        ("words.all(i, i)", "expected type 'bool' but found 'string'"),
        ("n && true", "expected type 'bool' but found 'int'"),
        ("n ? 1 : 2", "expected type 'bool' but found 'int'"),
        ("true ? 1 : 'a'", "found no matching overload for '_?_:_'"),
        ("'a'.matches('(?=a)')", "invalid matches argument"),
        ("1 +", "Syntax error: mismatched input '<EOF>'"),
        ("a b", "Syntax error: mismatched input 'b'"),
        ("'a", "token recognition error"),
        ("has(n)", "invalid argument to has() macro"),
        ("for", "reserved identifier: for"),
        ("9223372036854775808", "invalid int literal"),
        ("[1].map(1, 2)", "argument must be a simple name"),
        ("(" * 200 + "1" + ")" * 200, "recursion limit exceeded"),
        ("'x'" + "+'x'" * 8000, "is longer than"),
        ("Thing{a: 1}", "undeclared reference to 'Thing'"),
        ("math.greatest(1, 2)", "undeclared reference to 'math.greatest'"),
    ],
)
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
