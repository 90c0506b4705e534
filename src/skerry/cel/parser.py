"""From tokens to the tree, macros expanded.

Source: the CEL language definition (grammar), cel-go parser/macro.go and ext (macros).
"""

from __future__ import annotations

from skerry.cel.ast import Call, Ident, ListOf, Literal, Macro, MapOf, Node, Select, Struct
from skerry.cel.errors import CompileError, issue
from skerry.cel.lexer import RESERVED, Token, tokens
from skerry.cel.values import Uint

MAX_DEPTH = 60
"""Levels of nesting; each costs some frames of the interpreter's stack."""

_RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")
_LOOPS = {"all": 1, "exists": 1, "exists_one": 1, "filter": 1}
_LOOPS_OF_TWO = {"all": (1,), "exists": (1,), "existsOne": (1,), "exists_one": (1,), "transformList": (1, 2),
                 "transformMap": (1, 2), "transformMapEntry": (1, 2)}  # fmt: skip


def parse(source: str) -> Node:
    """The tree of an expression.

    Raises:
        CompileError: it cannot be read.
    """
    return _Parser(source).whole()


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = tokens(source)
        self._index = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._now.kind != "end":
            raise self._unexpected()
        return node

    @property
    def _now(self) -> Token:
        return self._tokens[self._index]

    def _is(self, *texts: str) -> bool:
        token = self._now
        return (token.kind == "op" or token.text == "in") and token.text in texts and token.kind != "string"

    def _take(self, *texts: str) -> Token | None:
        if not self._is(*texts):
            return None
        self._index += 1
        return self._tokens[self._index - 1]

    def _expect(self, text: str) -> Token:
        token = self._take(text)
        if token is None:
            raise self._unexpected(f", expecting '{text}'")
        return token

    def _unexpected(self, more: str = "") -> CompileError:
        shown = self._now.text or "<EOF>"
        return self._error(self._now.at, f"Syntax error: mismatched input '{shown}'{more}")

    def _error(self, at: int, text: str) -> CompileError:
        return CompileError(issue(self._source, at, text))

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(self._now.at, f"expression recursion limit exceeded: {MAX_DEPTH}")
        node = self._or()
        question = self._take("?")
        if question is not None:
            left = self._or()
            self._expect(":")
            node = Call(question.at, "_?_:_", None, (node, left, self._expression()))
        self._depth -= 1
        return node

    def _or(self) -> Node:
        return self._joined("||", "_||_", self._and)

    def _and(self) -> Node:
        return self._joined("&&", "_&&_", self._relation)

    def _joined(self, word: str, function: str, below: object) -> Node:
        assert callable(below)
        first: Node = below()
        parts = [first]
        at = self._now.at
        while self._take(word):
            parts.append(below())
        return first if len(parts) == 1 else Call(at, function, None, tuple(parts))

    def _relation(self) -> Node:
        node = self._sum()
        while (word := self._take(*_RELATIONS)) is not None:
            name = "@in" if word.text == "in" else f"_{word.text}_"
            node = Call(word.at, name, None, (node, self._sum()))
        return node

    def _sum(self) -> Node:
        node = self._product()
        while (word := self._take("+", "-")) is not None:
            node = Call(word.at, f"_{word.text}_", None, (node, self._product()))
        return node

    def _product(self) -> Node:
        node = self._unary()
        while (word := self._take("*", "/", "%")) is not None:
            node = Call(word.at, f"_{word.text}_", None, (node, self._unary()))
        return node

    def _unary(self) -> Node:
        signs: list[Token] = []
        while (sign := self._take("!", "-")) is not None:
            signs.append(sign)
            if signs[0].text != sign.text:
                raise self._error(sign.at, f"Syntax error: mismatched input '{sign.text}'")
        if len(signs) % 2 and signs[0].text == "-" and self._now.kind in ("int", "float"):
            number = self._now
            self._index += 1
            value = -number.value
            self._check_number(number, value)
            return self._members(Literal(signs[0].at, value))
        node = self._members(self._primary())
        if len(signs) % 2:
            node = Call(signs[0].at, "!_" if signs[0].text == "!" else "-_", None, (node,))
        return node

    def _check_number(self, token: Token, value: float) -> None:
        if token.kind == "int" and not -(1 << 63) <= value < 1 << 63:
            raise self._error(token.at, "Syntax error: invalid int literal")
        if token.kind == "uint" and value >= 1 << 64:
            raise self._error(token.at, "Syntax error: invalid uint literal")

    def _primary(self) -> Node:
        token = self._now
        self._index += 1
        match token.kind:
            case "int" | "float" | "string" | "bytes":
                self._check_number(token, token.value if token.kind == "int" else 0)
                return Literal(token.at, token.value)
            case "uint":
                self._check_number(token, token.value)
                return Literal(token.at, Uint(token.value))
            case "ident":
                return self._named(token)
        if token.kind == "op":
            match token.text:
                case "(":
                    node = self._expression()
                    self._expect(")")
                    return node
                case "[" | "[?":
                    return self._list(token)
                case "{":
                    return MapOf(token.at, self._entries())
                case ".":
                    return self._named(self._name())
        self._index -= 1
        raise self._unexpected()

    def _named(self, token: Token) -> Node:
        match token.text:
            case "true" | "false":
                return Literal(token.at, token.text == "true")
            case "null":
                return Literal(token.at, None)
        if token.text in RESERVED or token.text == "in":
            raise self._error(token.at, f"reserved identifier: {token.text}")
        if self._take("("):
            args = self._args()
            return self._global_call(token, args)
        return Ident(token.at, token.text)

    def _name(self) -> Token:
        token = self._now
        if token.kind not in ("ident", "quoted"):
            raise self._unexpected(", expecting IDENTIFIER")
        self._index += 1
        return token

    def _args(self) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._take(")"):
            found.append(self._expression())
            if not self._is(")"):
                self._expect(",")
        return tuple(found)

    def _list(self, opening: Token) -> Node:
        items: list[Node] = []
        optional: set[int] = set()
        is_optional = opening.text == "[?"
        while not self._take("]"):
            if is_optional or self._take("?"):
                optional.add(len(items))
            is_optional = False
            items.append(self._expression())
            if not self._is("]"):
                self._expect(",")
        return ListOf(opening.at, tuple(items), frozenset(optional))

    def _entries(self) -> tuple[tuple[Node, Node, bool], ...]:
        entries: list[tuple[Node, Node, bool]] = []
        while not self._take("}"):
            is_optional = self._take("?") is not None
            key = self._expression()
            self._expect(":")
            entries.append((key, self._expression(), is_optional))
            if not self._is("}"):
                self._expect(",")
        return tuple(entries)

    def _members(self, node: Node) -> Node:
        while True:
            if (dot := self._take(".", ".?")) is not None:
                name = self._name()
                if dot.text == ".?":
                    node = Select(dot.at, node, name.text, is_optional=True)
                elif name.kind == "ident" and self._take("("):
                    node = self._method(name, node, self._args())
                else:
                    node = Select(dot.at, node, name.text)
            elif (bracket := self._take("[", "[?")) is not None:
                index = self._expression()
                self._expect("]")
                function = "_[_]" if bracket.text == "[" else "_[?_]"
                node = Call(bracket.at, function, None, (node, index))
            elif self._is("{") and (qualified := qualified_name(node)) is not None:
                opening = self._expect("{")
                node = self._struct(opening, qualified)
            else:
                return node

    def _struct(self, opening: Token, name: str) -> Node:
        entries: list[tuple[str, Node, bool]] = []
        while not self._take("}"):
            is_optional = self._take("?") is not None
            key = self._name()
            self._expect(":")
            entries.append((key.text, self._expression(), is_optional))
            if not self._is("}"):
                self._expect(",")
        return Struct(opening.at, name, tuple(entries))

    def _global_call(self, name: Token, args: tuple[Node, ...]) -> Node:
        if name.text == "has":
            if len(args) != 1 or not isinstance(args[0], Select) or args[0].is_optional:
                raise self._error(name.at, "invalid argument to has() macro")
            chosen = args[0]
            return Select(chosen.at, chosen.operand, chosen.field, is_test=True)
        return Call(name.at, name.text, None, args)

    def _method(self, name: Token, target: Node, args: tuple[Node, ...]) -> Node:
        word, count = name.text, len(args)
        if word == "bind" and isinstance(target, Ident) and target.name == "cel" and count == 3:
            return Macro(name.at, "bind", args[1], (self._variable(args[0]),), args[2:])
        if word in ("optMap", "optFlatMap") and count == 2:
            return Macro(name.at, word, target, (self._variable(args[0]),), args[1:])
        if word in _LOOPS and count == 2:
            plain = "existsOne" if word == "exists_one" else word
            return Macro(name.at, plain, target, (self._variable(args[0]),), args[1:])
        if (word == "map" and count in (2, 3)) or (word == "sortBy" and count == 2):
            return Macro(name.at, word, target, (self._variable(args[0]),), args[1:])
        if word in _LOOPS_OF_TWO and count - 2 in _LOOPS_OF_TWO[word]:
            plain = "existsOne" if word == "exists_one" else word
            names = (self._variable(args[0]), self._variable(args[1]))
            if names[0] == names[1]:
                raise self._error(name.at, "iteration variable may not be declared twice")
            return Macro(name.at, plain, target, names, args[2:])
        return Call(name.at, word, target, args)

    def _variable(self, node: Node) -> str:
        if not isinstance(node, Ident):
            raise self._error(node.at, "argument must be a simple name")
        return node.name


def qualified_name(node: Node) -> str | None:
    """The dotted name that a chain of plain selections spells, or None."""
    parts: list[str] = []
    while isinstance(node, Select) and not node.is_optional and not node.is_test:
        parts.append(node.field)
        node = node.operand
    if not isinstance(node, Ident):
        return None
    return ".".join((node.name, *reversed(parts)))
