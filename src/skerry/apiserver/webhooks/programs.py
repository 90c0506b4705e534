"""A policy's expressions, compiled together: variables see the ones before them, everything else sees all.

Source: kubernetes apiserver/pkg/admission/plugin/policy/{validating,mutating}, pkg/cel/mutation (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skerry.api.gvk import Object
from skerry.apiserver.webhooks.conditions import VARIABLES
from skerry.base.values import Struct
from skerry.cel.errors import CompileError, EvalError
from skerry.cel.program import COST_LIMIT, Environment, Program
from skerry.cel.types import BOOL, DYN, NULL, STRING, ObjectType, Type, list_of, object_type

POLICY_COST_LIMIT = 10_000_000
"""Units that all expressions of one policy may cost for one request."""

_PATCH = object_type("JSONPatch", {"op": STRING, "path": STRING, "from": STRING, "value": DYN})


def _member(name: str) -> Type | None:
    return DYN


_OBJECT = ObjectType("Object", (), _member)


class Operation(Struct, frozen=True):
    """One operation of a JSON patch, as a value of expressions."""

    cel_type = "JSONPatch"
    members: Mapping[str, Any]


class Variables:
    """The value of ``variables``: each is computed when it is first used."""

    cel_type = "kubernetes.variables"

    def __init__(self, programs: Mapping[str, Program], account: Account) -> None:
        self._programs = programs
        self._account = account
        self._known: dict[str, Any] = {}

    def cel_field(self, name: str) -> Any:
        """The value of one variable.

        Raises:
            EvalError: its expression failed.
        """
        if name not in self._known:
            program = self._programs.get(name)
            if program is None:
                raise EvalError(f"no such key: {name}")
            try:
                self._known[name] = self._account.run(program)
            except EvalError as exc:
                raise EvalError(f"composited variable '{name}' fails to evaluate: {exc}") from exc
        return self._known[name]

    def cel_has(self, name: str) -> bool:
        """Whether there is a variable of that name."""
        return name in self._programs


class Account:
    """The values of one request, and what its expressions may still cost."""

    def __init__(self, values: Mapping[str, Any], programs: Mapping[str, Program]) -> None:
        self._left = POLICY_COST_LIMIT
        self._values = {**values, "variables": Variables(programs, self)}

    def run(self, program: Program) -> Any:
        """The value of an expression.

        Raises:
            EvalError: it failed, or the budget is used up.
        """
        if self._left <= 0:
            raise EvalError(
                "validation failed due to running out of cost budget, no further validation rules will be run"
            )
        value, cost = program.run(self._values, limit=min(COST_LIMIT, self._left))
        self._left -= cost
        return value


class Problem(Struct, frozen=True):
    """An expression that cannot run: its place in the policy, its text, and why."""

    field: str
    source: str
    why: str


class Compiled:
    """The expressions of one policy.

    Args:
        policy: its content; ``spec`` with validations or mutations.
        own: the static type of ``object`` and ``oldObject``; ``dyn`` when it is not known.
    """

    def __init__(self, policy: Object, own: Type = DYN) -> None:
        spec = policy.get("spec") or {}
        self.spec = spec
        self.problems: list[Problem] = []
        self.variables: dict[str, Program] = {}
        types: dict[str, Type] = {}
        base = {**VARIABLES, "object": own, "oldObject": own, "namespaceObject": DYN}
        if spec.get("paramKind"):
            base["params"] = DYN
        self._base = base
        self._types = types
        for index, item in enumerate(spec.get("variables") or ()):
            program = self._compile(f"spec.variables[{index}].expression", item.get("expression"), ())
            if program is not None:
                self.variables[str(item["name"])] = program
                types[str(item["name"])] = program.result
            else:
                types[str(item.get("name"))] = DYN
        self.conditions = [
            (item, self._compile(f"spec.matchConditions[{index}].expression", item.get("expression"), (BOOL,)))
            for index, item in enumerate(spec.get("matchConditions") or ())
        ]
        self.validations = list(self._validations())
        self.annotations = [
            (
                str(item.get("key")),
                self._compile(
                    f"spec.auditAnnotations[{index}].valueExpression", item.get("valueExpression"), (STRING, NULL)
                ),
            )
            for index, item in enumerate(spec.get("auditAnnotations") or ())
        ]
        self.mutations = list(self._mutations())

    def account(self, values: Mapping[str, Any]) -> Account:
        """Ready to run for one request."""
        return Account(values, self.variables)

    def _environment(self) -> Environment:
        names = {**self._base, "variables": object_type("variables", dict(self._types))}
        return Environment(names, struct=_struct, make=_make)

    def _compile(self, field: str, source: Any, wants: tuple[Type, ...]) -> Program | None:
        text = str(source or "").strip()
        if not text:
            return None
        try:
            return self._environment().compile(text, wants=wants)
        except CompileError as exc:
            self.problems.append(Problem(field, text, str(exc)))
            return None

    def _validations(self) -> Iterator[tuple[Object, Program | None, Program | None]]:
        for index, item in enumerate(self.spec.get("validations") or ()):
            where = f"spec.validations[{index}]"
            yield (
                item,
                self._compile(f"{where}.expression", item.get("expression"), (BOOL,)),
                self._compile(f"{where}.messageExpression", item.get("messageExpression"), (STRING,)),
            )

    def _mutations(self) -> Iterator[tuple[str, Program | None]]:
        for index, item in enumerate(self.spec.get("mutations") or ()):
            where = f"spec.mutations[{index}]"
            if item.get("patchType") == "JSONPatch":
                source, wants = (item.get("jsonPatch") or {}).get("expression"), (list_of(_PATCH),)
                yield "JSONPatch", self._compile(f"{where}.jsonPatch.expression", source, wants)
            else:
                source = (item.get("applyConfiguration") or {}).get("expression")
                yield "ApplyConfiguration", self._compile(f"{where}.applyConfiguration.expression", source, (_OBJECT,))


def _struct(name: str) -> Type | None:
    if name == "JSONPatch":
        return _PATCH
    return _OBJECT if name == "Object" or name.startswith("Object.") else None


def _make(name: str, members: dict[str, Any]) -> Any:
    return Operation(members) if name == "JSONPatch" else members
