"""``pods/eviction``: a delete that asks the pod's disruption budget first.

Source: kubernetes pkg/registry/core/pod/storage/eviction.go (v1.36).
"""

from __future__ import annotations

from typing import Any

from skerry.api import gvk
from skerry.api.gvk import Object
from skerry.api.selectors import label_selector
from skerry.api.status import BadRequest, Forbidden, InternalError, TooManyRequests, conflict
from skerry.apiserver.calls import Call
from skerry.apiserver.handlers.bodies import DeleteOptions, delete_options
from skerry.apiserver.handlers.crud import PATCH_TRIES, Objects
from skerry.apiserver.store.entry import Entry
from skerry.apiserver.store.log import Missing, Stale

_MOST_DISRUPTED = 2000
_VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."
_UNBOUND = ("Succeeded", "Failed", "Pending")


class Eviction:
    """Evicts pods.

    Args:
        objects: the core.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def run(self, call: Call, eviction: Object) -> None:
        """Delete the call's pod if its budget allows that.

        Raises:
            TooManyRequests: the budget allows no disruption now.
            InternalError: more than one budget selects the pod.
        """
        name = (eviction.get("metadata") or {}).get("name")
        if name and name != call.name:
            raise BadRequest(f"name in URL does not match name in Eviction object: {call.name} {name}")
        entry = self._objects.find(call)
        pod = entry.content()
        options = delete_options({**(eviction.get("deleteOptions") or {}), "kind": "DeleteOptions"}, {})
        is_dry_run = call.options.is_dry_run or options.is_dry_run
        if not _is_free(pod):
            await self._take_from_budget(entry, pod, is_dry_run=is_dry_run)
        if is_dry_run:
            return
        pinned = options.uid or entry.uid
        if not pod["metadata"].get("deletionTimestamp"):
            await self._objects.change(call, self._note)
        options = DeleteOptions(options.grace_period_s, pinned, None, options.propagation)
        await self._objects.delete(call, options)

    async def _take_from_budget(self, entry: Entry, pod: Object, *, is_dry_run: bool) -> None:
        store = self._objects.store
        for _ in range(PATCH_TRIES):
            budgets = self._budgets(entry)
            if not budgets:
                return
            if len(budgets) > 1:
                raise InternalError(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                )
            budget = budgets[0]
            content = budget.content()
            if _may_go_unready(pod, content):
                return
            self._decrement(content, entry.key.name)
            if is_dry_run:
                return
            try:
                await store.update(budget.key, content, expect_rv=budget.rv)
                return
            except (Stale, Missing):
                continue
        raise conflict(gvk.PDBS.group_resource, entry.key.name)

    def _budgets(self, pod: Entry) -> list[Entry]:
        found = []
        for entry in self._objects.store.collection(gvk.PDBS.group_resource).entries():
            if entry.key.ns != pod.key.ns:
                continue
            selector = (entry.content().get("spec") or {}).get("selector")
            if selector is not None and label_selector(selector).matches(pod.labels()):
                found.append(entry)
        return found

    def _decrement(self, budget: Object, pod: str) -> None:
        meta, status = budget["metadata"], budget.setdefault("status", {})
        allowed = int(status.get("disruptionsAllowed") or 0)
        disrupted = status.setdefault("disruptedPods", {})
        if int(status.get("observedGeneration") or 0) < int(meta.get("generation") or 0):
            text = f"The disruption budget {meta['name']} is still being processed by the server."
            raise _refused(text)
        if allowed < 0 or len(disrupted) > _MOST_DISRUPTED:
            raise Forbidden(
                f'poddisruptionbudgets.policy "{meta["name"]}" is forbidden: too many disruptions are not confirmed',
                details={"name": meta["name"], "group": "policy", "kind": "poddisruptionbudgets"},
            )
        if allowed == 0:
            raise _refused(
                f"The disruption budget {meta['name']} needs {status.get('desiredHealthy', 0)} healthy pods and has "
                f"{status.get('currentHealthy', 0)} currently"
            )
        status["disruptionsAllowed"] = allowed - 1
        disrupted[pod] = self._objects.now_text()

    def _note(self, pod: Object) -> None:
        """Say in the pod why it goes."""
        status = pod.setdefault("status", {})
        others = [c for c in status.get("conditions") or () if c.get("type") != "DisruptionTarget"]
        condition = {
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": None, "lastTransitionTime": self._objects.now_text(),
        }  # fmt: skip
        status["conditions"] = [*others, condition]


def _is_free(pod: Object) -> bool:
    """Whether no budget counts this pod."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in _UNBOUND or bool(pod["metadata"].get("deletionTimestamp"))


def _may_go_unready(pod: Object, budget: Object) -> bool:
    """A pod that is not ready takes nothing from the budget, if the budget's policy says so."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status: dict[str, Any] = budget.get("status") or {}
    desired = status.get("desiredHealthy") or 0
    return bool(desired > 0 and (status.get("currentHealthy") or 0) >= desired)


def _refused(text: str) -> TooManyRequests:
    return TooManyRequests(_VIOLATES, details={"causes": [{"reason": "DisruptionBudget", "message": text}]})
