"""Validating and mutating admission policies: rules of users that run inside the server.

Source: kubernetes apiserver/pkg/admission/plugin/policy/{validating,mutating}/dispatcher.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skerry.api.apply.typed import NotTyped, merge
from skerry.api.gvk import Object
from skerry.api.patch import json_equal
from skerry.api.selectors import label_selector
from skerry.api.status import ApiError, Forbidden
from skerry.apiserver.admission.request import AdmissionRequest, Collect, Find
from skerry.apiserver.auth.access import Access
from skerry.apiserver.patch_growth import bounded_json_patch
from skerry.apiserver.registry import Kind, Registry
from skerry.apiserver.semantics import Semantics
from skerry.apiserver.store.log import Key
from skerry.apiserver.webhooks import conditions
from skerry.apiserver.webhooks.matching import EXEMPT, Matcher
from skerry.apiserver.webhooks.programs import Account, Compiled, Operation
from skerry.apiserver.webhooks.shapes import Shapes
from skerry.base import json
from skerry.base.json import deep_copy
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.cel.errors import EvalError

log = get_log(__name__)

_GROUP = "admissionregistration.k8s.io"
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}
_FAILURES = "validation.policy.admission.k8s.io/validation_failure"
_LONGEST_MESSAGE = 5 * 1024


class _Binding(Struct, frozen=True):
    """A binding with the policy that it binds, in one of the versions that its rules take."""

    policy: str
    name: str
    spec: Object
    compiled: Compiled
    row: Kind


class Policies:
    """Runs the policies that a request concerns.

    Args:
        find: looks up one object; ``collection`` the objects of a storage resource.
        registry: knows kinds of parameters.
        matcher: rules and selectors.
        shapes: between the server's form of an object and the policy's.
        access: answers the authorizer's questions.
        semantics: schemas, for what mutations merge.
    """

    def __init__(
        self,
        *,
        find: Find,
        collection: Collect,
        registry: Registry,
        matcher: Matcher,
        shapes: Shapes,
        access: Access,
        semantics: Semantics,
    ) -> None:
        self._find = find
        self._collection = collection
        self._registry = registry
        self._matcher = matcher
        self._shapes = shapes
        self._access = access
        self._semantics = semantics
        self._compiled: dict[tuple[str, str], tuple[int, Compiled]] = {}

    async def mutate(self, request: AdmissionRequest) -> bool:
        """Let every mutating policy change ``request.obj``; whether one did.

        Raises:
            ApiError: one failed, and its policy is Fail.
        """
        if request.operation not in ("create", "update") or request.own is not None:
            return False
        done: list[tuple[_Binding, bool]] = []
        for binding in self._bindings("mutatingadmissionpolicies", request):
            done.append((binding, await self._mutate_by(binding, request)))
        for index, (binding, _) in enumerate(done):
            is_asked = binding.compiled.spec.get("reinvocationPolicy") == "IfNeeded"
            if is_asked and any(changed for _, changed in done[index + 1 :]):
                await self._mutate_by(binding, request)
        return any(changed for _, changed in done)

    async def validate(self, request: AdmissionRequest) -> None:
        """Judge a request by every validating policy.

        Raises:
            ApiError: a policy with action Deny refuses.
        """
        failures: list[Object] = []
        denied: ApiError | None = None
        for binding in self._bindings("validatingadmissionpolicies", request):
            for index, reason, message in await self._judge(binding, request):
                actions = binding.spec.get("validationActions") or ()
                if "Audit" in actions:
                    failures.append(_failure(binding, index, message))
                if "Warn" in actions:
                    request.warn(
                        f"Validation failed for ValidatingAdmissionPolicy '{binding.policy}' with binding "
                        f"'{binding.name}': {message}"
                    )
                if "Deny" in actions and denied is None:
                    denied = _denial(binding, request, reason, message)
        if failures:
            request.annotations[_FAILURES] = json.dumps(failures).decode()
        if denied is not None:
            raise denied

    def _bindings(self, plural: str, request: AdmissionRequest) -> Iterator[_Binding]:
        if request.kind.storage in EXEMPT or not request.kind.is_stored:
            return
        stem = plural.removesuffix("policies")
        for entry in self._collection(f"{stem}policybindings.{_GROUP}").entries():
            spec = entry.content().get("spec") or {}
            found = self._policy(f"{plural}.{_GROUP}", str(spec.get("policyName", "")))
            if found is None:
                continue
            row = self._row(request, found.spec.get("matchConstraints") or {})
            if row is None or (spec.get("matchResources") and self._row(request, spec["matchResources"]) is None):
                continue
            yield _Binding(str(spec["policyName"]), entry.key.name, spec, found, row)

    def _policy(self, storage: str, name: str) -> Compiled | None:
        entry = self._find(Key(storage, "", name))
        if entry is None:
            self._compiled.pop((storage, name), None)
            return None
        known = self._compiled.get((storage, name))
        if known is None or known[0] != entry.rv:
            known = self._compiled[(storage, name)] = (entry.rv, Compiled(entry.content()))
        return known[1]

    def _row(self, request: AdmissionRequest, match: Object) -> Kind | None:
        is_exact = match.get("matchPolicy") == "Exact"
        if not self._matcher.selects(request, match):
            return None
        excluded = match.get("excludeResourceRules") or ()
        if excluded and self._matcher.row(request, excluded, is_exact=is_exact) is not None:
            return None
        rules = match.get("resourceRules")
        if not rules:
            return request.kind
        return self._matcher.row(request, rules, is_exact=is_exact)

    async def _values(self, binding: _Binding, request: AdmissionRequest) -> dict[str, Any]:
        row = binding.row
        new = old = None
        if request.own is not None:
            new, old = request.obj, request.old
        elif request.operation == "delete":
            old = await self._shapes.show(request.kind, row, request.obj)
        else:
            new = await self._shapes.show(request.kind, row, request.obj)
            if request.old is not None:
                old = await self._shapes.show(request.kind, row, request.old)
        values = conditions.variables(request, row, (new, old), self._access)
        values["namespaceObject"] = self._matcher.namespace_of(request)
        return values

    def _params(self, binding: _Binding, request: AdmissionRequest) -> list[Any]:
        """The parameters to judge with, one after the other; one None for a policy without parameters.

        Raises:
            EvalError: there are none, and the binding says Deny then.
        """
        kind, ref = binding.compiled.spec.get("paramKind"), binding.spec.get("paramRef")
        if not kind:
            return [None]
        if not ref:
            return [None]
        group, _, version = str(kind.get("apiVersion", "")).rpartition("/")
        row = self._registry.for_kind(group, version, str(kind.get("kind", "")))
        if row is None:
            raise EvalError(
                f"failed to find resource referenced by paramKind: '{kind.get('apiVersion')}, Kind={kind.get('kind')}'"
            )
        namespace = ""
        if row.resource.namespaced:
            namespace = str(ref.get("namespace") or request.namespace)
            if not namespace:
                raise EvalError(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        found = self._named(row, ref, namespace)
        if not found and ref.get("parameterNotFoundAction") != "Allow":
            raise EvalError("no params found for policy binding with `Deny` parameterNotFoundAction")
        return found

    def _named(self, row: Kind, ref: Object, namespace: str) -> list[Object]:
        resource = row.resource
        if ref.get("name"):
            entry = self._find(Key(row.storage, namespace, str(ref["name"])))
            entries = [entry] if entry is not None else []
        else:
            matches = label_selector(ref.get("selector") or {}).matches
            entries = [each for each in self._collection(row.storage).entries(namespace) if matches(each.labels())]
        return [entry.object(kind=resource.kind, api_version=resource.api_version) for entry in entries]

    async def _judge(self, binding: _Binding, request: AdmissionRequest) -> list[tuple[int, str, str]]:
        """Index, reason and message of every validation that failed."""
        compiled = binding.compiled
        fails_closed = compiled.spec.get("failurePolicy") != "Ignore"
        values = await self._values(binding, request)
        try:
            params = self._params(binding, request)
        except EvalError as exc:
            return [(0, "Invalid", f"failed to configure binding: {exc}")] if fails_closed else []
        found: list[tuple[int, str, str]] = []
        for param in params:
            account = compiled.account({**values, "params": param})
            try:
                if not _conditions_hold(compiled, account):
                    continue
            except EvalError as exc:
                if fails_closed:
                    found.append((0, "Invalid", str(exc)))
                continue
            found += _broken(compiled, account, fails_closed=fails_closed)
            _annotate(binding, request, account)
        return found

    async def _mutate_by(self, binding: _Binding, request: AdmissionRequest) -> bool:
        compiled = binding.compiled
        is_changed = False
        try:
            for param in self._params(binding, request):
                values = await self._values(binding, request)
                account = compiled.account({**values, "params": param})
                if not _conditions_hold(compiled, account):
                    continue
                for kind, program in compiled.mutations:
                    if program is None:
                        raise EvalError(compiled.problems[0].why if compiled.problems else "no expression")
                    account = compiled.account({**await self._values(binding, request), "params": param})
                    is_changed = await self._apply(binding, request, kind, account.run(program)) or is_changed
        except (EvalError, NotTyped, ApiError) as exc:
            if compiled.spec.get("failurePolicy") == "Ignore":
                log.warning("policy.failed_open", policy=binding.policy, error=str(exc))
                return is_changed
            raise request.forbidden(
                f"MutatingAdmissionPolicy '{binding.policy}' with binding '{binding.name}' denied request: {exc}"
            ) from exc
        return is_changed

    async def _apply(self, binding: _Binding, request: AdmissionRequest, kind: str, value: Any) -> bool:
        shown = await self._shapes.show(request.kind, binding.row, request.obj)
        if kind == "JSONPatch":
            operations = [dict(each.members) for each in value if isinstance(each, Operation)]
            patched = bounded_json_patch(deep_copy(shown), operations)
        else:
            if not isinstance(value, dict):
                raise EvalError("an apply configuration must be an Object")
            patched = merge(shown, value, self._semantics.schema(binding.row))
        if not isinstance(patched, dict):
            raise EvalError("the mutation leaves no object")
        new = await self._shapes.accept(binding.row, request.kind, patched)
        for name in ("name", "namespace", "generateName", "uid"):
            if name in request.obj["metadata"]:
                new["metadata"][name] = request.obj["metadata"][name]
        if json_equal(new, request.obj):
            return False
        request.obj = new
        return True


def _conditions_hold(compiled: Compiled, account: Account) -> bool:
    failed: EvalError | None = None
    for item, program in compiled.conditions:
        try:
            if program is None:
                raise EvalError("it cannot run")
            if account.run(program) is not True:
                return False
        except EvalError as exc:
            failed = failed or EvalError(f"expression '{item.get('expression')}' resulted in error: {exc}")
    if failed is not None:
        raise failed
    return True


def _broken(compiled: Compiled, account: Account, *, fails_closed: bool) -> Iterator[tuple[int, str, str]]:
    problems = {problem.field: problem.why for problem in compiled.problems}
    for index, (item, program, message) in enumerate(compiled.validations):
        source = str(item.get("expression", "")).strip()
        try:
            if program is None:
                raise EvalError(f"compilation error: {problems.get(f'spec.validations[{index}].expression', '')}")
            if account.run(program) is True:
                continue
        except EvalError as exc:
            if fails_closed:
                yield index, "Invalid", f"expression '{source}' resulted in error: {exc}"
            continue
        yield index, str(item.get("reason") or "Invalid"), _message(item, message, account, source)


def _message(item: Object, program: Any, account: Account, source: str) -> str:
    if program is not None:
        try:
            said = account.run(program)
            text = said.strip() if isinstance(said, str) else ""
            if text and "\n" not in text and len(text) <= _LONGEST_MESSAGE:
                return text
        except EvalError as exc:
            log.debug("policy.no_message", error=str(exc))
    return str(item.get("message") or "").strip() or f"failed expression: {source}"


def _annotate(binding: _Binding, request: AdmissionRequest, account: Account) -> None:
    for key, program in binding.compiled.annotations:
        if program is None:
            continue
        try:
            value = account.run(program)
        except EvalError as exc:
            log.debug("policy.no_annotation", policy=binding.policy, error=str(exc))
            continue
        if isinstance(value, str) and value:
            request.annotations[f"{binding.policy}/{key}"] = value[: 10 * 1024]


def _denial(binding: _Binding, request: AdmissionRequest, reason: str, message: str) -> Forbidden:
    text = f"ValidatingAdmissionPolicy '{binding.policy}' with binding '{binding.name}' denied request: {message}"
    error = request.forbidden(text)
    error.reason = reason
    error.code = _CODES.get(reason, 422)
    error.details = {**(error.details or {}), "causes": [{"message": text}]}
    return error


def _failure(binding: _Binding, index: int, message: str) -> Object:
    return {
        "message": message,
        "policy": binding.policy,
        "binding": binding.name,
        "expressionIndex": index,
        "validationActions": list(binding.spec.get("validationActions") or ()),
    }
