"""Nobody gives away what he does not hold himself: the check before roles and bindings are stored.

Source: kubernetes pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased/storage.go,
pkg/registry/rbac/validation/rule.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import Forbidden, not_found
from skerry.apiserver.auth.access import Access
from skerry.apiserver.auth.authn import MASTERS
from skerry.apiserver.auth.rbac import Attributes, Rule
from skerry.apiserver.calls import Call
from skerry.base import json

_EVERYTHING: tuple[Rule, ...] = (
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
)
_SHOWN = (("apiGroups", "APIGroups"), ("resources", "Resources"), ("resourceNames", "ResourceNames"),
          ("nonResourceURLs", "NonResourceURLs"), ("verbs", "Verbs"))  # fmt: skip


class Escalation:
    """Checks writes of roles and bindings.

    Args:
        access: what the writer may do himself.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def check(self, call: Call, obj: Object, old: Object | None) -> None:
        """Refuse a write that would give somebody more than the writer holds.

        Raises:
            Forbidden: it would.
            NotFound: a binding names a role that is not there, whose rules to come nobody knows.
        """
        if MASTERS in call.user.groups:
            return
        if call.kind.resource.plural.endswith("bindings"):
            self._binding(call, obj, old)
        else:
            self._role(call, obj, old)

    def _role(self, call: Call, obj: Object, old: Object | None) -> None:
        names = ("rules", "aggregationRule")
        if old is not None and all((obj.get(name) or None) == (old.get(name) or None) for name in names):
            return
        resource, namespace = call.kind.resource, call.namespace
        name = obj["metadata"]["name"]
        asked = Attributes(call.user, "escalate", resource.group, resource.plural, namespace=namespace, name=name)
        if self._access.allows(asked):
            return
        missing = self._missing(call, tuple(obj.get("rules") or ()))
        if missing:
            raise _refused(call, name, missing)
        if obj.get("aggregationRule") and self._missing(call, _EVERYTHING):
            raise Forbidden(
                f'{resource.group_resource} "{name}" is forbidden: must have cluster-admin privileges to use an '
                "aggregationRule",
                details={"name": name, "group": resource.group, "kind": resource.plural},
            )

    def _binding(self, call: Call, obj: Object, old: Object | None) -> None:
        if old is not None and all(obj.get(name) == old.get(name) for name in ("roleRef", "subjects")):
            return
        reference, namespace = obj.get("roleRef") or {}, call.namespace
        plural = "roles" if reference.get("kind") == "Role" else "clusterroles"
        group = call.kind.resource.group
        asked = Attributes(call.user, "bind", group, plural, namespace=namespace, name=str(reference.get("name", "")))
        if self._access.allows(asked):
            return
        policy = self._access.policy()
        if not policy.has_role(reference, namespace):
            raise not_found(f"{plural}.{group}", str(reference.get("name", "")))
        missing = self._missing(call, policy.role_rules(reference, namespace))
        if missing:
            raise _refused(call, obj["metadata"]["name"], missing)

    def _missing(self, call: Call, rules: Sequence[Rule]) -> list[Rule]:
        policy = self._access.policy()
        return [rule for rule in rules if not policy.covers(call.user, call.namespace, [rule])]


def _refused(call: Call, name: str, missing: Sequence[Rule]) -> Forbidden:
    resource, user = call.kind.resource, call.user
    groups = " ".join(json.dumps(group).decode() for group in user.groups)
    shown = "\n".join(_shown(rule) for rule in missing)
    return Forbidden(
        f'{resource.group_resource} "{name}" is forbidden: user "{user.name}" (groups=[{groups}]) is attempting to '
        f"grant RBAC permissions not currently held:\n{shown}",
        details={"name": name, "group": resource.group, "kind": resource.plural},
    )


def _shown(rule: Rule) -> str:
    parts: list[str] = []
    for name, word in _SHOWN:
        values: Sequence[Any] = rule.get(name) or ()
        if values:
            quoted = " ".join(json.dumps(value).decode() for value in values)
            parts.append(f"{word}:[{quoted}]")
    return "{" + ", ".join(parts) + "}"
