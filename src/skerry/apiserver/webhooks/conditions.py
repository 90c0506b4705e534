"""Expressions over a request: match conditions of webhooks, and everything in policies.

Source: kubernetes apiserver/pkg/admission/plugin/{cel,webhook/matchconditions} (v1.36).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skerry.api.field import FieldError, invalid, required
from skerry.api.gvk import Object
from skerry.apiserver.admission.request import AdmissionRequest
from skerry.apiserver.auth.access import Access
from skerry.apiserver.auth.authn import User
from skerry.apiserver.auth.rbac import Attributes
from skerry.apiserver.registry import Kind
from skerry.cel.errors import CompileError, EvalError
from skerry.cel.library.authorizers import AUTHORIZER, Authorizer, Question
from skerry.cel.program import Environment, Program
from skerry.cel.types import BOOL, DYN, STRING, Type, list_of, map_of, object_type

MOST_PROGRAMS = 1000
"""Compiled expressions that are kept."""

_GVK = object_type("GroupVersionKind", {"group": STRING, "version": STRING, "kind": STRING})
_GVR = object_type("GroupVersionResource", {"group": STRING, "version": STRING, "resource": STRING})
_USER = object_type(
    "UserInfo",
    {"username": STRING, "uid": STRING, "groups": list_of(STRING), "extra": map_of(STRING, list_of(STRING))},
)
REQUEST = object_type(
    "AdmissionRequest",
    {
        "uid": STRING, "kind": _GVK, "resource": _GVR, "subResource": STRING, "requestKind": _GVK,
        "requestResource": _GVR, "requestSubResource": STRING, "name": STRING, "namespace": STRING,
        "operation": STRING, "userInfo": _USER, "dryRun": BOOL, "options": DYN,
    },
)  # fmt: skip
VARIABLES: dict[str, Type] = {"object": DYN, "oldObject": DYN, "request": REQUEST, "authorizer": AUTHORIZER}


class Expressions:
    """Compiled expressions, kept by their text and environment."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], Program] = OrderedDict()

    def get(self, environment_name: str, environment: Environment, source: str) -> Program:
        """The program of an expression.

        Raises:
            CompileError: it cannot run.
        """
        key = (environment_name, source)
        program = self._kept.pop(key, None)
        if program is None:
            program = environment.compile(source.strip())
        self._kept[key] = program
        if len(self._kept) > MOST_PROGRAMS:
            self._kept.popitem(last=False)
        return program


def request_info(request: AdmissionRequest, row: Kind, *, uid: str) -> Object:
    """The request as hooks and expressions see it, without the objects."""
    resource, own = row.resource, request.kind.resource
    user = request.user
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    asked = {"group": own.group, "version": own.version, "kind": own.kind}
    if request.own is not None:
        kind = asked = dict(zip(("group", "version", "kind"), request.own, strict=True))
    found: Object = {
        "uid": uid,
        "kind": kind,
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "requestKind": asked,
        "requestResource": {"group": own.group, "version": own.version, "resource": own.plural},
        "operation": request.operation.upper(),
        "userInfo": {"username": user.name, "groups": list(user.groups)},
        "dryRun": request.is_dry_run,
        "options": request.options,
    }
    if request.name:
        found["name"] = request.name
    if request.namespace:
        found["namespace"] = request.namespace
    if request.kind.storage == "namespaces":
        found["namespace"] = request.name
    if request.subresource:
        found["subResource"] = found["requestSubResource"] = request.subresource
    return found


def variables(
    request: AdmissionRequest, row: Kind, states: tuple[Object | None, Object | None], access: Access
) -> dict[str, Any]:
    """The values of ``VARIABLES``.

    Args:
        states: new and old object as the row shows them.
    """

    def ask(question: Question) -> bool:
        user = User(question.user, _account_groups(question.user)) if question.user else request.user
        if question.path:
            return access.allows(Attributes(user, question.verb, path=question.path))
        return access.allows(
            Attributes(
                user, question.verb, question.group, question.resource, question.subresource, question.namespace,
                question.name,
            )
        )  # fmt: skip

    resource = row.resource
    own = Question("", "", resource.group, resource.plural, request.subresource, request.namespace, request.name)
    return {
        "object": states[0],
        "oldObject": states[1],
        "request": request_info(request, row, uid=""),
        "authorizer": Authorizer(ask, own=own),
    }


def _account_groups(name: str) -> tuple[str, ...]:
    namespace = name.split(":")[2]
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")


HOOK_ENVIRONMENT = Environment(VARIABLES)


def holds(
    expressions: Expressions,
    conditions: Sequence[Mapping[str, Any]],
    values: Mapping[str, Any],
    *,
    environment: Environment = HOOK_ENVIRONMENT,
    name: str = "hook",
) -> bool:
    """Whether every match condition is true; one that is false decides, whatever others say.

    Raises:
        EvalError: none is false, and one failed.
    """
    failed: EvalError | None = None
    for condition in conditions:
        try:
            program = expressions.get(name, environment, str(condition.get("expression", "")))
            value, _ = program.run(values)
            if value is not True:
                return False
        except EvalError as exc:
            failed = failed or EvalError(f"expression '{condition.get('expression')}' resulted in error: {exc}")
        except CompileError as exc:
            failed = failed or EvalError(str(exc))
    if failed is not None:
        raise failed
    return True


def condition_errors(
    conditions: Sequence[Mapping[str, Any]], path: str, environment: Environment = HOOK_ENVIRONMENT
) -> Iterator[FieldError]:
    """What keeps match conditions from running."""
    for index, condition in enumerate(conditions):
        where, source = f"{path}[{index}].expression", str(condition.get("expression") or "")
        if not source.strip():
            yield required(where)
            continue
        try:
            environment.compile(source.strip(), wants=(BOOL,))
        except CompileError as exc:
            yield invalid(where, source, f"compilation failed: {exc}")
