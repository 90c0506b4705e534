"""What is wrong with the expressions of webhook configurations and policies; and the status of policies.

Source: kubernetes pkg/apis/admissionregistration/validation, pkg/controller/validatingadmissionpolicystatus,
apiserver/pkg/admission/plugin/policy/validating/typechecking.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator

from skerry.api.field import FieldError, invalid
from skerry.api.gvk import Object
from skerry.apiserver.registry import Kind, Registry
from skerry.apiserver.semantics import Semantics
from skerry.apiserver.webhooks.conditions import condition_errors
from skerry.apiserver.webhooks.programs import Compiled
from skerry.cel.schemas import built_in_type, type_of

MOST_KINDS = 10
"""Kinds of one policy whose types are checked."""

_POLICIES = ("ValidatingAdmissionPolicy", "MutatingAdmissionPolicy")


def expression_errors(kind: str, obj: Object, old: Object | None = None) -> Iterator[FieldError]:
    """Every expression of an admissionregistration object that cannot run; stored ones are not judged again."""
    if kind in _POLICIES:
        known = {problem.source for problem in Compiled(old).problems} if old is not None else set()
        for problem in Compiled(obj).problems:
            if problem.source not in known:
                yield invalid(problem.field, problem.source, f"compilation failed: {problem.why}")
        return
    for index, hook in enumerate(obj.get("webhooks") or ()):
        before = ((old or {}).get("webhooks") or [])[index : index + 1]
        wanted = hook.get("matchConditions") or ()
        if before and before[0].get("matchConditions") == wanted:
            continue
        yield from condition_errors(wanted, f"webhooks[{index}].matchConditions")


class PolicyStatus:
    """Types the expressions of policies against the kinds that their rules name, for ``status.typeChecking``."""

    def __init__(self, *, registry: Registry, semantics: Semantics) -> None:
        self._registry = registry
        self._semantics = semantics

    def settle(self, policy: Object) -> None:
        """Write the status of a policy for its present generation."""
        status = policy.setdefault("status", {})
        generation = policy["metadata"].get("generation", 1)
        if status.get("observedGeneration") == generation:
            return
        status["observedGeneration"] = generation
        status["typeChecking"] = {}
        warnings = list(self._warnings(policy))
        if warnings:
            status["typeChecking"]["expressionWarnings"] = warnings

    def _warnings(self, policy: Object) -> Iterator[Object]:
        found: dict[str, list[str]] = {}
        for row in self._rows(policy):
            schema = self._semantics.schema(row)
            own = built_in_type(schema) if row.custom is None else type_of(schema, is_root=True)
            resource = row.resource
            name = f"{resource.group or ''}/{resource.version}, Kind={resource.kind}".lstrip("/")
            for problem in Compiled(policy, own).problems:
                found.setdefault(problem.field, []).append(f"{name}: {problem.why}")
        for field, texts in found.items():
            yield {"fieldRef": field, "warning": "\n".join(texts)}

    def _rows(self, policy: Object) -> list[Kind]:
        rows: list[Kind] = []
        constraints = (policy.get("spec") or {}).get("matchConstraints") or {}
        for rule in constraints.get("resourceRules") or ():
            names = (rule.get("apiGroups") or (), rule.get("apiVersions") or (), rule.get("resources") or ())
            if any("*" in each for part in names for each in part):
                continue
            for group in names[0]:
                for version in names[1]:
                    found = [self._registry.find(group, version, name.partition("/")[0]) for name in names[2]]
                    rows += [row for row in found if row is not None and row not in rows]
        return rows[:MOST_KINDS]
