"""The state of nodes' links as conditions of their Nodes: ``CloudLink`` and ``DeliveryBacklog``.

``CloudLink``        True while the node has a link to the cloud, with its address; False with when it was last heard.
``DeliveryBacklog``  True while much waits for the node, or it acknowledges nothing; Unknown without a link. Nodes that
                     never had a backlog have no such condition.

A state is written once it has lasted, numbers never: a node that reconnects costs no write, nor does one whose outbox
fills and empties. Several replicas: each speaks for the nodes that it serves; of a node that the cluster has given up
hearing any of them may say that its link is gone, for the one that served it may be gone, too.

Bound: at most ``MOST_WRITES`` writes in ``LOOK_EVERY_S``, one after the other; one entry per node whose state changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from skerry.api.gvk import LEASES, NODES, Object
from skerry.api.meta import rfc3339
from skerry.api.status import ApiError, Conflict, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.cloud.hub.ports import NodeLink, NodeName
from skerry.cloud.sync.silence import LEASE_NAMESPACE, is_silent
from skerry.kube.informer import Informer
from skerry.kube.ports import KubeApi

log = get_log(__name__)

LINK, BACKLOG = "CloudLink", "DeliveryBacklog"
SETTLES_S = 20.0
"""So long a link must stand, or be away, until it is told."""
LOOK_EVERY_S = 10.0
MOST_WRITES = 200
MANY = 100
OLD_S = 30.0
LASTS_S = 30.0
"""So long a backlog must last until it is told."""


class Told(Struct, frozen=True):
    """A condition without its times."""

    type: str
    status: str
    reason: str
    message: str


def is_behind(link: NodeLink) -> bool:
    """Whether the node has a backlog, should it last."""
    return link.waiting >= MANY or link.oldest_unacked_age_s >= OLD_S


def has_caught_up(link: NodeLink) -> bool:
    """Whether it has none any more: clearly fewer than make one."""
    return link.waiting == 0 or (link.waiting < MANY / 2 and link.oldest_unacked_age_s < OLD_S / 3)


class Backlogs:
    """Which nodes have had a backlog for some time; no I/O, no clock."""

    def __init__(self) -> None:
        self._since_s: dict[NodeName, float] = {}
        self._lasting: set[NodeName] = set()

    def __contains__(self, node: NodeName) -> bool:
        return node in self._lasting

    def look(self, links: Mapping[NodeName, NodeLink], now_s: float) -> list[NodeName]:
        """Look at all links; the nodes whose answer is another one from now on. One that reconnects keeps its own."""
        self._since_s = {node: since_s for node, since_s in self._since_s.items() if node in links}
        changed = [node for node in self._lasting if node in links and has_caught_up(links[node])]
        self._lasting.difference_update(changed)
        for node, link in links.items():
            if has_caught_up(link):
                self._since_s.pop(node, None)
            elif node in self._since_s or (is_behind(link) and node not in self._lasting):
                if now_s - self._since_s.setdefault(node, now_s) < LASTS_S:
                    continue
                del self._since_s[node]
                self._lasting.add(node)
                changed.append(node)
        return changed

    def forget(self, node: NodeName) -> None:
        """The node's link is gone."""
        self._lasting.discard(node)


class LinkStates:
    """One per cloud process.

    Args:
        api: the cluster.
        nodes: their cache.
        links: of now; asked once a look.
        is_connected: whether a node has a session here.
        replica: name of this process where there are several, else empty.
        clock: time source.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        nodes: Informer,
        links: Callable[[], Sequence[NodeLink]],
        is_connected: Callable[[NodeName], bool],
        replica: Callable[[], str] = lambda: "",
        clock: Clock | None = None,
    ) -> None:
        self._api = api
        self._nodes = nodes
        self._links = links
        self._is_connected = is_connected
        self._replica = replica
        self._clock = clock or SystemClock()
        self._due: dict[NodeName, float] = {}
        self._lost: dict[NodeName, tuple[float, float]] = {}
        self._backlogs = Backlogs()
        nodes.on_event(self._on_node)

    def connected(self, link: NodeLink) -> None:
        """A session has begun."""
        self._lost.pop(link.node, None)
        self._look_at(link.node)

    def disconnected(self, link: NodeLink) -> None:
        """A session has ended; the node may have a newer one."""
        if not self._is_connected(link.node):
            self._lost[link.node] = (self._clock.monotonic_s(), link.last_seen_s)
        self._look_at(link.node)

    async def run(self) -> None:
        """Tell what has changed; never ends."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        links = {link.node: link for link in self._links()}
        now_s = self._clock.monotonic_s()
        for node in self._backlogs.look(links, now_s):
            self._due[node] = now_s
        writes = 0
        for node in [node for node, due_s in self._due.items() if due_s <= now_s]:
            if writes == MOST_WRITES:
                return
            del self._due[node]
            writes += await self._tell(node, links.get(node))

    def _look_at(self, node: NodeName, *, after_s: float = SETTLES_S) -> None:
        self._due.setdefault(node, self._clock.monotonic_s() + after_s)

    def _on_node(self, kind: str, old: Object | None, new: Object | None) -> None:
        """Others may say something else of the link: an agent that replaces all conditions, another replica."""
        if new is None:
            return
        node = NodeName(new["metadata"]["name"])
        said = conditions_of(new).get(LINK) or {}
        is_up = said.get("status") == "True"
        is_wrong = not (is_up and self._is_ours(said)) if self._is_connected(node) else is_up and is_silent(new)
        if is_wrong:
            self._look_at(node)

    async def _tell(self, node: NodeName, link: NodeLink | None) -> bool:
        """Write what differs; whether something was written."""
        cached = self._nodes.get(node)
        if cached is None:
            self._lost.pop(node, None)
            return False  # once it registers, that is an event
        said = conditions_of(cached)
        lasts_s, heard_s = self._lasts(node, link)
        wanted = []
        if lasts_s < SETTLES_S:
            self._look_at(node, after_s=min(SETTLES_S, SETTLES_S - lasts_s))
        elif (told := await self._link(cached, link, said, heard_s)) is not None:
            wanted.append(told)
        if link is not None or wanted:
            wanted += self._backlog(node, link, said)
        fresh = [told for told in wanted if _differs(told, said.get(told.type))]
        return bool(fresh) and await self._write(cached, fresh, said, is_pinned=link is None)

    def _lasts(self, node: NodeName, link: NodeLink | None) -> tuple[float, float]:
        """For how long the link has been as it is, and when the node was last heard; 0 when nobody here knows."""
        if link is not None:
            return self._clock.now_s() - link.connected_since_s, link.last_seen_s
        if (lost := self._lost.get(node)) is None:
            return inf, 0.0
        lasts_s = self._clock.monotonic_s() - lost[0]
        if lasts_s >= SETTLES_S:
            del self._lost[node]
        return lasts_s, lost[1]

    async def _link(
        self, node: Object, link: NodeLink | None, said: Mapping[str, Object], heard_s: float
    ) -> Told | None:
        if link is not None:
            at = f" to {self._replica()}" if self._replica() else ""
            return Told(LINK, "True", "Connected", f"connected from {link.address}{at}")
        last = said.get(LINK) or {}
        if last.get("status") != "True" or not (self._is_ours(last) or is_silent(node)):
            return None
        heard = rfc3339(heard_s) if heard_s else await self._renewed(node["metadata"]["name"])
        return Told(LINK, "False", "Disconnected", f"last heard at {heard or 'a time that nobody knows'}")

    def _backlog(self, node: NodeName, link: NodeLink | None, said: Mapping[str, Object]) -> list[Told]:
        last = (said.get(BACKLOG) or {}).get("status")
        if link is not None and node in self._backlogs:
            text = f"{link.waiting} deliveries wait for the node or its acknowledgement"
            if last == "True":
                return []
            if link.oldest_unacked_age_s >= OLD_S:
                text += f"; it has acknowledged nothing of one for {link.oldest_unacked_age_s:.0f} s"
            return [Told(BACKLOG, "True", "DeliveriesWait", text)]
        if link is not None and last in ("True", "Unknown"):
            return [Told(BACKLOG, "False", "CaughtUp", "what is for the node reaches it")]
        if link is None:
            self._backlogs.forget(node)
        if link is None and last == "True":
            return [Told(BACKLOG, "Unknown", "NoLink", "what waits is found when the node is back")]
        return []

    def _is_ours(self, said: Object) -> bool:
        return not self._replica() or str(said.get("message")).endswith(f" to {self._replica()}")

    async def _renewed(self, node: str) -> str:
        """Where this process has not seen it go: when its Lease was last renewed."""
        try:
            lease = await self._api.get(LEASES, node, namespace=LEASE_NAMESPACE)
        except ApiError:
            return ""
        return str((lease.get("spec") or {}).get("renewTime") or "")

    async def _write(self, node: Object, told: list[Told], said: Mapping[str, Object], *, is_pinned: bool) -> bool:
        """``is_pinned``: only if nobody has written the Node meanwhile, such as the replica where the node is now."""
        name, now = node["metadata"]["name"], rfc3339(self._clock.now_s())
        patch: dict[str, Any] = {"status": {"conditions": [_condition(one, said.get(one.type), now) for one in told]}}
        if is_pinned:
            patch["metadata"] = {"resourceVersion": node["metadata"]["resourceVersion"]}
        try:
            await self._api.patch(NODES, name, patch, patch_type="strategic", subresource="status")
        except NotFound:
            return True
        except Conflict:
            self._look_at(NodeName(name), after_s=LOOK_EVERY_S)
        except ApiError as exc:
            log.warning("node.condition_not_written", node=name, condition=told[0].type, error=exc.message)
            self._look_at(NodeName(name))
        return True


def conditions_of(node: Object) -> dict[str, Object]:
    """The conditions of a Node by type."""
    return {str(found.get("type")): found for found in (node.get("status") or {}).get("conditions") or ()}


def _differs(told: Told, said: Object | None) -> bool:
    if said is None:
        return True
    return (told.status, told.reason, told.message) != tuple(said.get(key) for key in ("status", "reason", "message"))


def _condition(told: Told, said: Object | None, now: str) -> Object:
    is_same = said is not None and said.get("status") == told.status
    since = (said or {}).get("lastTransitionTime") if is_same else now
    return {
        "type": told.type, "status": told.status, "reason": told.reason, "message": told.message,
        "lastTransitionTime": since or now, "lastHeartbeatTime": now,
    }  # fmt: skip
