"""The keyed outbox of one node."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.cloud.hub.outbox import NodeOutbox, acked_of, is_newer
from skerry.cloud.hub.ports import Acked, Delivery


def delivery(name: str, version: int, operation: str = "update", *, uid: str = "", order: int = 50) -> Delivery:
    meta = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}"}
    return Delivery(
        key=f"default/pod/{name}",
        operation=operation,
        uid=meta["uid"],
        resource_version=str(version),
        content={"kind": "Pod", "apiVersion": "v1", "metadata": meta},
        order=order,
    )


class Wire:
    """Sends what the outbox gives and acknowledges on demand."""

    def __init__(self, outbox: NodeOutbox) -> None:
        self.outbox = outbox
        self.under_way: dict[str, Delivery] = {}
        self._ids = itertools.count()

    def send(self, now_s: float = 0.0) -> list[tuple[str, str, str]]:
        sent = []
        while (found := self.outbox.take(now_s)) is not None:
            msg_id = f"m{next(self._ids)}"
            self.outbox.sent(msg_id, found)
            self.under_way[msg_id] = found
            sent.append((found.operation, found.key.rpartition("/")[2], found.resource_version))
        return sent

    def ack(self, count: int = 1000) -> None:
        for msg_id in list(self.under_way)[:count]:
            assert self.outbox.acked(msg_id) == self.under_way.pop(msg_id)


def test_one_delivery_per_object_and_the_newest_wins() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.put(delivery("a", 1, "insert"))
    assert wire.send() == [("insert", "a", "1")]
    for version in (2, 3, 4):
        wire.outbox.put(delivery("a", version))
    assert wire.send() == []
    assert len(wire.outbox) == 2
    wire.ack()
    assert wire.send() == [("update", "a", "4")]
    wire.ack()
    assert len(wire.outbox) == 0


def test_an_unsent_insert_takes_the_newer_content_and_stays_an_insert() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.put(delivery("a", 1, "insert"))
    wire.outbox.put(delivery("a", 2))
    assert wire.send() == [("insert", "a", "2")]


def test_older_versions_are_ignored() -> None:
    wire = Wire(NodeOutbox())
    assert wire.outbox.put(delivery("a", 5))
    assert not wire.outbox.put(delivery("a", 4))
    wire.send()
    assert not wire.outbox.put(delivery("a", 5))
    wire.ack()
    assert not wire.outbox.put(delivery("a", 5))
    assert wire.outbox.put(delivery("a", 10))


def test_the_successor_of_a_deleted_object_waits_for_the_removal() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.load([acked_of(delivery("a", 1, uid="old"))])
    wire.outbox.put(delivery("a", 2, "delete", uid="old"))
    wire.outbox.put(delivery("a", 3, "insert", uid="new"))
    assert wire.send() == [("delete", "a", "2")]
    wire.ack()
    assert wire.send() == [("insert", "a", "3")]


def test_what_came_and_went_unsent_is_not_sent() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.put(delivery("a", 1, "insert"))
    wire.outbox.put(delivery("a", 2, "delete"))
    assert len(wire.outbox) == 0
    assert wire.send() == []


def test_a_deletion_while_the_insert_is_under_way_follows_it() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.put(delivery("a", 1, "insert"))
    wire.send()
    wire.outbox.put(delivery("a", 2, "delete"))
    assert wire.send() == []
    wire.ack()
    assert wire.send() == [("delete", "a", "2")]


def test_the_window_is_bounded() -> None:
    wire = Wire(NodeOutbox(window=4))
    for number in range(10):
        wire.outbox.put(delivery(f"p{number}", 1))
    assert len(wire.send()) == 4
    wire.ack(1)
    assert len(wire.send()) == 1


def test_configs_go_before_pods_but_a_stuck_one_holds_up_nobody_for_long() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.put(delivery("pod", 1, order=50))
    wire.outbox.put(delivery("config", 1, order=20))
    assert wire.send(100.0) == [("update", "config", "1")]
    assert wire.outbox.next_look_s(100.0) == 105.0
    assert wire.send(104.9) == []
    assert wire.send(105.0) == [("update", "pod", "1")]
    assert wire.outbox.next_look_s(105.0) is None


def test_reconcile_sends_the_difference_only() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.load([acked_of(delivery(name, 5)) for name in ("same", "changed", "gone")])
    wire.outbox.reconcile([delivery("same", 5), delivery("changed", 6), delivery("new", 7, "insert")])
    assert wire.send() == [("delete", "gone", "")]
    (gone,) = wire.under_way.values()
    assert gone.content["metadata"] == {"name": "gone", "namespace": "default", "uid": "uid-gone"}
    wire.ack()
    assert sorted(wire.send()) == [("insert", "new", "7"), ("update", "changed", "6")]
    wire.ack()
    wire.outbox.reconcile([delivery("same", 5), delivery("changed", 6), delivery("new", 7, "insert")])
    assert wire.send() == []
    wire.outbox.forget_all()
    wire.outbox.reconcile([delivery("same", 5)])
    assert wire.send() == [("update", "same", "5")]


def test_an_own_echo_moves_the_cursor_only() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.load([acked_of(delivery("a", 5))])
    entry = wire.outbox.advance(delivery("a", 6), from_version="5")
    assert entry == Acked("uid-a", "Pod", "v1", "default", "a", "6")
    assert wire.send() == []
    assert wire.outbox.advance(delivery("a", 9), from_version="8") is None
    assert wire.send() == [("update", "a", "9")]
    assert wire.outbox.advance(delivery("a", 10), from_version="9") is None
    wire.ack()
    assert wire.send() == [("update", "a", "10")]


def test_unknown_acknowledgements_are_ignored() -> None:
    assert NodeOutbox().acked("nothing") is None


def test_versions_are_compared_as_numbers() -> None:
    assert is_newer("10", "9")
    assert not is_newer("9", "10")
    assert is_newer("x", "9")
    assert not is_newer("x", "x")


def test_updates_of_a_waiting_object_do_not_pile_up() -> None:
    outbox = NodeOutbox(window=1)
    outbox.put(delivery("first", 1))
    first = outbox.take(0.0)
    assert first is not None
    outbox.sent("m", first)
    for version in range(1, 2000):
        outbox.put(delivery("waiting", version))
    assert len(outbox) == 2
    assert len(outbox._ready) <= 3


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "recreate", "send", "ack"]), st.integers(0, 2)), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_node_ends_with_the_truth_and_order_is_kept_per_object(steps: list[tuple[str, int]]) -> None:
    """Whatever happens in between, the node at last holds the newest state of each object, and never two at once."""
    wire = Wire(NodeOutbox(window=2))
    truth: dict[str, tuple[str, int]] = {}
    held: dict[str, tuple[str, int]] = {}
    uids = itertools.count()
    versions = itertools.count(1)

    def settle(count: int) -> None:
        for msg_id in list(wire.under_way)[:count]:
            d = wire.under_way[msg_id]
            name = d.key.rpartition("/")[2]
            if d.operation == "delete":
                assert name not in held or held[name][0] == d.uid
                held.pop(name, None)
            else:
                assert name not in held or held[name][0] == d.uid, "successor before the removal"
                assert name not in held or held[name][1] < int(d.resource_version)
                held[name] = (d.uid, int(d.resource_version))
            wire.ack(1)

    for action, number in steps:
        name = f"o{number}"
        if action == "send":
            wire.send()
        elif action == "ack":
            settle(1)
        elif action == "delete" and name in truth:
            uid, _ = truth.pop(name)
            wire.outbox.put(delivery(name, next(versions), "delete", uid=uid))
        elif action == "put":
            known = truth.get(name)
            uid = known[0] if known else f"u{next(uids)}"
            truth[name] = (uid, next(versions))
            wire.outbox.put(delivery(name, truth[name][1], "update" if known else "insert", uid=uid))
        keys = [d.key for d in wire.under_way.values()]
        assert len(keys) == len(set(keys)) <= 2
    for _ in range(100):
        wire.send()
        settle(1000)
    assert held == truth
    assert len(wire.outbox) == 0
