"""Which pods have to go so that one of higher priority fits. Pure.

Source of behaviour: kubernetes pkg/scheduler/framework/preemption and plugins/defaultpreemption (v1.36).
"""

from __future__ import annotations

from collections.abc import Sequence

from skerry.api.gvk import Object
from skerry.api.meta import is_deleting, parse_rfc3339
from skerry.base.values import Struct
from skerry.controllers.objects import created_s, labels_of, matches
from skerry.controllers.scheduler.plan import World, ask, no_node_message, obstacle
from skerry.controllers.scheduler.views import NodeView, priority_of, with_pods

CANDIDATE_COUNT = 100
"""Nodes that are looked at; on a large fleet one of them is good enough."""
NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER = "not eligible due to preemptionPolicy=Never."
WAITING = "not eligible due to a terminating pod on the nominated node."


class Victims(Struct, frozen=True):
    """A node and who has to leave it.

    Args:
        node: its name.
        pods: highest priority first.
        broken_count: how many of them a disruption budget would protect.
    """

    node: str
    pods: tuple[Object, ...]
    broken_count: int


class Verdict(Struct, frozen=True):
    """The victims, or why there are none."""

    victims: Victims | None = None
    message: str = ""


def why_not(pod: Object, views: Sequence[NodeView]) -> str:
    """Why a pod may not push others out; empty when it may."""
    if pod["spec"].get("preemptionPolicy") == "Never":
        return NEVER
    nominated = (pod.get("status") or {}).get("nominatedNodeName")
    own = priority_of(pod)
    for node in views:
        if node.name == nominated and any(is_deleting(other) and priority_of(other) < own for other in node.pods):
            return WAITING
    return ""


def preempt(
    pod: Object,
    views: Sequence[NodeView],
    curable: Sequence[NodeView],
    budgets: Sequence[Object],
    world: World,
) -> Verdict:
    """Find the node where pushing pods out costs least.

    Args:
        pod: fits nowhere.
        views: every node.
        curable: nodes where it might fit without some of the pods.
        budgets: PodDisruptionBudgets of every namespace.
        world: as for ``choose``.
    """
    if not views:
        return Verdict()
    if reason := why_not(pod, views):
        return Verdict(message=f"preemption: {reason}")
    found = []
    for node in curable[:CANDIDATE_COUNT]:
        victims = _victims(pod, node, views, budgets, world)
        if victims is not None:
            found.append(victims)
    if found:
        return Verdict(victims=min(found, key=_cost))
    reasons = [NO_VICTIMS] * len(curable) + [NOT_HELPFUL] * (len(views) - len(curable))
    return Verdict(message=f"preemption: {no_node_message(len(views), reasons)}")


def _victims(
    pod: Object, node: NodeView, views: Sequence[NodeView], budgets: Sequence[Object], world: World
) -> Victims | None:
    own = priority_of(pod)
    stay = [other for other in node.pods if priority_of(other) >= own]
    lower = [other for other in node.pods if priority_of(other) < own]
    if not lower or not _fits(pod, node, stay, views, world):
        return None
    protected = broken_by(lower, budgets)
    doomed = []
    broken_count = 0
    for is_protected in (True, False):
        for other in sorted(lower, key=_importance):
            if (other["metadata"]["uid"] in protected) != is_protected:
                continue
            if _fits(pod, node, [*stay, other], views, world):
                stay.append(other)
            else:
                doomed.append(other)
                broken_count += is_protected
    return Victims(node.name, tuple(sorted(doomed, key=_importance)), broken_count)


def _fits(pod: Object, node: NodeView, pods: Sequence[Object], views: Sequence[NodeView], world: World) -> bool:
    changed = with_pods(node, pods)
    others = [changed if view.name == node.name else view for view in views]
    return obstacle(ask(pod, others, world), changed) is None


def _importance(pod: Object) -> tuple[float, float, str]:
    """Most important first: higher priority, then started earlier."""
    return -priority_of(pod), started_s(pod), str(pod["metadata"]["name"])


def started_s(pod: Object) -> float:
    """When the pod started; its creation when it has not."""
    return parse_rfc3339((pod.get("status") or {}).get("startTime")) or created_s(pod)


def broken_by(pods: Sequence[Object], budgets: Sequence[Object]) -> set[str]:
    """Uids of pods whose loss would break a budget, taken one after the other."""
    left = {budget["metadata"]["uid"]: int((budget.get("status") or {}).get("disruptionsAllowed") or 0)
            for budget in budgets}  # fmt: skip
    found = set()
    for pod in sorted(pods, key=_importance):
        for budget in budgets:
            meta = budget["metadata"]
            if meta["namespace"] != pod["metadata"]["namespace"]:
                continue
            if not labels_of(pod) or not matches(budget["spec"].get("selector"), labels_of(pod)):
                continue
            if pod["metadata"]["name"] in ((budget.get("status") or {}).get("disruptedPods") or {}):
                continue
            left[meta["uid"]] -= 1
            if left[meta["uid"]] < 0:
                found.add(pod["metadata"]["uid"])
    return found


def _cost(victims: Victims) -> tuple[float, ...]:
    """Fewest broken budgets, lowest top priority, lowest sum, fewest pods, the youngest top pod."""
    priorities = [priority_of(pod) for pod in victims.pods]
    top = [pod for pod in victims.pods if priority_of(pod) == max(priorities, default=0)]
    earliest_s = min((started_s(pod) for pod in top), default=0.0)
    return (victims.broken_count, max(priorities, default=0), sum(priorities) + len(priorities) * 2**31,
            len(priorities), -earliest_s)  # fmt: skip
