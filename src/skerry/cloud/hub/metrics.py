"""What the hub tells Prometheus: each node's link, and each node as the cluster knows it.

Numbers are taken when they are asked for; nothing is kept between. A link's byte counters begin anew with each
connection, as Prometheus expects of counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from skerry.api.gvk import Object
from skerry.api.meta import parse_rfc3339
from skerry.base.obs.metrics import LabelValues, Registry
from skerry.base.values import Struct
from skerry.cloud.hub.ports import NodeLink

Read = Callable[[NodeLink], float]


class NodeState(Struct, frozen=True):
    """One node as the cluster knows it. ``heard_s`` and ``certificate_ends_s`` are Unix seconds, 0 when unknown."""

    name: str
    is_ready: bool
    heard_s: float = 0.0
    certificate_ends_s: float = 0.0


def node_state(node: Object, lease: Object | None, *, certificate_ends_s: float = 0.0) -> NodeState:
    """From the objects of a node."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = next((c.get("status") for c in conditions if c.get("type") == "Ready"), None)
    renewed = ((lease or {}).get("spec") or {}).get("renewTime")
    heard_s = parse_rfc3339(renewed) or 0.0
    return NodeState(node["metadata"]["name"], ready == "True", heard_s, certificate_ends_s)


def register(
    registry: Registry,
    *,
    links: Callable[[], Sequence[NodeLink]],
    nodes: Callable[[], Iterable[NodeState]],
    now_s: Callable[[], float],
) -> None:
    """Add the hub's metrics.

    Args:
        links: those of now.
        nodes: every Node of the cluster.
        now_s: wall-clock seconds.
    """

    def per_link(name: str, text: str, read: Read, *, counter: bool = False) -> None:
        metric = (registry.counter if counter else registry.gauge)(name, text, "node")
        metric.read_from(lambda: [((link.node,), read(link)) for link in links()])

    def per_node(name: str, text: str, read: Callable[[NodeState], float]) -> None:
        def values() -> Iterable[tuple[LabelValues, float]]:
            return [((node.name,), value) for node in nodes() if (value := read(node)) >= 0]

        registry.gauge(name, text, "node").read_from(values)

    registry.gauge("skerry_hub_nodes_connected", "Nodes with a link to this replica.").read_from(
        lambda: [((), float(len(links())))]
    )
    per_link(
        "skerry_hub_link_connected_timestamp_seconds", "When the link was made, Unix time.",
        lambda link: link.connected_since_s,
    )  # fmt: skip
    per_link(
        "skerry_hub_link_last_seen_timestamp_seconds", "When the node was last heard on its link, Unix time.",
        lambda link: link.last_seen_s,
    )  # fmt: skip
    per_link(
        "skerry_hub_outbox_deliveries", "Deliveries that wait for the node or its acknowledgement.",
        lambda link: float(link.waiting),
    )  # fmt: skip
    per_link(
        "skerry_hub_outbox_oldest_unacknowledged_seconds",
        "Age of the oldest delivery that the node has not acknowledged; 0 when there is none.",
        lambda link: link.oldest_unacked_age_s,
    )
    per_link(
        "skerry_hub_link_received_bytes_total", "Bytes of messages from the node on this link.",
        lambda link: float(link.received_bytes), counter=True,
    )  # fmt: skip
    per_link(
        "skerry_hub_link_sent_bytes_total", "Bytes of messages to the node on this link.",
        lambda link: float(link.sent_bytes), counter=True,
    )  # fmt: skip
    per_node("skerry_node_ready", "1 when the Node is Ready, else 0.", lambda node: float(node.is_ready))
    per_node(
        "skerry_node_heard_timestamp_seconds", "When the node last renewed its lease, Unix time; absent before.",
        lambda node: node.heard_s or -1.0,
    )  # fmt: skip
    per_node(
        "skerry_node_silent_seconds", "Seconds since the node last renewed its lease.",
        lambda node: max(0.0, now_s() - node.heard_s) if node.heard_s else -1.0,
    )  # fmt: skip
    per_node(
        "skerry_node_certificate_end_timestamp_seconds", "When the node's certificate ends, Unix time.",
        lambda node: node.certificate_ends_s or -1.0,
    )  # fmt: skip
