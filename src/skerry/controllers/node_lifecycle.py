"""Node lifecycle: notice silent nodes, say so in conditions and taints, evict where that helps.

An edge node that is silent is offline, not lost: its conditions become Unknown and nothing new is scheduled to it, but
its pods stay, with the status that they had. The label ``skerry.dev/when-unreachable`` (``keep`` or ``evict``) says
otherwise for a node. After a start of the cloud, and after most nodes were silent at once (then it is the cloud that
was cut off), every node has time to return: nothing is evicted meanwhile.

Source of behaviour: kubernetes pkg/controller/nodelifecycle/node_lifecycle_controller.go and
pkg/controller/tainteviction (v1.36); the edge rules are ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.gvk import LEASES, NODES, PODS, Object
from skerry.api.meta import is_deleting, parse_rfc3339, rfc3339
from skerry.api.status import ApiError, Conflict, NotFound
from skerry.api.tolerations import tolerates
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import race
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.controllers.disrupted import mark_disrupted
from skerry.controllers.objects import condition_of, labels_of, set_condition
from skerry.controllers.tolerance import NOT_READY, UNREACHABLE, UNSCHEDULABLE
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, by_node
from skerry.kube.ports import KubeApi

log = get_log(__name__)

EDGE_LABEL = "node-role.kubernetes.io/edge"
POLICY_LABEL = "skerry.dev/when-unreachable"
KEEP, EVICT = "keep", "evict"
MASS_SHARE, MASS_COUNT = 0.55, 3
"""So many of the nodes, and at least so many, silent at once mean that the cloud was cut off."""
LEASE_NAMESPACE = "kube-node-lease"
_JUDGED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_BY_CONDITION = (
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
)
_OURS = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *(key for _, key in _BY_CONDITION)})


class Patience(Struct, frozen=True):
    """How long silence is borne, in seconds.

    Args:
        grace_s: of a node that was heard since the start.
        start_s: of every node after the start of this process, and of one that was never heard; so long after a start
            or after a mass loss nothing is evicted.
        first_s: of a new node that never reported.
        monitor_s: how often nodes are looked at.
        evict_every_s: at most one more node loses its pods in this time.
    """

    grace_s: float = 50.0
    start_s: float = 600.0
    first_s: float = 60.0
    monitor_s: float = 5.0
    evict_every_s: float = 10.0


def is_edge(node: Object) -> bool:
    """Whether the node may be offline without being lost."""
    return EDGE_LABEL in labels_of(node)


def keeps_pods(node: Object) -> bool:
    """Whether the node's pods stay while it is unreachable: as its label says, else when it is an edge node."""
    policy = labels_of(node).get(POLICY_LABEL)
    return policy == KEEP if policy in (KEEP, EVICT) else is_edge(node)


def is_mass_loss(nodes: Sequence[Object], silent: set[str]) -> bool:
    """Whether so many nodes are silent that the cause is the cloud's side.

    Args:
        nodes: every node.
        silent: names of those that are not heard.
    """
    down = [node for node in nodes if _is_down(node, silent)]
    central = [node for node in nodes if not keeps_pods(node)]
    if central and all(_is_down(node, silent) for node in central):
        return True
    return len(down) >= MASS_COUNT and len(down) >= MASS_SHARE * len(nodes)


def heartbeat_of(node: Object, lease: Object | None) -> tuple[str, str]:
    """Both signs of life; a change of either is a heartbeat. Clocks of nodes are not trusted, only that they move."""
    ready = condition_of(node, "Ready") or {}
    renewed = ((lease or {}).get("spec") or {}).get("renewTime") or ""
    return ready.get("lastHeartbeatTime") or "", renewed


def silent_conditions(node: Object, *, now_s: float) -> list[dict[str, Any]]:
    """The conditions of a node that is not heard: everything unknown, the last heartbeat kept."""
    conditions = list((node.get("status") or {}).get("conditions") or ())
    for kind in _JUDGED:
        old = condition_of(node, kind)
        if old is not None and old.get("status") == "Unknown":
            continue
        reason, text = "NodeStatusUnknown", "Kubelet stopped posting node status."
        if old is None:
            reason, text = "NodeStatusNeverUpdated", "Kubelet never posted node status."
        conditions = set_condition(conditions, kind, "Unknown", reason, text, now_s=now_s)
    return [_with_heartbeat(condition, node) for condition in conditions]


def _with_heartbeat(condition: dict[str, Any], node: Object) -> dict[str, Any]:
    """The heartbeat stays what it was: a change of it would look like a sign of life."""
    heard = (condition_of(node, condition["type"]) or {}).get("lastHeartbeatTime")
    return {**condition, "lastHeartbeatTime": heard} if heard else condition


def wanted_taints(node: Object, *, may_evict: bool, now_s: float) -> list[dict[str, Any]]:
    """The taints that the node should have: ours from its conditions, all others as they are.

    Args:
        node: with conditions as stored.
        may_evict: whether NoExecute taints may be set; never for nodes that keep their pods, whatever this says.
        now_s: for ``timeAdded``.
    """
    spec = node.get("spec") or {}
    old = list(spec.get("taints") or ())
    kept = [taint for taint in old if taint["key"] not in _OURS]
    ready = (condition_of(node, "Ready") or {"status": "False"})["status"]
    keys = [key for kind, key in _BY_CONDITION if (condition_of(node, kind) or {}).get("status") == "True"]
    keys += [UNREACHABLE] if ready == "Unknown" else [NOT_READY] if ready == "False" else []
    keys += [UNSCHEDULABLE] if spec.get("unschedulable") else []
    ours = [{"key": key, "effect": "NoSchedule"} for key in keys]
    if may_evict and not keeps_pods(node) and ready != "True":
        ours.append({"key": UNREACHABLE if ready == "Unknown" else NOT_READY, "effect": "NoExecute"})
    return kept + [_as_before(taint, old, now_s) for taint in ours]


def _as_before(taint: dict[str, Any], old: Sequence[dict[str, Any]], now_s: float) -> dict[str, Any]:
    for found in old:
        if (found["key"], found.get("effect")) == (taint["key"], taint["effect"]):
            return found
    return {**taint, "timeAdded": rfc3339(now_s)}


def evict_in_s(pod: Object, taints: Sequence[Mapping[str, Any]], *, now_s: float) -> float | None:
    """Seconds until NoExecute taints drive the pod away; None when it may stay, 0 when it must go now."""
    deadlines = []
    for taint in taints:
        if taint.get("effect") != "NoExecute":
            continue
        matching = [t for t in pod["spec"].get("tolerations") or () if tolerates(t, taint)]
        if not matching:
            return 0.0
        limits = [t["tolerationSeconds"] for t in matching if t.get("tolerationSeconds") is not None]
        if limits:
            since_s = parse_rfc3339(taint.get("timeAdded")) or now_s
            deadlines.append(max(0.0, since_s + min(limits) - now_s))
    return min(deadlines, default=None)


class NodeLifecycle:
    """Looks at every node every few seconds.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what happened to nodes and pods.
        clock: time source.
        patience: how long silence is borne.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        informers: InformerSet,
        events: EventRecorder,
        clock: Clock | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock or SystemClock()
        self._patience = patience or Patience()
        self._nodes = informers.of(NODES)
        self._leases = informers.of(LEASES, namespace=LEASE_NAMESPACE)
        self._pods = informers.of(PODS, indexes={"node": by_node})
        self._started_s = self._clock.monotonic_s()
        self._held_until_s = 0.0
        self._next_eviction_s = 0.0
        self._heard: dict[str, tuple[tuple[str, str], float, bool]] = {}
        self._changed = asyncio.Event()
        self._contended: set[str] = set()
        self._nodes.on_event(self._on_node)

    async def run(self) -> None:
        """Work; never ends."""
        for informer in (self._nodes, self._leases, self._pods):
            await informer.wait_synced()
        self._started_s = self._clock.monotonic_s()
        self._held_until_s = self._started_s + self._patience.start_s
        while True:
            self._changed.clear()
            self._contended.clear()
            await self._round()
            await self._pause()

    async def _pause(self) -> None:
        """Until the next look; a node that became ready, or ceased to be, is looked at once."""
        await race(self._clock.sleep(self._patience.monitor_s), self._changed.wait())

    def _on_node(self, kind: str, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        name = new["metadata"]["name"]
        if name in self._contended or _ready_word(old) != _ready_word(new):
            self._contended.discard(name)
            self._changed.set()

    async def _round(self) -> None:
        nodes = self._nodes.items()
        self._listen(nodes)
        silent = {node["metadata"]["name"] for node in nodes if self._is_silent(node)}
        may_evict = self._may_evict(nodes, silent)
        for node in nodes:
            try:
                await self._judge(node, is_silent=node["metadata"]["name"] in silent, may_evict=may_evict)
            except (Conflict, NotFound):
                self._lost_race(node)
            except ApiError as exc:
                log.warning("node.judging_failed", node=node["metadata"]["name"], error=str(exc))

    def _may_evict(self, nodes: Sequence[Object], silent: set[str]) -> bool:
        """Not while the cloud itself may be what was cut off, nor for a while after."""
        now_s = self._clock.monotonic_s()
        if is_mass_loss(nodes, silent):
            if now_s >= self._held_until_s:
                log.warning("node.mass_loss", silent_count=len(silent), node_count=len(nodes))
            self._held_until_s = now_s + self._patience.start_s
        return now_s >= self._held_until_s

    def _lost_race(self, node: Object) -> None:
        """Somebody wrote meanwhile: look again as soon as the cache has it, or at once if it has it already."""
        name = node["metadata"]["name"]
        now = self._nodes.get(name)
        if now is not None and now["metadata"]["resourceVersion"] != node["metadata"]["resourceVersion"]:
            self._changed.set()
        else:
            self._contended.add(name)

    def _listen(self, nodes: Sequence[Object]) -> None:
        now_s = self._clock.monotonic_s()
        names = set()
        for node in nodes:
            name = node["metadata"]["name"]
            names.add(name)
            beat = heartbeat_of(node, self._leases.get(name, LEASE_NAMESPACE))
            before = self._heard.get(name)
            if before is None:
                self._heard[name] = (beat, now_s, False)
            elif before[0] != beat:
                self._heard[name] = (beat, now_s, True)
        for name in [name for name in self._heard if name not in names]:
            del self._heard[name]

    def _is_silent(self, node: Object) -> bool:
        beat, at_s, is_fresh = self._heard[node["metadata"]["name"]]
        now_s, patience = self._clock.monotonic_s(), self._patience
        if is_fresh:
            return now_s - at_s > patience.grace_s
        if not any(beat):
            return now_s - at_s > patience.first_s
        return now_s - at_s > patience.grace_s and now_s - self._started_s > patience.start_s

    async def _judge(self, node: Object, *, is_silent: bool, may_evict: bool) -> None:
        if is_silent and not is_deleting(node):
            node = await self._mark_silent(node)
        node = await self._taint(node, may_evict=may_evict)
        await self._evict(node)

    async def _mark_silent(self, node: Object) -> Object:
        status = node.get("status") or {}
        conditions = silent_conditions(node, now_s=self._clock.now_s())
        if conditions == status.get("conditions"):
            return node
        name = node["metadata"]["name"]
        fresh = {**node, "status": {**status, "conditions": conditions}}
        fresh = await self._api.update(NODES, fresh, subresource="status")
        log.info("node.silent", node=name, is_edge=is_edge(node))
        self._events.normal(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        if not keeps_pods(node):
            await self._mark_pods(name)
        return fresh

    async def _mark_pods(self, node: str) -> None:
        """Pods of a lost node are not ready; those of an edge node are left as they are."""
        for pod in self._pods.by_index("node", node):
            if (condition_of(pod, "Ready") or {}).get("status") != "True":
                continue
            condition = {"type": "Ready", "status": "False", "lastTransitionTime": rfc3339(self._clock.now_s())}
            meta = pod["metadata"]
            try:
                await self._api.patch(
                    PODS, meta["name"], {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [condition]}},
                    patch_type="strategic", namespace=meta["namespace"], subresource="status",
                )  # fmt: skip
            except (NotFound, Conflict):
                continue

    async def _taint(self, node: Object, *, may_evict: bool) -> Object:
        spec = node.get("spec") or {}
        taints = wanted_taints(node, may_evict=may_evict, now_s=self._clock.now_s())
        if _evicts(taints) and not _evicts(spec.get("taints") or ()):
            if self._clock.monotonic_s() < self._next_eviction_s:
                taints = wanted_taints(node, may_evict=False, now_s=self._clock.now_s())
            else:
                self._next_eviction_s = self._clock.monotonic_s() + self._patience.evict_every_s
        if taints == list(spec.get("taints") or ()):
            return node
        meta = node["metadata"]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "spec": {"taints": taints or None}}
        return await self._api.patch(NODES, meta["name"], patch)

    async def _evict(self, node: Object) -> None:
        taints = [t for t in (node.get("spec") or {}).get("taints") or () if t.get("effect") == "NoExecute"]
        if not taints:
            return
        for pod in self._pods.by_index("node", node["metadata"]["name"]):
            if is_deleting(pod) or evict_in_s(pod, taints, now_s=self._clock.now_s()) != 0.0:
                continue
            meta = pod["metadata"]
            text = f"Marking for deletion Pod {meta['namespace']}/{meta['name']}"
            self._events.normal(pod, "TaintManagerEviction", text)
            try:
                await mark_disrupted(
                    self._api, pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint",
                    now_s=self._clock.now_s(),
                )  # fmt: skip
                await self._api.delete(PODS, meta["name"], namespace=meta["namespace"], uid=meta["uid"])
            except NotFound:
                continue


def _evicts(taints: Sequence[Mapping[str, Any]]) -> bool:
    return any(taint["key"] in (UNREACHABLE, NOT_READY) and taint.get("effect") == "NoExecute" for taint in taints)


def _is_down(node: Object, silent: set[str]) -> bool:
    return node["metadata"]["name"] in silent or (condition_of(node, "Ready") or {}).get("status") == "Unknown"


def _ready_word(node: Object | None) -> str:
    return str((condition_of(node, "Ready") or {}).get("status", "")) if node is not None else ""
