"""Rules of a CustomResourceDefinition, and whether upstream thinks that they may cost too much."""

from __future__ import annotations

from typing import Any

PROPERTIES: dict[str, Any] = {
    "i": {"type": "integer"},
    "s": {"type": "string", "maxLength": 10},
    "b": {"type": "string", "format": "byte", "maxLength": 10},
    "l": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 5}},
    "t": {"type": "string"},
}
"""Of the object that the rules are about."""

TAKEN = (
    "duration(self.t) > duration('1s')",
    "timestamp(self.t) == timestamp('2000-01-01T00:00:00Z')",
    "ip(self.t) == ip('::1')",
    "isURL(self.t)",
    "sets.contains(self.l, ['a'])",
    "string(self.i) == 'b'",
    "string(self.i).startsWith('x')",
    "string(self.b).contains('b')",
    "(has(self.i) ? 'a' : self.s).contains('b')",
    "self.l.map(x, x + 'a').exists(y, y.contains('b'))",
    "self.s.split(',').exists(x, x.contains('a'))",
    "self.s.find('a+').contains('b')",
    "self.s.findAll('a+').exists(x, x.contains('b'))",
    "self.s.lowerAscii().contains('b')",
    "self.l.slice(0, 1).exists(x, x.contains('b'))",
    "self.l.distinct().exists(x, x.contains('b'))",
    "self.l.sort().exists(x, x.contains('b'))",
    "lists.range(3).all(x, x < 4)",
    "(self.l + ['a']).exists(x, x.contains('b'))",
    "self.l[0].contains('b')",
    "(has(self.l) ? self.l : []).exists(k, k.contains('/'))",
)
REFUSED = (
    "'a' + string(self.i) == 'b'",
    "string(self.i).contains('x')",
    "string(self.i).matches('x')",
    "string(duration(self.s)).contains('b')",
    "url(self.s).getHost().contains('a')",
    "[self.s, self.s].join(',') == 'x'",
    "self.l.reverse().join(',') == 'x'",
    "self.l.filter(x, x != 'a').join(',').contains('b')",
    "self.l.max().contains('b')",
    "self.l.first().value().contains('b')",
    "self.s.charAt(0).contains('a')",
    "self.?s.orValue('').contains('b')",
    "'%s'.format([self.s]).contains('b')",
)
