"""ClusterRoles that are made of others: their rules follow those of their parts.

Source: kubernetes pkg/controller/clusterroleaggregation/clusterroleaggregation_controller.go (v1.36).
"""

from __future__ import annotations

from skerry.api.gvk import CLUSTERROLES, Object
from skerry.api.kinds.access import aggregated_rules
from skerry.controllers.loop import Loop
from skerry.kube.informer import InformerSet, Key
from skerry.kube.ports import KubeApi


class ClusterRoleAggregation:
    """Writes the rules of aggregates whenever a ClusterRole changes.

    Args:
        api: the cluster.
        informers: shared caches.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet) -> None:
        self._api = api
        self._roles = informers.of(CLUSTERROLES)
        self._loop: Loop[Key] = Loop("clusterroles", self._sync, informers=(self._roles,), workers=1)
        self._roles.on_event(self._changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        for role in self._roles.items():
            if role.get("aggregationRule"):
                self._loop.add(("", role["metadata"]["name"]))

    async def _sync(self, key: Key) -> float | None:
        role = self._roles.get(key[1])
        if role is None:
            return None
        rules = aggregated_rules(role, self._roles.items())
        if rules is not None and rules != (role.get("rules") or []):
            await self._api.patch(
                CLUSTERROLES,
                key[1],
                {"metadata": {"resourceVersion": role["metadata"]["resourceVersion"]}, "rules": rules},
            )
        return None
