"""Role-based access: what rules say about a request (pure).

Source: Kubernetes pkg/apis/rbac/v1/evaluation_helpers.go and plugin/pkg/auth/authorizer/rbac (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import Forbidden
from skerry.apiserver.auth.authn import MASTERS, SERVICE_ACCOUNT_PREFIX, User, service_account_name
from skerry.base.values import Struct, field

Rule = Mapping[str, Any]


class Attributes(Struct, frozen=True):
    """A request as authorization sees it. ``resource`` is empty for paths outside the API.

    Args:
        field_selector: of a list or watch, as it stands in the query: it may make a wide question narrow.
    """

    user: User
    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""

    @property
    def is_resource(self) -> bool:
        return bool(self.resource)


class _Bound(Struct, frozen=True):
    """Rules that subjects have got through one binding."""

    subjects: tuple[Mapping[str, Any], ...]
    rules: tuple[Rule, ...]
    namespace: str


class Policy(Struct):
    """All roles and bindings of a cluster at one moment."""

    cluster: list[_Bound] = field(default_factory=list)
    namespaced: dict[str, list[_Bound]] = field(default_factory=dict)
    _roles: dict[tuple[str, str], tuple[Rule, ...]] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        *,
        cluster_roles: Iterable[Object],
        cluster_role_bindings: Iterable[Object],
        roles: Iterable[Object],
        role_bindings: Iterable[Object],
    ) -> Policy:
        """Join bindings with their roles. A binding to a missing role gives nothing."""
        policy = cls()
        for role in (*cluster_roles, *roles):
            meta = role["metadata"]
            policy._roles[meta.get("namespace", ""), meta["name"]] = tuple(role.get("rules") or ())
        for binding in cluster_role_bindings:
            policy.cluster.append(policy._join(binding, ""))
        for binding in role_bindings:
            namespace = binding["metadata"]["namespace"]
            policy.namespaced.setdefault(namespace, []).append(policy._join(binding, namespace))
        return policy

    def role_rules(self, role_ref: Mapping[str, Any], namespace: str) -> tuple[Rule, ...]:
        """Rules of the role that a binding in ``namespace`` names."""
        place = namespace if role_ref.get("kind") == "Role" else ""
        return self._roles.get((place, str(role_ref.get("name", ""))), ())

    def has_role(self, role_ref: Mapping[str, Any], namespace: str) -> bool:
        """Whether the role that a binding in ``namespace`` names is there."""
        place = namespace if role_ref.get("kind") == "Role" else ""
        return (place, str(role_ref.get("name", ""))) in self._roles

    def rules_of(self, user: User, namespace: str) -> Iterator[Rule]:
        """Every rule that ``user`` has in ``namespace`` (empty: in the whole cluster)."""
        if MASTERS in user.groups:
            yield {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            yield {"verbs": ["*"], "nonResourceURLs": ["*"]}
        for bound in (*self.cluster, *(self.namespaced.get(namespace, ()) if namespace else ())):
            if any(_is_subject(subject, user, bound.namespace) for subject in bound.subjects):
                yield from bound.rules

    def allows(self, attributes: Attributes) -> bool:
        """Whether some rule allows the request."""
        return any(rule_allows(rule, attributes) for rule in self.rules_of(attributes.user, attributes.namespace))

    def covers(self, user: User, namespace: str, rules: Sequence[Rule]) -> bool:
        """Whether ``user`` itself holds everything that ``rules`` would give."""
        own = list(self.rules_of(user, namespace))
        return all(any(_contains(have, want) for have in own) for rule in rules for want in _singles(rule))

    def _join(self, binding: Object, namespace: str) -> _Bound:
        subjects = tuple(binding.get("subjects") or ())
        return _Bound(subjects, self.role_rules(binding.get("roleRef") or {}, namespace), namespace)


def rule_allows(rule: Rule, attributes: Attributes) -> bool:
    """Whether one rule matches."""
    if not _has(rule.get("verbs"), attributes.verb):
        return False
    if not attributes.is_resource:
        return any(_url_matches(pattern, attributes.path) for pattern in rule.get("nonResourceURLs") or ())
    names = rule.get("resourceNames") or ()
    return (
        _has(rule.get("apiGroups"), attributes.group)
        and _resource_matches(rule.get("resources") or (), attributes.resource, attributes.subresource)
        and (not names or attributes.name in names)
    )


def forbidden(attributes: Attributes, *, why: str = "") -> Forbidden:
    """403, as Kubernetes words it."""
    user = f'User "{attributes.user.name}"'
    tail = f": {why}" if why else ""
    if not attributes.is_resource:
        return Forbidden(f'forbidden: {user} cannot {attributes.verb} path "{attributes.path}"{tail}', details={})
    resource = f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource
    full = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    what = f'{resource} "{attributes.name}" is' if attributes.name else f"{resource} is"
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    details: dict[str, Any] = {"kind": attributes.resource}
    if attributes.name:
        details["name"] = attributes.name
    if attributes.group:
        details["group"] = attributes.group
    return Forbidden(
        f'{what} forbidden: {user} cannot {attributes.verb} resource "{full}" in API group "{attributes.group}" '
        f"{where}{tail}",
        details=details,
    )


def _has(values: Sequence[str] | None, value: str) -> bool:
    return bool(values) and ("*" in values or value in values)  # type: ignore[operator]


def _resource_matches(patterns: Sequence[str], resource: str, subresource: str) -> bool:
    full = f"{resource}/{subresource}" if subresource else resource
    return any(p in ("*", full) or (subresource and p == f"*/{subresource}") for p in patterns)


def _url_matches(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _is_subject(subject: Mapping[str, Any], user: User, namespace: str) -> bool:
    kind, name = subject.get("kind"), subject.get("name")
    if kind == "User":
        return name == user.name
    if kind == "Group":
        return name in user.groups
    if kind == "ServiceAccount" and user.name.startswith(SERVICE_ACCOUNT_PREFIX):
        return user.name == service_account_name(str(subject.get("namespace") or namespace), str(name))
    return False


def _singles(rule: Rule) -> Iterator[Rule]:
    """A rule taken apart: one verb, one group, one resource, one name each."""
    for verb in rule.get("verbs") or ():
        for url in rule.get("nonResourceURLs") or ():
            yield {"verbs": [verb], "nonResourceURLs": [url]}
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                for name in rule.get("resourceNames") or ("",):
                    yield {"verbs": [verb], "apiGroups": [group], "resources": [resource], "resourceNames": [name]}


def _contains(have: Rule, want: Rule) -> bool:
    if not _has(have.get("verbs"), want["verbs"][0]):
        return False
    if "nonResourceURLs" in want:
        return any(_url_matches(pattern, want["nonResourceURLs"][0]) for pattern in have.get("nonResourceURLs") or ())
    resource, _, subresource = want["resources"][0].partition("/")
    names, name = have.get("resourceNames") or (), want["resourceNames"][0]
    return (
        _has(have.get("apiGroups"), want["apiGroups"][0])
        and _resource_matches(have.get("resources") or (), resource, subresource)
        and (not names or (bool(name) and name in names))
    )
