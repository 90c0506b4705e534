"""DaemonSet loop: one pod on every node that is eligible.

Edge nodes are special: a DaemonSet whose pods tolerate everything (as network and storage plug-ins of data centres
do) stays off them unless it opts in, by naming an edge label in its node selector, affinity or tolerations, or by the
annotation ``skerry.dev/edge: "true"`` on itself or its template. An Event says when that happens.

Source of behaviour: kubernetes pkg/controller/daemon/{daemon_controller,update}.go (v1.36); the edge rule is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skerry.api.affinity import fits_affinity
from skerry.api.gvk import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS, Object
from skerry.api.meta import controller_of, is_deleting
from skerry.api.status import ApiError, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.values import Struct, field
from skerry.controllers.expectations import Expectations
from skerry.controllers.loop import Loop
from skerry.controllers.node_lifecycle import EDGE_LABEL, is_edge
from skerry.controllers.objects import (
    annotations_of,
    created_s,
    is_available,
    is_ready,
    labels_of,
    phase_of,
    pod_from_template,
    resolve_percent,
)
from skerry.controllers.replicasets import next_available_s
from skerry.controllers.revisions import REVISION_LABEL, RevisionHistory, read
from skerry.controllers.tolerance import (
    HARD_EFFECTS,
    NOT_READY,
    UNREACHABLE,
    UNSCHEDULABLE,
    taints_of,
    untolerated,
)
from skerry.kube.events import EventRecorder
from skerry.kube.informer import InformerSet, Key, by_controller, key_of
from skerry.kube.ports import KubeApi

EDGE_OPT_IN = "skerry.dev/edge"
FAILED_POD_S = 5.0
"""A failed pod is replaced this long after it was made."""
_TOLERATED = (
    (NOT_READY, "NoExecute"), (UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"), ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"), (UNSCHEDULABLE, "NoSchedule"),
)  # fmt: skip


def daemon_tolerations(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A template's tolerations and those that every daemon pod gets."""
    keys = [*_TOLERATED]
    if spec.get("hostNetwork"):
        keys.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
    extra = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in keys]
    own = list(spec.get("tolerations") or ())
    return own + [toleration for toleration in extra if toleration not in own]


def keeps_off_edges(daemon_set: Object) -> bool:
    """Whether the edge rule of this module applies: tolerates everything, and did not opt in."""
    template = daemon_set["spec"]["template"]
    spec = template["spec"]
    blanket = [t for t in spec.get("tolerations") or () if not t.get("key") and t.get("operator") == "Exists"]
    effects = {t.get("effect") or "" for t in blanket}
    everything = "" in effects or effects >= {"NoSchedule", "NoExecute"}  # plug-ins of data centres write it both ways
    return everything and not _has_opted_in(daemon_set, template)


def _has_opted_in(daemon_set: Object, template: Mapping[str, Any]) -> bool:
    notes = {**annotations_of(daemon_set), **((template.get("metadata") or {}).get("annotations") or {})}
    if notes.get(EDGE_OPT_IN) == "true":
        return True
    spec = template["spec"]
    if any(_is_edge_key(key) for key in spec.get("nodeSelector") or ()):
        return True
    if any(_is_edge_key(str(t.get("key") or "")) for t in spec.get("tolerations") or ()):
        return True
    node_affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    expressions = [e for term in required.get("nodeSelectorTerms") or () for e in term.get("matchExpressions") or ()]
    return any(_is_edge_key(e["key"]) and e["operator"] in ("In", "Exists") for e in expressions)


def _is_edge_key(key: str) -> bool:
    return key == EDGE_LABEL or key.startswith(("edge.kubeedge.io/", "skerry.dev/"))


def is_eligible(daemon_set: Object, node: Object) -> tuple[bool, bool]:
    """``(should run, may stay)``: a NoSchedule taint keeps new pods away but drives none off."""
    if keeps_off_edges(daemon_set) and is_edge(node):
        return False, False
    spec = daemon_set["spec"]["template"]["spec"]
    if spec.get("nodeName") and spec["nodeName"] != node["metadata"]["name"]:
        return False, False
    if not fits_affinity(spec, node):
        return False, False
    taints, tolerations = taints_of(node), daemon_tolerations(spec)
    if untolerated(taints, tolerations, HARD_EFFECTS) is None:
        return True, True
    return False, untolerated(taints, tolerations, ("NoExecute",)) is None


def node_of(pod: Object) -> str:
    """The node that a daemon pod is for, bound already or not."""
    spec = pod["spec"]
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for expression in term.get("matchFields") or ():
            if expression["key"] == "metadata.name" and len(expression.get("values") or ()) == 1:
                return str(expression["values"][0])
    return ""


def daemon_pod(daemon_set: Object, node: str, revision: str) -> Object:
    """The pod for one node; the scheduler binds it there."""
    pod = pod_from_template(daemon_set["spec"]["template"], daemon_set, DAEMONSETS)
    pod["metadata"]["labels"][REVISION_LABEL] = revision
    spec = pod["spec"]
    spec["tolerations"] = daemon_tolerations(spec)
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = required.get("nodeSelectorTerms") or [{}]
    required["nodeSelectorTerms"] = [{**term, "matchFields": fields} for term in terms]
    return pod


class DaemonPlan(Struct, frozen=True):
    """What a DaemonSet needs, and its status' numbers."""

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    again_s: float | None = None


def plan(
    daemon_set: Object, nodes: Sequence[Object], pods: Sequence[Object], *, revision: str, now_s: float
) -> DaemonPlan:
    """Decide which pods to create and delete.

    Args:
        daemon_set: as stored.
        nodes: every node.
        pods: those that it controls.
        revision: hash of the current template.
        now_s: wall clock.
    """
    on_node = pods_by_node(pods)
    create: list[str] = []
    delete: list[Object] = []
    waits: list[float] = []
    settled: dict[str, Object] = {}
    pairs: dict[str, list[Object]] = {}
    surge_count = _surge_count(daemon_set, nodes)
    for node in nodes:
        name = node["metadata"]["name"]
        should_run, may_stay = is_eligible(daemon_set, node)
        here = on_node.pop(name, [])
        alive = [pod for pod in here if not is_deleting(pod)]
        failed = [pod for pod in alive if phase_of(pod) == "Failed"]
        waits += [max(0.1, created_s(pod) + FAILED_POD_S - now_s) for pod in failed if not _is_old(pod, now_s)]
        delete += [pod for pod in failed if _is_old(pod, now_s)]
        running = sorted((pod for pod in alive if pod not in failed), key=_age)
        if not may_stay:
            delete += running
        elif running:
            pairs[name] = _kept(running, revision) if surge_count else running[:1]
            delete += [pod for pod in running if pod not in pairs[name]]
            settled[name] = pairs[name][0]
        elif should_run and not here:
            create.append(name)
    for name, strays in on_node.items():  # of nodes that are gone, or that were never there
        delete += [pod for pod in strays if not is_deleting(pod) and not (name and pod["spec"].get("nodeName"))]
    if surge_count:
        more, gone = _surging(daemon_set, pairs, surge_count, revision=revision, now_s=now_s)
        create += more
        delete += gone
    else:
        delete += _outdated(daemon_set, nodes, settled, revision=revision, now_s=now_s)
    return DaemonPlan(create, delete, min(waits, default=None))


def _is_old(pod: Object, now_s: float) -> bool:
    return now_s - created_s(pod) >= FAILED_POD_S


def _age(pod: Object) -> tuple[bool, float, str]:
    return not pod["spec"].get("nodeName"), created_s(pod), pod["metadata"]["name"]


def pods_by_node(pods: Sequence[Object]) -> dict[str, list[Object]]:
    """Pods by the node that they are for."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        found.setdefault(node_of(pod), []).append(pod)
    return found


def _surge_count(daemon_set: Object, nodes: Sequence[Object]) -> int:
    """How many nodes may have a new pod beside their old one during a rolling update."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    asked = (strategy.get("rollingUpdate") or {}).get("maxSurge")
    if strategy.get("type") == "OnDelete" or not asked:
        return 0
    desired = sum(is_eligible(daemon_set, node)[0] for node in nodes)
    return resolve_percent(asked, desired, round_up=True, default=0)


def _kept(running: Sequence[Object], revision: str) -> list[Object]:
    """The oldest pod of an old template and the oldest of the current one."""
    fresh = [pod for pod in running if labels_of(pod).get(REVISION_LABEL) == revision]
    return [pod for pod in running if pod not in fresh][:1] + fresh[:1]


def _surging(
    daemon_set: Object, pairs: Mapping[str, Sequence[Object]], surge_count: int, *, revision: str, now_s: float
) -> tuple[list[str], list[Object]]:
    """Rolling update with surge: nodes that get a new pod now, and old pods whose new one is available."""
    min_ready_s = daemon_set["spec"].get("minReadySeconds") or 0
    create: list[str] = []
    candidates: list[str] = []
    delete: list[Object] = []
    busy_count = 0
    for name, pods in sorted(pairs.items()):
        old = [pod for pod in pods if labels_of(pod).get(REVISION_LABEL) != revision]
        fresh = [pod for pod in pods if pod not in old]
        if not old:
            continue
        if fresh and is_available(fresh[0], min_ready_s, now_s):
            delete += old
        elif fresh:
            busy_count += 1
        elif is_available(old[0], min_ready_s, now_s):
            candidates.append(name)
        else:  # it does not serve anyway
            create.append(name)
    return create + candidates[: max(0, surge_count - busy_count - len(create))], delete


def _outdated(
    daemon_set: Object, nodes: Sequence[Object], settled: Mapping[str, Object], *, revision: str, now_s: float
) -> list[Object]:
    """Rolling update: pods of an old template that may go now without too many being unavailable."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return []
    desired = sum(is_eligible(daemon_set, node)[0] for node in nodes)
    rolling = strategy.get("rollingUpdate") or {}
    budget = max(1, resolve_percent(rolling.get("maxUnavailable"), desired, round_up=True, default=1))
    min_ready_s = daemon_set["spec"].get("minReadySeconds") or 0
    available = {name for name, pod in settled.items() if is_available(pod, min_ready_s, now_s)}
    old = {name: pod for name, pod in settled.items() if labels_of(pod).get(REVISION_LABEL) != revision}
    unavailable_count = desired - len(available)
    doomed = [pod for name, pod in sorted(old.items()) if name not in available]  # not serving: nothing is lost
    room = max(0, budget - unavailable_count)
    return doomed + [pod for name, pod in sorted(old.items()) if name in available][:room]


def daemonset_status(
    daemon_set: Object, nodes: Sequence[Object], pods: Sequence[Object], *, revision: str, now_s: float
) -> dict[str, Any]:
    """The status that nodes and pods add up to."""
    on_node = pods_by_node([pod for pod in pods if not is_deleting(pod)])
    min_ready_s = daemon_set["spec"].get("minReadySeconds") or 0
    counts = dict.fromkeys(("desired", "current", "misscheduled", "ready", "available", "updated"), 0)
    for node in nodes:
        should_run, _ = is_eligible(daemon_set, node)
        here = sorted(on_node.get(node["metadata"]["name"], []), key=_age)
        if not should_run:
            counts["misscheduled"] += bool(here)
            continue
        counts["desired"] += 1
        if here:
            counts["current"] += 1
            counts["ready"] += is_ready(here[0])
            counts["available"] += is_available(here[0], min_ready_s, now_s)
            counts["updated"] += labels_of(here[0]).get(REVISION_LABEL) == revision
    old = daemon_set.get("status") or {}
    status: dict[str, Any] = {
        "currentNumberScheduled": counts["current"],
        "numberMisscheduled": counts["misscheduled"],
        "desiredNumberScheduled": counts["desired"],
        "numberReady": counts["ready"],
        "observedGeneration": daemon_set["metadata"].get("generation", 0),
    }
    optional = {
        "updatedNumberScheduled": counts["updated"],
        "numberAvailable": counts["available"],
        "numberUnavailable": counts["desired"] - counts["available"],
    }
    status |= {key: value for key, value in optional.items() if value}
    status |= {key: old[key] for key in ("conditions", "collisionCount") if key in old}
    return status


class DaemonSetController:
    """Keeps one pod of each DaemonSet on every eligible node.

    Args:
        api: the cluster.
        informers: shared caches.
        events: where to say what was created, deleted, and left out.
        clock: time source.
    """

    def __init__(
        self, api: KubeApi, *, informers: InformerSet, events: EventRecorder, clock: Clock | None = None
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock or SystemClock()
        self._sets = informers.of(DAEMONSETS)
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS, indexes={"controller": by_controller})
        revisions = informers.of(CONTROLLERREVISIONS, indexes={"controller": by_controller})
        self._history = RevisionHistory(api, DAEMONSETS, revisions, label=REVISION_LABEL)
        self._expected = Expectations(self._pods, self._clock)
        self._told: dict[str, int] = {}
        caches = (self._sets, self._nodes, self._pods, revisions)
        self._loop: Loop[Key] = Loop("daemonsets", self._sync, informers=caches)
        self._loop.follow(self._sets)
        self._nodes.on_event(self._node_changed)
        self._pods.on_event(self._pod_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _node_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _placement(old) == _placement(new):
            return
        for daemon_set in self._sets.items():
            self._loop.add(key_of(daemon_set))

    def _pod_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        pod = new or old
        assert pod is not None
        controller = controller_of(pod)
        if controller is not None and controller["kind"] == "DaemonSet":
            self._loop.add((pod["metadata"]["namespace"], controller["name"]))

    async def _sync(self, key: Key) -> float | None:
        daemon_set = self._sets.get(key[1], key[0])
        if daemon_set is None:
            self._expected.forget(key)
            return None
        uid = daemon_set["metadata"]["uid"]
        pods, nodes, now_s = self._pods.by_index("controller", uid), self._nodes.items(), self._clock.now_s()
        if is_deleting(daemon_set):
            return None
        revision = await self._keep_history(daemon_set, pods)
        again_s = None
        if self._expected.are_met(key):
            decided = plan(daemon_set, nodes, pods, revision=revision, now_s=now_s)
            again_s = decided.again_s
            await self._carry_out(key, daemon_set, decided, revision)
        self._tell_about_edges(daemon_set, nodes)
        await self._write_status(daemon_set, daemonset_status(daemon_set, nodes, pods, revision=revision, now_s=now_s))
        return again_s or next_available_s(pods, daemon_set["spec"].get("minReadySeconds") or 0, now_s)

    async def _carry_out(self, key: Key, daemon_set: Object, decided: DaemonPlan, revision: str) -> None:
        for pod in decided.delete:
            await self._delete(key, daemon_set, pod)
        for node in decided.create:
            await self._create(key, daemon_set, daemon_pod(daemon_set, node, revision))

    async def _create(self, key: Key, daemon_set: Object, pod: Object) -> None:
        try:
            made = await self._api.create(PODS, pod, namespace=key[0])
        except ApiError as exc:
            self._events.warning(daemon_set, "FailedCreate", f"Error creating: {exc}")
            raise
        self._expected.created(key, made)
        self._events.normal(daemon_set, "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    async def _delete(self, key: Key, daemon_set: Object, pod: Object) -> None:
        name = pod["metadata"]["name"]
        if phase_of(pod) == "Failed":
            text = f"Found failed daemon pod {key[0]}/{name} on node {node_of(pod)}, will try to kill it"
            self._events.warning(daemon_set, "FailedDaemonPod", text)
        try:
            await self._api.delete(PODS, name, namespace=key[0], uid=pod["metadata"]["uid"])
        except NotFound:
            return
        self._expected.deleted(key, pod)
        self._events.normal(daemon_set, "SuccessfulDelete", f"Deleted pod: {name}")

    def _tell_about_edges(self, daemon_set: Object, nodes: Sequence[Object]) -> None:
        uid = daemon_set["metadata"]["uid"]
        count = 0
        if keeps_off_edges(daemon_set):
            spec = daemon_set["spec"]["template"]["spec"]
            count = sum(is_edge(node) and fits_affinity(spec, node) for node in nodes)
        if count and self._told.get(uid) != count:
            self._events.normal(
                daemon_set,
                "EdgeNodesLeftOut",
                f"{count} edge nodes left out, because the pods tolerate every taint; to run there, select the label "
                f'{EDGE_LABEL} or set the annotation {EDGE_OPT_IN}: "true"',
            )
        self._told[uid] = count

    async def _write_status(self, daemon_set: Object, status: dict[str, Any]) -> None:
        if status != daemon_set.get("status"):
            await self._api.update(DAEMONSETS, {**daemon_set, "status": status}, subresource="status")

    # -- history

    async def _keep_history(self, daemon_set: Object, pods: Sequence[Object]) -> str:
        """Make or renew the ControllerRevision of the current template; returns its hash."""
        current = await self._history.keep(daemon_set)
        digests = {labels_of(pod).get(REVISION_LABEL) for pod in pods}
        used = {item["metadata"]["name"] for item in self._history.of(daemon_set) if read(item).digest in digests}
        await self._history.trim(daemon_set, in_use={current.name, *used})
        return current.digest


def _placement(node: Object) -> tuple[Any, ...]:
    """What of a node decides about daemon pods."""
    spec = node.get("spec") or {}
    return labels_of(node), spec.get("taints"), spec.get("unschedulable")
