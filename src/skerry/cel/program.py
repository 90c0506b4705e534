"""The door to expressions: compile once, run often.

environment = Environment({"self": DYN})
program = environment.compile("self.replicas <= self.maximum")
program.run({"self": {"replicas": 1, "maximum": 3}})
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from skerry.base.regex import is_valid
from skerry.cel.ast import Call, Ident, ListOf, Literal, Macro, MapOf, Node, Select, Struct
from skerry.cel.check import Checker
from skerry.cel.cost import Shape, estimate
from skerry.cel.errors import CompileError, CostExceeded, EvalError, issue
from skerry.cel.evaluate import Compiler, Frame, Run
from skerry.cel.functions import Functions
from skerry.cel.library.authorizers import add_authorizers
from skerry.cel.library.formats import add_formats
from skerry.cel.library.lists import add_lists, add_optionals, add_sets
from skerry.cel.library.networks import add_networks, add_urls
from skerry.cel.library.quantities import add_quantities, add_versions
from skerry.cel.library.standard import add_standard
from skerry.cel.library.texts import add_texts
from skerry.cel.operators import add_operators
from skerry.cel.parser import parse
from skerry.cel.types import Type

COST_LIMIT = 1_000_000
"""Units that one run may cost; Kubernetes' own bound for one call."""

DEADLINE_S = 0.25
"""Processor time that one run may take, in seconds."""


@cache
def library() -> Functions:
    """Every function that Kubernetes v1.36 gives to expressions; one table for the process, read-only."""
    table = Functions()
    for add in (
        add_operators,
        add_standard,
        add_texts,
        add_lists,
        add_sets,
        add_optionals,
        add_quantities,
        add_versions,
        add_networks,
        add_urls,
        add_formats,
        add_authorizers,
    ):
        add(table)
    return table


class Program:
    """A compiled expression.

    Args:
        result: the static type of its value.
        names: the variables that it uses.
    """

    def __init__(self, source: str, run: Run, result: Type, names: frozenset[str]) -> None:
        self.source = source
        self.result = result
        self.names = names
        self._run = run

    def run(
        self, variables: Mapping[str, Any], *, limit: int = COST_LIMIT, deadline_s: float = DEADLINE_S
    ) -> tuple[Any, int]:
        """Run it; returns the value and what it cost.

        Raises:
            EvalError: it failed, or cost too much.
        """
        frame = Frame(variables, limit=limit, deadline_s=deadline_s)
        try:
            return self._run(frame), frame.cost
        except EvalError:
            raise
        except RecursionError as exc:
            raise CostExceeded("expression nests too deeply") from exc
        except (ValueError, TypeError, KeyError, IndexError, ArithmeticError, AttributeError) as exc:
            raise EvalError(f"{type(exc).__name__}: {exc}") from exc


class Environment:
    """What expressions may use.

    Args:
        variables: names and their types.
        struct: the type of ``Name{…}``, None for names that cannot be built.
        make: builds ``Name{…}`` from its members.
    """

    def __init__(
        self,
        variables: Mapping[str, Type],
        *,
        struct: Callable[[str], Type | None] = lambda name: None,
        make: Callable[[str, dict[str, Any]], Any] | None = None,
    ) -> None:
        self._variables = dict(variables)
        self._struct = struct
        self._make = make

    def compile(self, source: str, *, wants: tuple[Type, ...] = ()) -> Program:
        """Read and check an expression.

        Args:
            wants: types that its value may have; any when empty.

        Raises:
            CompileError: it cannot be read, names something unknown, or its types do not fit.
        """
        try:
            return self._compile(source, wants)
        except RecursionError as exc:
            raise CompileError("expression nests too deeply") from exc

    def _compile(self, source: str, wants: tuple[Type, ...]) -> Program:
        node = parse(source)
        result = Checker(source, library(), self._variables, self._struct).check(node)
        if wants and result.name != "dyn" and all(result.name != wanted.name for wanted in wants):
            raise CompileError(f"must evaluate to {' or '.join(str(wanted) for wanted in wants)}")
        _check_patterns(source, node)
        run = Compiler(library(), frozenset(self._variables), self._make).run(node)
        return Program(source, run, result, frozenset(_names(node)))


def estimated_cost(source: str, sizes: Mapping[str, Shape]) -> float:
    """The most that one run of an expression that compiles may cost; infinite when nothing bounds it, or it nests too
    deeply to tell.

    Args:
        sizes: what is known of its variables.
    """
    try:
        return estimate(parse(source), sizes)
    except RecursionError:
        return math.inf


def _children(node: Node) -> list[Node]:
    match node:
        case Select(operand=operand):
            return [operand]
        case Call(target=target, args=args):
            return [*([target] if target is not None else []), *args]
        case ListOf(items=items):
            return list(items)
        case MapOf(entries=entries):
            return [part for key, value, _ in entries for part in (key, value)]
        case Struct(entries=members):
            return [value for _, value, _ in members]
        case Macro(operand=operand, body=body):
            return [operand, *body]
    return []


def _walk(node: Node) -> list[Node]:
    found, waiting = [], [node]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += _children(one)
    return found


def _names(node: Node) -> set[str]:
    return {each.name for each in _walk(node) if isinstance(each, Ident)}


def _check_patterns(source: str, node: Node) -> None:
    """A pattern that RE2 does not know is an error of the expression, not of each run."""
    for each in _walk(node):
        if isinstance(each, Call) and each.function in ("matches", "find", "findAll") and each.args:
            pattern = each.args[0] if each.target is not None else each.args[-1]
            text = pattern.value if isinstance(pattern, Literal) else None
            if isinstance(text, str) and not is_valid(text):
                raise CompileError(issue(source, pattern.at, "invalid matches argument"))
