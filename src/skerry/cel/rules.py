"""``x-kubernetes-validations``: the rules of a custom resource's schema, compiled once and run on every write.

Source: apiextensions-apiserver pkg/apiserver/schema/cel/{compilation,validation}.go and
pkg/apis/apiextensions/validation/validation.go (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skerry.api.field import FieldError, forbidden, invalid, not_supported, required
from skerry.api.patch import json_equal
from skerry.api.schema import Schema
from skerry.api.validation import ABSENT, counterpart
from skerry.cel.cost import occurrences, shape_of, total
from skerry.cel.errors import CompileError, CostExceeded, EvalError
from skerry.cel.program import COST_LIMIT, DEADLINE_S, Environment, Program, estimated_cost
from skerry.cel.schemas import Values, type_of
from skerry.cel.types import BOOL, STRING, optional_of
from skerry.cel.values import NONE, some

ESTIMATE_LIMIT = 10_000_000
"""Units that a rule may cost over a whole object by its estimate, when its CRD is admitted."""

SCHEMA_ESTIMATE_LIMIT = 100_000_000
"""The same for all rules of a schema."""

OBJECT_COST_LIMIT = 10_000_000
"""Units that all rules of one object may cost."""

_REASONS = ("FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired", "FieldValueDuplicate")
_TEXTS = {"FieldValueForbidden": "Forbidden", "FieldValueRequired": "Required value"}
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\['((?:[^'\\]|\\.)*)'\]|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule. ``problem`` says why a rule that was stored by another release cannot run."""

    raw: dict[str, Any]
    program: Program | None
    message: Program | None
    field_path: str
    uses_old: bool
    is_optional: bool
    problem: str = ""


@dataclass(slots=True)
class _Node:
    """The rules of one place, and of the places below it that have any."""

    schema: Schema
    rules: list[Rule]
    properties: dict[str, _Node]
    additional: _Node | None
    items: _Node | None


class _Budget:
    def __init__(self) -> None:
        self.left = OBJECT_COST_LIMIT


class RuleSet:
    """The rules of one schema.

    Args:
        schema: the root; its rules must have been found without errors by ``rule_errors``.
    """

    def __init__(self, schema: Schema) -> None:
        self._values = Values()
        self._root = _compile(schema, is_root=True)

    def errors(self, obj: Any, old: Any = ABSENT) -> list[FieldError]:
        """Every rule that an object breaks.

        Args:
            old: the object before the change; rules over ``oldSelf`` run only with one, and rules over values that
                did not change do not run.
        """
        if self._root is None:
            return []
        return list(self._at(self._root, obj, old, "", _Budget()))

    def _at(self, node: _Node, value: Any, old: Any, path: str, budget: _Budget) -> Iterator[FieldError]:
        if value is None or budget.left <= 0:
            return
        is_same = old is not ABSENT and json_equal(value, old)
        if node.rules:
            yield from self._run(node, value, old, path, budget, is_same=is_same)
        if isinstance(value, dict):
            yield from self._members(node, value, old, path, budget)
        elif isinstance(value, list) and node.items is not None:
            for index, item in enumerate(value):
                before = counterpart(item, old, node.schema)
                yield from self._at(node.items, item, before, f"{path}[{index}]", budget)

    def _members(
        self, node: _Node, value: dict[str, Any], old: Any, path: str, budget: _Budget
    ) -> Iterator[FieldError]:
        known = old if isinstance(old, dict) else {}
        for name, member in value.items():
            below = node.properties.get(name)
            if below is not None:
                where = f"{path}.{name}" if path else name
            elif node.additional is not None and name not in node.schema.properties:
                below, where = node.additional, f"{path}[{name}]"
            else:
                continue
            yield from self._at(below, member, known.get(name, ABSENT), where, budget)

    def _run(
        self, node: _Node, value: Any, old: Any, path: str, budget: _Budget, *, is_same: bool
    ) -> Iterator[FieldError]:
        has_old = old is not ABSENT and old is not None
        own = self._values.of(value, node.schema)
        before = self._values.of(old, node.schema) if has_old else None
        for rule in node.rules:
            if rule.uses_old and not has_old and not rule.is_optional:
                continue
            if is_same and not rule.uses_old:
                continue
            variables = {"self": own, "oldSelf": before}
            if rule.is_optional:
                variables["oldSelf"] = some(before) if has_old else NONE
            yield from _judge(rule, variables, value, node.schema, path, budget)


def _judge(
    rule: Rule, variables: dict[str, Any], value: Any, schema: Schema, path: str, budget: _Budget
) -> Iterator[FieldError]:
    if budget.left <= 0:
        return
    shown = schema.type or "object"
    if rule.program is None:
        yield invalid(path, shown, f"rule compile error: {rule.problem}")
        return
    try:
        holds, cost = rule.program.run(variables, limit=min(COST_LIMIT, budget.left), deadline_s=DEADLINE_S)
    except CostExceeded as exc:
        budget.left = 0
        yield invalid(
            path, shown, f"'{exc}': no further validation rules will be run due to call cost exceeds limit for rule: "
            f"{_said(rule)}",
        )  # fmt: skip
        return
    except EvalError as exc:
        if str(exc).startswith("no such overload"):
            text = f"'{exc}': call arguments did not match a supported operator, function or macro signature for rule: "
            yield invalid(path, shown, text + _said(rule))
        else:
            yield invalid(path, shown, f"{exc} evaluating rule: {_said(rule)}")
        return
    budget.left -= cost
    if holds is not True:
        yield _broken(rule, variables, value, path, budget)


def _broken(rule: Rule, variables: dict[str, Any], value: Any, path: str, budget: _Budget) -> FieldError:
    where = f"{path}.{rule.field_path}" if path and rule.field_path else path or rule.field_path
    text = ""
    if rule.message is not None:
        try:
            said, cost = rule.message.run(variables, limit=min(COST_LIMIT, max(1, budget.left)))
            budget.left -= cost
            text = said.strip() if isinstance(said, str) and "\n" not in said.strip() else ""
        except EvalError:
            text = ""
    text = text or _default_message(rule.raw)
    reason = rule.raw.get("reason") or "FieldValueInvalid"
    if reason == "FieldValueDuplicate":
        return FieldError(where, reason, f"Duplicate value: {text}")
    if reason in _TEXTS:
        return FieldError(where, reason, f"{_TEXTS[reason]}: {text}")
    if isinstance(value, (dict, list)):
        return FieldError(where, reason, f"Invalid value: {text}")
    return invalid(where, value, text)


def _default_message(raw: dict[str, Any]) -> str:
    return str(raw.get("message") or "").strip() or f"failed rule: {str(raw.get('rule', '')).strip()}"


def _said(rule: Rule) -> str:
    return str(rule.raw.get("message") or rule.raw.get("rule") or "").strip()


def _compile(schema: Schema, *, is_root: bool = False) -> _Node | None:
    rules = [rule for raw in schema.rules if (rule := _rule(raw, schema, is_root=is_root)) is not None]
    properties = {name: node for name, child in schema.properties.items() if (node := _compile(child)) is not None}
    additional = _compile(schema.additional) if schema.additional is not None else None
    items = _compile(schema.items) if schema.items is not None else None
    if not (rules or properties or additional or items):
        return None
    return _Node(schema, rules, properties, additional, items)


def _environment(schema: Schema, raw: dict[str, Any], *, is_root: bool) -> Environment:
    own = type_of(schema, is_root=is_root)
    return Environment({"self": own, "oldSelf": optional_of(own) if raw.get("optionalOldSelf") else own})


def _rule(raw: dict[str, Any], schema: Schema, *, is_root: bool) -> Rule | None:
    source = str(raw.get("rule") or "").strip()
    if not source:
        return None
    environment = _environment(schema, raw, is_root=is_root)
    message = str(raw.get("messageExpression") or "").strip()
    try:
        program = environment.compile(source, wants=(BOOL,))
        said = environment.compile(message, wants=(STRING,)) if message else None
    except CompileError as exc:
        return Rule(raw, None, None, "", uses_old=False, is_optional=False, problem=str(exc))
    path = _steps_text(str(raw.get("fieldPath") or ""))
    return Rule(raw, program, said, path, "oldSelf" in program.names, bool(raw.get("optionalOldSelf")))


def _steps(path: str) -> list[str] | None:
    """The members that a ``fieldPath`` goes through, None when it cannot be read."""
    found: list[str] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or match[3] is not None:
            return None
        found.append(match[1] if match[1] is not None else re.sub(r"\\(.)", r"\1", match[2]))
        at = match.end()
    return found or None


def _steps_text(path: str) -> str:
    return ".".join(_steps(path) or ())


def rule_errors(schema: Schema, path: str) -> Iterator[FieldError]:
    """What is wrong with the rules of a schema, found when its CRD is admitted.

    Args:
        path: of the schema in the CRD.
    """
    costs = _Costs()
    yield from _errors_below(schema, path, costs, is_root=True, blocked="", times=1)
    yield from costs.errors(path)


class _Costs:
    """What all rules of a schema may cost together."""

    def __init__(self) -> None:
        self._total = 0.0
        self._largest: list[tuple[float, str]] = []

    def add(self, cost: float, path: str, what: str) -> Iterator[FieldError]:
        """Count one expression; an error when it alone may cost too much."""
        self._total += cost
        if cost >= SCHEMA_ESTIMATE_LIMIT / 100:
            self._largest = sorted([*self._largest, (cost, path)], key=lambda pair: -pair[0])[:4]
        if cost > ESTIMATE_LIMIT:
            yield forbidden(path, _too_costly(f"estimated {what} cost", cost / ESTIMATE_LIMIT))

    def errors(self, path: str) -> Iterator[FieldError]:
        """When they may cost too much: the most expensive ones, and the whole."""
        if self._total <= SCHEMA_ESTIMATE_LIMIT:
            return
        for _, place in self._largest:
            yield forbidden(
                place, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
            )
        whole = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        yield forbidden(path, _too_costly(whole, self._total / SCHEMA_ESTIMATE_LIMIT))


def _too_costly(what: str, factor: float) -> str:
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return (
        f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and "
        "maxLength where arrays, maps, and strings are declared)"
    )


def _errors_below(
    schema: Schema, path: str, costs: _Costs, *, is_root: bool, blocked: str, times: float
) -> Iterator[FieldError]:
    """Errors of the rules of a place and below it.

    Args:
        blocked: the place above that keeps ``oldSelf`` from being known: a list that is no map.
        times: how often the place may be there in one object.
    """
    for index, raw in enumerate(schema.rules):
        where = f"{path}.x-kubernetes-validations[{index}]"
        errors = list(_one_rule(schema, raw, where, is_root=is_root, blocked=blocked))
        yield from errors or _cost_errors(schema, raw, where, costs, times)
    below = occurrences(schema, times)
    for name, child in schema.properties.items():
        yield from _errors_below(
            child, f"{path}.properties[{name}]", costs, is_root=False, blocked=blocked, times=below
        )
    if schema.additional is not None:
        where = f"{path}.additionalProperties"
        yield from _errors_below(schema.additional, where, costs, is_root=False, blocked=blocked, times=below)
    if schema.items is not None:
        blocked = blocked or ("" if schema.list_type == "map" else path)
        yield from _errors_below(schema.items, f"{path}.items", costs, is_root=False, blocked=blocked, times=below)


def _cost_errors(schema: Schema, raw: dict[str, Any], path: str, costs: _Costs, times: float) -> Iterator[FieldError]:
    own = shape_of(schema)
    sizes = {"self": own, "oldSelf": own}
    yield from costs.add(total(estimated_cost(str(raw["rule"]).strip(), sizes), schema, times), f"{path}.rule", "rule")
    message = str(raw.get("messageExpression") or "").strip()
    if message:
        yield from costs.add(estimated_cost(message, sizes), f"{path}.messageExpression", "messageExpression")


def _one_rule(schema: Schema, raw: dict[str, Any], path: str, *, is_root: bool, blocked: str) -> Iterator[FieldError]:
    source, message = str(raw.get("rule") or ""), str(raw.get("message") or "")
    if not source.strip():
        yield required(f"{path}.rule", "rule is not specified")
        return
    if message and not message.strip():
        yield invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif "\n" in message.strip():
        yield invalid(f"{path}.message", message, "message must not contain line breaks")
    if "\n" in source.strip() and not message.strip():
        yield required(f"{path}.message", "message must be specified if rule contains line breaks")
    reason = raw.get("reason")
    if reason is not None and reason not in _REASONS:
        yield not_supported(f"{path}.reason", reason, _REASONS)
    yield from _path_errors(schema, str(raw.get("fieldPath") or ""), f"{path}.fieldPath")
    environment = _environment(schema, raw, is_root=is_root)
    try:
        program = environment.compile(source.strip(), wants=(BOOL,))
    except CompileError as exc:
        yield invalid(f"{path}.rule", raw, f"compilation failed: {exc}")
        return
    if "oldSelf" in program.names and blocked:
        yield invalid(
            f"{path}.rule",
            source,
            f"oldSelf cannot be used on the uncorrelatable portion of the schema within {blocked}",
        )
    if "oldSelf" not in program.names and raw.get("optionalOldSelf") is not None:
        yield invalid(
            f"{path}.optionalOldSelf", raw["optionalOldSelf"], "may not be set if oldSelf is not used in rule"
        )
    said = str(raw.get("messageExpression") or "")
    if raw.get("messageExpression") is not None and not said.strip():
        yield required(f"{path}.messageExpression", "must be non-empty if specified")
    elif said:
        try:
            environment.compile(said.strip(), wants=(STRING,))
        except CompileError as exc:
            yield invalid(f"{path}.messageExpression", raw, f"messageExpression compilation failed: {exc}")


def _path_errors(schema: Schema, path: str, where: str) -> Iterator[FieldError]:
    if not path:
        return
    steps = _steps(path)
    if steps is None:
        yield invalid(where, path, "fieldPath must be a JSON path to a field of the schema, such as .spec.name")
        return
    node: Schema | None = schema
    for step in steps:
        if node is None or node.type != "object":
            node = None
            break
        node = node.properties.get(step) or node.additional
    if node is None:
        yield invalid(where, path, "fieldPath must be a valid path: does not refer to a valid field")
