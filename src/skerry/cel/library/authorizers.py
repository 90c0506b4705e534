"""Questions to the authorizer, for policies and match conditions: may the user do this too?

Source: kubernetes apiserver/pkg/cel/library/authz.go (v1.36); label and field selectors are not part of the check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from skerry.cel.errors import EvalError
from skerry.cel.functions import Functions
from skerry.cel.types import Type, object_type

_A, _PATH = "kubernetes.authorization.Authorizer", "kubernetes.authorization.PathCheck"
_GROUP, _RESOURCE = "kubernetes.authorization.GroupCheck", "kubernetes.authorization.ResourceCheck"
_DECISION = "kubernetes.authorization.Decision"


AUTHORIZER = object_type(_A, {"requestResource": Type(_RESOURCE)})


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. ``path`` is set for questions about plain paths."""

    user: str = ""
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    verb: str = ""


Ask = Callable[[Question], bool]


@dataclass(frozen=True, slots=True)
class Authorizer:
    """Asks for the user of the request, or for a service account.

    Args:
        own: the question about the request's own resource.
    """

    cel_type: ClassVar[str] = _A
    ask: Ask
    user: str = ""
    own: Question | None = None

    def cel_field(self, name: str) -> ResourceCheck:
        """``requestResource``: the resource of the request itself."""
        if name != "requestResource" or self.own is None:
            raise EvalError(f"no such key: {name}")
        return ResourceCheck(self.ask, self.own)


@dataclass(frozen=True, slots=True)
class PathCheck:
    """A question about a path, without its verb."""

    cel_type: ClassVar[str] = _PATH
    ask: Ask
    question: Question


@dataclass(frozen=True, slots=True)
class GroupCheck:
    """A question about an API group, without its resource."""

    cel_type: ClassVar[str] = _GROUP
    ask: Ask
    question: Question


@dataclass(frozen=True, slots=True)
class ResourceCheck:
    """A question about a resource, without its verb."""

    cel_type: ClassVar[str] = _RESOURCE
    ask: Ask
    question: Question


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer."""

    cel_type: ClassVar[str] = _DECISION
    is_allowed: bool


def add_authorizers(table: Functions) -> None:
    """Put the questions into the table."""
    table.method("path", f"{_A}, string", _PATH, lambda a, path: PathCheck(a.ask, Question(a.user, path)))
    table.method("group", f"{_A}, string", _GROUP, lambda a, group: GroupCheck(a.ask, Question(a.user, group=group)))
    table.method("serviceAccount", f"{_A}, string, string", _A, _account)
    table.method("resource", f"{_GROUP}, string", _RESOURCE, _resource)
    for name in ("subresource", "namespace", "name"):
        table.method(
            name,
            f"{_RESOURCE}, string",
            _RESOURCE,
            lambda check, value, name=name: ResourceCheck(check.ask, replace(check.question, **{name: value})),
        )
    for kind in (_PATH, _RESOURCE):
        table.method("check", f"{kind}, string", _DECISION, _check)
    table.method("allowed", _DECISION, "bool", lambda decision: decision.is_allowed)
    table.method("reason", _DECISION, "string", lambda decision: "")
    table.method("errored", _DECISION, "bool", lambda decision: False)
    table.method("error", _DECISION, "string", lambda decision: "")


def _account(authorizer: Authorizer, namespace: str, name: str) -> Authorizer:
    return Authorizer(authorizer.ask, f"system:serviceaccount:{namespace}:{name}")


def _resource(check: GroupCheck, resource: str) -> ResourceCheck:
    return ResourceCheck(check.ask, replace(check.question, resource=resource))


def _check(check: PathCheck | ResourceCheck, verb: str) -> Decision:
    return Decision(check.ask(replace(check.question, verb=verb)))
