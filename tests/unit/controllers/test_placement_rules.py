"""Topology spread, preferred neighbours, images, volumes, and who is pushed out for whom."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.meta import rfc3339
from skerry.controllers.scheduler.plan import World, choose
from skerry.controllers.scheduler.preemption import preempt
from skerry.controllers.scheduler.queue import SchedulingQueue
from skerry.controllers.scheduler.views import NodeView, view
from skerry.controllers.scheduler.volumes import Storage

NOW_S = 1_750_000_000.0


def node(name: str, *, zone: str = "", images: dict[str, int] | None = None, cpu: str = "2", **spec: Any) -> Object:
    labels = {"kubernetes.io/hostname": name, **({"zone": zone} if zone else {})}
    listed = [{"names": [image], "sizeBytes": size} for image, size in (images or {}).items()]
    status = {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"}, "images": listed}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}


def pod(name: str = "p", *, cpu: str = "", app: str = "", namespace: str = "d", **spec: Any) -> Object:
    container: dict[str, Any] = {"name": "c", "image": spec.pop("image", "x")}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    meta = {"name": name, "namespace": namespace, "uid": name, "labels": {"app": app} if app else {}}
    return {"metadata": meta, "spec": {"containers": [container], **spec}, "status": {}}


def on(what: Object, *pods: Object) -> NodeView:
    return view(what, pods)


def spreading(*, max_skew: int = 1, key: str = "zone", soft: bool = False, **more: Any) -> dict[str, Any]:
    constraint = {
        "maxSkew": max_skew,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway" if soft else "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
        **more,
    }
    return {"topologySpreadConstraints": [constraint]}


WEB = [pod(f"w{n}", app="web") for n in range(4)]


def test_pods_spread_over_zones() -> None:
    views = [on(node("a", zone="1"), *WEB[:2]), on(node("b", zone="2"), WEB[2], pod("big", cpu="1900m")), on(node("c"))]
    assert choose(pod(app="web", **spreading()), views).node == "b"
    crowded = [on(node("a", zone="1"), *WEB[:2]), on(node("b", zone="2", unschedulable=True)), on(node("c"))]
    assert choose(pod(app="web", **spreading()), crowded).message == (
        "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, "
        "1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) were unschedulable."
    )


def test_spread_counts_nodes_as_its_policies_say() -> None:
    taint = {"key": "k", "effect": "NoSchedule"}
    views = [on(node("a", zone="1"), WEB[0]), on(node("b", zone="2", taints=[taint]))]
    assert choose(pod(app="web", **spreading()), views).node == ""
    assert choose(pod(app="web", **spreading(nodeTaintsPolicy="Honor")), views).node == "a"
    two = choose(pod(app="web", **spreading(nodeTaintsPolicy="Honor", minDomains=2)), views)
    assert two.node == ""


def test_a_wished_for_spread_decides_between_nodes_that_fit() -> None:
    views = [on(node("z", zone="1"), *WEB[:2]), on(node("b", zone="2"), pod("big", cpu="1500m"))]
    assert choose(pod(app="web", **spreading(soft=True)), views).node == "b"


def test_liked_and_disliked_neighbours() -> None:
    term = {"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "zone"}
    near = {
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 9, "podAffinityTerm": term}]}
    }
    far = {"podAntiAffinity": near["podAffinity"]}
    views = [on(node("a", zone="1"), pod("db", app="db")), on(node("z", zone="2"))]
    assert choose(pod(affinity=near), views).node == "a"
    assert choose(pod(affinity=far), views).node == "z"
    wishing = [on(node("a", zone="1"), pod("x", app="x", affinity=near)), on(node("z", zone="2"))]
    assert choose(pod(app="db"), wishing).node == "a"  # the one that is there likes the new one


def test_affinity_reaches_other_namespaces_by_their_labels() -> None:
    term = {
        "labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "zone",
        "namespaceSelector": {"matchLabels": {"team": "x"}},
    }  # fmt: skip
    wants = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    views = [on(node("a", zone="1"), pod("db", app="db", namespace="other")), on(node("z", zone="2"))]
    assert choose(pod(affinity=wants), views, World(namespaces={"other": {"team": "x"}})).node == "a"
    assert choose(pod(affinity=wants), views, World(namespaces={"other": {}})).node == ""


def test_a_big_image_that_is_there_already_decides() -> None:
    views = [on(node("a", images={"model:1": 900 * 2**20})), on(node("z"))]
    assert choose(pod(image="model:1"), views).node == "a"
    assert choose(pod(image="tiny"), views).node == "z"


# -- volumes


def claim(name: str = "data", *, volume: str = "", storage_class: str = "local") -> Object:
    notes = {"pv.kubernetes.io/bind-completed": "yes"} if volume else {}
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"], "storageClassName": storage_class,
        "resources": {"requests": {"storage": "1Gi"}},
    }  # fmt: skip
    spec |= {"volumeName": volume} if volume else {}
    return {"metadata": {"name": name, "namespace": "d", "uid": name, "annotations": notes}, "spec": spec}


def volume(name: str, on_node: str, *, size: str = "2Gi") -> Object:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [on_node]}
    return {
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
        },
        "status": {"phase": "Available"},
    }  # fmt: skip


def world(
    *objects: Object, mode: str = "WaitForFirstConsumer", provisioner: str = "kubernetes.io/no-provisioner"
) -> World:
    claims = {("d", o["metadata"]["name"]): o for o in objects if "resources" in o["spec"]}
    volumes = {o["metadata"]["name"]: o for o in objects if "capacity" in o["spec"]}
    local = {"metadata": {"name": "local"}, "provisioner": provisioner, "volumeBindingMode": mode}
    return World(storage=Storage(claims, volumes, {"local": local}))


USING = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}
NODES = [on(node("a")), on(node("b"))]


def test_a_bound_claim_draws_its_pod_to_its_node() -> None:
    assert choose(pod(**USING), NODES, world(claim(volume="v1"), volume("v1", "a"))).node == "a"
    message = choose(pod(**USING), NODES[1:], world(claim(volume="v1"), volume("v1", "a"))).message
    assert message == "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity."


def test_a_waiting_claim_gets_the_smallest_volume_of_the_chosen_node() -> None:
    chosen = choose(pod(**USING), NODES, world(claim(), volume("v1", "a", size="9Gi"), volume("v2", "a")))
    assert chosen.node == "a"
    assert [b.volume and b.volume["metadata"]["name"] for b in chosen.bindings] == ["v2"]


def test_a_waiting_claim_can_be_made_for_the_chosen_node() -> None:
    chosen = choose(pod(**USING), NODES, world(claim(), provisioner="skerry.dev/node-local"))
    assert chosen.node and [b.volume for b in chosen.bindings] == [None]
    none = choose(pod(**USING), NODES, world(claim()))
    assert "2 node(s) didn't find available persistent volumes to bind" in none.message


@pytest.mark.parametrize(
    ("objects", "mode", "words"),
    [
        ([], "Immediate", 'persistentvolumeclaim "data" not found'),
        ([claim()], "Immediate", "pod has unbound immediate PersistentVolumeClaims"),
        ([claim(volume="gone")], "Immediate", "bound to non-existent pv(s)"),
    ],
)
def test_claims_that_keep_a_pod_from_every_node(objects: list[Object], mode: str, words: str) -> None:
    found = choose(pod(**USING), NODES, world(*objects, mode=mode))
    assert found.node == "" and words in found.message


# -- preemption


def ranked(name: str, priority: int, *, cpu: str = "1", age_s: float = 60, app: str = "") -> Object:
    made = pod(name, cpu=cpu, app=app, priority=priority)
    made["status"] = {"startTime": rfc3339(NOW_S - age_s)}
    return made


def push(wanting: Object, views: list[NodeView], budgets: list[Object] | None = None) -> tuple[str, list[str], str]:
    found = choose(wanting, views)
    assert found.node == ""
    verdict = preempt(wanting, views, found.curable, budgets or [], World())
    if verdict.victims is None:
        return "", [], verdict.message
    return verdict.victims.node, [p["metadata"]["name"] for p in verdict.victims.pods], ""


def test_as_few_and_as_unimportant_pods_as_possible_go() -> None:
    views = [on(node("a"), ranked("low", 1), ranked("lower", 0)), on(node("b"), ranked("high", 5), ranked("mid", 3))]
    assert push(ranked("new", 10), views) == ("a", ["lower"], "")
    assert push(ranked("new", 10, cpu="2"), views) == ("a", ["low", "lower"], "")


def test_equals_and_betters_are_never_pushed_out() -> None:
    views = [on(node("a"), ranked("same", 10), ranked("better", 11)), on(node("b", cpu="500m"))]
    assert push(ranked("new", 10), views)[2] == (
        "preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, "
        "1 Preemption is not helpful for scheduling."
    )


def test_the_younger_of_equals_goes() -> None:
    views = [on(node("a"), ranked("old", 1, age_s=900), ranked("young", 1, age_s=5))]
    assert push(ranked("new", 10), views)[1] == ["young"]


def test_disruption_budgets_are_kept_where_that_is_possible() -> None:
    budget = {
        "metadata": {"name": "b", "namespace": "d", "uid": "B"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}},
        "status": {"disruptionsAllowed": 0},
    }
    views = [on(node("a"), ranked("x", 1, app="db", cpu="2")), on(node("b"), ranked("y", 2, cpu="2"))]
    assert push(ranked("new", 10), views)[0] == "a"
    assert push(ranked("new", 10), views, [budget])[0] == "b"


def test_a_pod_that_must_not_push_or_that_waits_for_its_victims_does_not_push() -> None:
    views = [on(node("a"), ranked("low", 1, cpu="2"))]
    modest = ranked("new", 10)
    modest["spec"]["preemptionPolicy"] = "Never"
    assert push(modest, views)[2] == "preemption: not eligible due to preemptionPolicy=Never."
    dying = ranked("low", 1, cpu="2")
    dying["metadata"]["deletionTimestamp"] = rfc3339(NOW_S)
    waiting = ranked("new", 10)
    waiting["status"]["nominatedNodeName"] = "a"
    assert push(waiting, [on(node("a"), dying)])[2].endswith("terminating pod on the nominated node.")


# -- the queue


def test_important_pods_first_then_in_order_of_arrival() -> None:
    queue = SchedulingQueue()
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        queue.put(("d", name), priority)
    queue.put(("d", "a"), 0)
    queue.put(("d", "c"), 9)  # its priority changed
    queue.drop(("d", "d"))
    popped = [queue.pop() for _ in range(4)]
    assert popped == [("d", "c"), ("d", "b"), ("d", "a"), None]


def test_parked_pods_wait_longer_each_time() -> None:
    queue = SchedulingQueue()
    waits = []
    for _ in range(6):
        queue.park(("d", "a"), 100.0)
        waits.append(dict(queue.wake(100.5))["d", "a"])
    assert waits == [0.5, 1.5, 3.5, 7.5, 9.5, 9.5]
    assert dict(queue.wake(200.0)) == {("d", "a"): 0.0}
    assert list(queue.wake(200.0, only=lambda key: False)) == []
