"""May this user do that: group system:masters, then the node rules, then roles read from the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from skerry.api.gvk import Object
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.auth.nodes import NodeAuthorizer
from skerry.apiserver.auth.rbac import Attributes, Policy, Rule, forbidden
from skerry.apiserver.store.log import Key
from skerry.apiserver.store.objects import ObjectStore

_GROUP = "rbac.authorization.k8s.io"
_RESOURCES = ("clusterroles", "clusterrolebindings", "roles", "rolebindings")


class Access:
    """Decides from the objects in the store; the policy is built anew only after they have changed.

    Args:
        store: has the RBAC objects and pods.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._policy = Policy()
        self._built: tuple[int, ...] = ()
        self._nodes = NodeAuthorizer(_Neighbours(store))

    def allows(self, attributes: Attributes) -> bool:
        """Whether the request may go on."""
        if MASTERS in attributes.user.groups:
            return True
        return self._nodes.allows(attributes) or self.policy().allows(attributes)

    def require(self, attributes: Attributes) -> None:
        """As ``allows``.

        Raises:
            Forbidden: it may not.
        """
        if not self.allows(attributes):
            raise forbidden(attributes)

    def rules_of(self, user: User, namespace: str) -> Iterator[Rule]:
        """Every rule that a user has."""
        return self.policy().rules_of(user, namespace)

    def policy(self) -> Policy:
        """The roles and bindings of now."""
        collections = [self._store.collection(f"{name}.{_GROUP}") for name in _RESOURCES]
        stamp = tuple(collection.last_rv for collection in collections)
        if stamp != self._built:
            self._policy = Policy.build(
                cluster_roles=(entry.content() for entry in collections[0].entries()),
                cluster_role_bindings=(entry.content() for entry in collections[1].entries()),
                roles=(entry.content() for entry in collections[2].entries()),
                role_bindings=(entry.content() for entry in collections[3].entries()),
            )
            self._built = stamp
        return self._policy


class _Neighbours:
    """The store as the node authorizer sees it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def pods_of(self, node: str) -> Iterable[Object]:
        for entry in self._store.collection("pods").entries():
            if entry.field("nodeName", _node_name) == node:
                yield entry.content()

    def find(self, gr: str, namespace: str, name: str) -> Object | None:
        entry = self._store.get(Key(gr, namespace, name))
        return entry.content() if entry is not None else None


def _node_name(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")
