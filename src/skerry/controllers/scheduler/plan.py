"""Which node a pod goes to, or why to none. Pure.

Source of behaviour: kubernetes pkg/scheduler/framework/plugins (v1.36); texts of reasons are those of kubectl describe,
except that an untolerated taint is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from skerry.api.affinity import affinity_score, fits_affinity
from skerry.api.gvk import Object
from skerry.api.meta import controller_of
from skerry.api.podrequests import ports_clash
from skerry.base.values import Struct, field
from skerry.controllers.scheduler import spread, volumes
from skerry.controllers.scheduler.neighbours import (
    AFFINITY,
    Domain,
    Labels,
    Neighbourhood,
    neighbourhood,
    preferences,
)
from skerry.controllers.scheduler.views import Needs, NodeView, needs_of
from skerry.controllers.tolerance import (
    HARD_EFFECTS,
    UNSCHEDULABLE,
    taints_of,
    untolerated,
)

_MIB = 1024 * 1024
_IMAGE_LEAST_BYTES, _IMAGE_MOST_BYTES = 23 * _MIB, 1000 * _MIB
"""Images on a node count from the first size on, fully at the second (times the number of containers)."""


class Obstacle(Struct, frozen=True):
    """Why a pod cannot be on a node.

    Args:
        reasons: in the words of ``kubectl describe``.
        is_curable: whether it could be there if other pods went away.
    """

    reasons: tuple[str, ...]
    is_curable: bool = True


class Choice(Struct, frozen=True):
    """A node, or why there is none.

    Args:
        node: name; empty when none fits.
        message: why not.
        curable: nodes that other pods would have to leave.
        bindings: what the pod's claims need on the node.
    """

    node: str = ""
    message: str = ""
    curable: tuple[NodeView, ...] = ()
    bindings: tuple[volumes.Binding, ...] = ()


class World(Struct, frozen=True):
    """What besides nodes and their pods decides.

    Args:
        namespaces: labels of namespaces.
        storage: claims, volumes, classes.
    """

    namespaces: Labels = field(default_factory=dict)
    storage: volumes.Storage = field(default_factory=volumes.Storage)


class Question(Struct, frozen=True):
    """One pod read once, against which nodes are held."""

    pod: Object
    needs: Needs
    claims: volumes.PodClaims
    storage: volumes.Storage
    near: Neighbourhood
    hard: Sequence[spread.Constraint]


def ask(pod: Object, views: Sequence[NodeView], world: World) -> Question:
    """Read a pod and count what runs."""
    return Question(
        pod=pod,
        needs=needs_of(pod),
        claims=volumes.claims_of(pod, world.storage),
        storage=world.storage,
        near=neighbourhood(pod, views, world.namespaces),
        hard=spread.constraints(pod, views, hard=True),
    )


def choose(pod: Object, views: Sequence[NodeView], world: World | None = None) -> Choice:
    """Pick the node with the highest score among those that fit.

    Args:
        pod: not bound yet.
        views: every node.
        world: what else counts.
    """
    world = world or World()
    if not views:
        return Choice(message="no nodes available to schedule pods")
    question = ask(pod, views, world)
    if question.claims.problem:
        return Choice(message=f"0/{len(views)} nodes are available: {question.claims.problem}.")
    against = [(node, obstacle(question, node)) for node in views]
    fitting = [node for node, found in against if found is None]
    if fitting:
        best = best_of(question, fitting, views, world)
        bindings = volumes.bindings(question.claims, world.storage, best) or ()
        return Choice(node=best.name, bindings=tuple(bindings))
    reasons = [reason for _, found in against if found is not None for reason in found.reasons]
    curable = tuple(node for node, found in against if found is not None and found.is_curable)
    return Choice(message=no_node_message(len(views), reasons), curable=curable)


def no_node_message(count: int, reasons: Sequence[str]) -> str:
    """The sentence that lists how many nodes have which reason."""
    parts = sorted(f"{number} {reason}" for reason, number in Counter(reasons).items())
    return f"0/{count} nodes are available: {', '.join(parts)}."


def obstacle(question: Question, node: NodeView) -> Obstacle | None:
    """Why the pod cannot be on the node: the first kind of reason only, except for resources."""
    needs = question.needs
    spec = needs.spec
    if spec.get("nodeName") and spec["nodeName"] != node.name:
        return Obstacle(("node(s) didn't match the requested node name",), is_curable=False)
    if reason := _taint_obstacle(needs, node.node):
        return Obstacle((reason,), is_curable=False)
    if not fits_affinity(spec, node.node):
        return Obstacle(("node(s) didn't match Pod's node affinity/selector",), is_curable=False)
    if needs.ports and ports_clash(needs.ports, node.ports):
        return Obstacle(("node(s) didn't have free ports for the requested pod ports",))
    if missing := _missing(needs, node):
        return missing
    if reason := volumes.obstacle(question.claims, question.storage, node):
        return Obstacle((reason,), is_curable=False)
    if reason := spread.obstacle(question.hard, node):
        return Obstacle((reason,), is_curable=reason != spread.UNLABELLED)
    reason = question.near.obstacle(node)
    return Obstacle((reason,), is_curable=reason != AFFINITY) if reason else None


def _taint_obstacle(needs: Needs, node: Object) -> str:
    taint = untolerated(taints_of(node), needs.tolerations, HARD_EFFECTS)
    if taint is None:
        return ""
    if taint["key"] == UNSCHEDULABLE:
        return "node(s) were unschedulable"
    return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"


def _missing(needs: Needs, node: NodeView) -> Obstacle | None:
    reasons = []
    is_curable = True
    if "pods" in node.allocatable and len(node.pods) + 1 > node.allocatable["pods"]:
        reasons.append("Too many pods")
    for resource, asked in needs.requests.items():
        total = node.allocatable.get(resource, 0)
        if asked > total - node.used.get(resource, 0):
            reasons.append(f"Insufficient {resource}")
            is_curable = is_curable and asked <= total
    return Obstacle(tuple(reasons), is_curable) if reasons else None


# -- scores


def best_of(question: Question, fitting: Sequence[NodeView], views: Sequence[NodeView], world: World) -> NodeView:
    """The best of the nodes that fit; of equal ones the last by name."""
    if len(fitting) == 1:
        return fitting[0]
    pod, needs = question.pod, question.needs
    scores = dict.fromkeys((node.name for node in fitting), 0.0)
    liked = preferences(pod, views, world.namespaces)
    wished = spread.constraints(pod, views, hard=False)
    owner = (controller_of(pod) or {}).get("uid", "")
    columns = (
        (1.0, [_least_allocated(needs, node) for node in fitting]),
        (1.0, [_image_share(needs, node, views) for node in fitting]),
        (2.0, _scaled([affinity_score(needs.spec, node.node) for node in fitting])),
        (3.0, _turned([_soft_taints(needs, node) for node in fitting])),
        (2.0, _spanned([_liking(liked, node) for node in fitting])),
        (2.0, _turned([spread.crowding(wished, node) for node in fitting])),
        (2.0, _turned([node.count_of(owner) if owner else 0 for node in fitting])),
    )
    for weight, column in columns:
        for node, score in zip(fitting, column, strict=True):
            scores[node.name] += weight * score
    return max(fitting, key=lambda node: (scores[node.name], node.name))


def _scaled(values: Sequence[float]) -> list[float]:
    """0 to 100, the highest being 100."""
    top = max(values)
    return [100 * value / top if top > 0 else 0.0 for value in values]


def _turned(values: Sequence[float]) -> list[float]:
    """100 to 0, the highest being 0."""
    return [100 - value for value in _scaled(values)]


def _spanned(values: Sequence[float]) -> list[float]:
    """0 for the lowest, 100 for the highest."""
    low, high = min(values), max(values)
    return [100 * (value - low) / (high - low) if high > low else 0.0 for value in values]


def _liking(liked: Mapping[Domain, int], node: NodeView) -> float:
    return float(sum(weight for (key, value), weight in liked.items() if node.label(key) == value))


def _soft_taints(needs: Needs, node: NodeView) -> int:
    soft = [taint for taint in taints_of(node.node) if taint.get("effect") == "PreferNoSchedule"]
    return sum(untolerated([taint], needs.tolerations, ("PreferNoSchedule",)) is not None for taint in soft)


def _image_share(needs: Needs, node: NodeView, views: Sequence[NodeView]) -> float:
    """How much of the pod's images is on the node; images that few nodes have count less."""
    containers = needs.spec.get("containers") or ()
    names = [_full_name(container.get("image") or "") for container in containers]
    total = 0.0
    for name in names:
        if size := node.images.get(name):
            total += size * sum(name in other.images for other in views) / len(views)
    most = _IMAGE_MOST_BYTES * max(1, len(names))
    return 100 * (min(max(total, _IMAGE_LEAST_BYTES), most) - _IMAGE_LEAST_BYTES) / (most - _IMAGE_LEAST_BYTES)


def _full_name(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


def _least_allocated(needs: Needs, node: NodeView) -> float:
    shares = []
    for resource, asked in needs.scored.items():
        total = node.allocatable.get(resource, 0)
        shares.append(max(0.0, 1 - (node.scored.get(resource, 0) + asked) / total) if total else 0.0)
    return 100 * sum(shares) / len(shares)
