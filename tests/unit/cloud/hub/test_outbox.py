"""The keyed outbox of one node."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.base.values import replace
from skerry.cloud.hub.outbox import MAX_UNDER_WAY, NodeOutbox, acked_of, deletion_of, digest_of, holdings_of, is_newer
from skerry.cloud.hub.ports import Acked, Delivery
from skerry.wire.errors import Malformed


def delivery(
    name: str, version: int, operation: str = "update", *, uid: str = "", order: int = 50, content: int | None = None
) -> Delivery:
    """A pod in a version; its labels say its content, which is its version unless told otherwise."""
    labels = {"content": str(version if content is None else content)}
    meta = {
        "name": name, "namespace": "default", "uid": uid or f"uid-{name}", "resourceVersion": str(version),
        "labels": labels,
    }  # fmt: skip
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
            acked = self.outbox.acked(msg_id)
            assert acked is not None
            assert replace(acked, digest=b"") == self.under_way.pop(msg_id)


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


def test_a_deletion_follows_an_insert_that_may_have_arrived() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.put(delivery("used", 1, "insert"))
    wire.send()
    wire.outbox.put(delivery("used", 1, "delete"))
    wire.outbox.put(delivery("used", 1, "insert"))
    wire.outbox.put(delivery("used", 1, "delete"))
    wire.ack()
    assert wire.send() == [("delete", "used", "1")]
    wire.ack()
    wire.outbox.put(delivery("lost", 2, "insert"))
    wire.send(0.0)
    wire.outbox.put(delivery("lost", 3))
    assert wire.outbox.overtaken(5.0) == ["m2"]
    wire.outbox.put(delivery("lost", 4, "delete"))
    assert wire.send(5.0) == [("delete", "lost", "4")]


def test_a_resync_removes_the_predecessor_first() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.load([acked_of(delivery("a", 1, uid="old"))])
    wire.outbox.reconcile([delivery("a", 5, "insert", uid="new")])
    assert wire.send() == [("delete", "a", "")]
    wire.outbox.reconcile([delivery("a", 5, "insert", uid="new")])
    wire.ack()
    assert wire.send() == [("insert", "a", "5")]


def test_a_late_removal_does_not_hide_the_successor() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.load([acked_of(delivery("a", 1, uid="old"))])
    wire.outbox.put(delivery("a", 3, "insert", uid="new"))
    wire.outbox.put(delivery("a", 2, "delete", uid="old"))
    assert wire.send() == [("delete", "a", "2")]
    wire.ack()
    assert wire.send() == [("insert", "a", "3")]


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
    assert sorted(wire.send()) == [("delete", "changed", ""), ("delete", "new", "")]
    wire.ack()
    assert wire.send() == [("update", "same", "5")]


def test_an_own_echo_moves_the_cursor_only() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.load([acked_of(delivery("a", 5))])
    wire.outbox.advance(delivery("a", 6), from_version="5")
    assert wire.outbox.moved() == [Acked("uid-a", "Pod", "v1", "default", "a", "6", content_version="5")]
    assert wire.outbox.moved() == []
    assert wire.send() == []
    wire.outbox.advance(delivery("a", 9), from_version="8")
    assert wire.outbox.moved() == []
    assert wire.send() == [("update", "a", "9")]
    wire.outbox.advance(delivery("a", 10), from_version="9")
    wire.ack()
    assert wire.send() == [("update", "a", "10")]


def test_a_newer_version_with_nothing_for_the_node_is_not_sent() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.put(delivery("a", 1))
    wire.send()
    wire.ack()
    assert not wire.outbox.put(delivery("a", 2, content=1))
    assert not wire.outbox.put(delivery("a", 3, content=1))
    assert [(e.resource_version, e.content_version) for e in wire.outbox.moved()] == [("2", "1"), ("3", "1")]
    assert wire.outbox.put(delivery("a", 4, content=2))
    assert wire.send() == [("update", "a", "4")]


def test_the_digest_leaves_out_what_no_node_acts_on() -> None:
    pod = {
        "kind": "Pod", "metadata": {"name": "a", "resourceVersion": "1", "managedFields": [{}]}, "spec": {"a": [1, 2]},
        "status": {"phase": "Running"},
    }  # fmt: skip
    same = {"spec": {"a": [1, 2]}, "metadata": {"resourceVersion": "9", "name": "a", "generation": 3}, "kind": "Pod"}
    assert digest_of(pod) == digest_of(same)
    assert digest_of(pod) != digest_of(same | {"spec": {"a": [2, 1]}})
    assert digest_of(pod) != digest_of(same | {"metadata": {"name": "a", "deletionTimestamp": "now"}})
    device = {"kind": "Device", "metadata": {"name": "d"}, "status": {"x": 1}}
    assert digest_of(device) != digest_of(device | {"status": {"x": 2}})


def test_what_is_not_acknowledged_holds_up_nobody_for_long() -> None:
    wire = Wire(NodeOutbox(window=4))
    for number in range(200):
        wire.outbox.put(delivery(f"p{number}", 1))
    assert len(wire.send(0.0)) == 4
    assert wire.outbox.next_look_s(0.0) == 5.0
    assert len(wire.send(5.0)) == 4
    for round_ in range(2, 60):
        wire.send(5.0 * round_)
    assert len(wire.under_way) == MAX_UNDER_WAY


def test_a_newer_state_goes_in_the_place_of_one_that_is_not_acknowledged() -> None:
    wire = Wire(NodeOutbox())
    wire.outbox.put(delivery("a", 1, "insert"))
    wire.send(0.0)
    wire.outbox.put(delivery("a", 2))
    assert wire.outbox.overtaken(4.9) == []
    assert wire.outbox.next_look_s(4.9) == 5.0
    assert wire.outbox.overtaken(5.0) == ["m0"]
    assert wire.send(5.0) == [("insert", "a", "2")]
    assert wire.outbox.acked("m0") is None
    wire.outbox.put(delivery("a", 3, "delete"))
    assert wire.outbox.overtaken(10.0) == ["m1"]
    assert wire.send(10.0) == [("delete", "a", "3")]
    wire.outbox.put(delivery("a", 4, "insert", uid="successor"))
    assert wire.outbox.overtaken(99.0) == [], "a successor waits for the removal, however long"


def test_a_node_tells_what_it_holds() -> None:
    sent = delivery("a", 3)
    known = {
        "uid-a": replace(acked_of(sent), resource_version="5", content_version="3", digest=b"d"),
        "uid-b": acked_of(delivery("b", 3)),
        "uid-c": acked_of(delivery("c", 3)),
    }
    told = {
        "default/pod/a": ["uid-a", "3"],
        "default/pod/b": ["uid-b", "2"],
        "default/pod/x": ["uid-x", ""],
        "null/node/n": ["uid-n", "7"],
    }
    found = holdings_of(told, known)
    assert found["uid-a"] is known["uid-a"]
    assert found["uid-b"].resource_version == "2"
    assert "uid-c" not in found
    assert deletion_of(found["uid-x"]).key == "default/pod/x"
    assert deletion_of(found["uid-n"]).key == "null/node/n"
    outbox = NodeOutbox()
    outbox.load(found.values())
    assert outbox.put(delivery("x", 1)), "a version of another history proves nothing"
    for wrong in ({"nopath": ["u", "1"]}, {"a/b/c": "u"}, {"a/b/c": ["u"]}, {"a/b/c": ["u", 1]}):
        with pytest.raises(Malformed):
            holdings_of(wrong, {})


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


ACTIONS = [
    "put", "touch", "delete", "renew", "release", "use", "send", "ack", "wait", "cut", "cut and arrived", "resync",
    "force",
]  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 2)), max_size=60)


class Model:
    """One node that stores what it gets, and the truth that it should end with: uid and content per object.

    Args:
        tells: the node says what it holds when it comes back; else a cursor must do, as ``NodeSession`` writes it.
    """

    def __init__(self, *, tells: bool) -> None:
        self.wire = Wire(NodeOutbox(window=2))
        self.now_s = 0.0
        self.truth: dict[str, tuple[str, int, int]] = {}
        self.unused: set[str] = set()
        self.held: dict[str, tuple[str, int, int]] = {}
        self.cursor: dict[str, Acked] = {}
        self._tells = tells
        self._uids = itertools.count()
        self._versions = itertools.count(1)

    def wanted(self) -> dict[str, tuple[str, int]]:
        return {name: (uid, content) for name, (uid, _, content) in self.truth.items() if name not in self.unused}

    def step(self, action: str, name: str) -> None:
        known = self.truth.get(name)
        is_used = name not in self.unused
        if action == "send":
            self.send()
        elif action == "ack":
            self.settle(1)
        elif action == "wait":
            self.now_s += 3.0
        elif action.startswith("cut"):
            self.cut(has_arrived=action != "cut")
        elif action == "resync":
            self.wire.outbox.reconcile(self.desired())
        elif action == "force":
            self.wire.outbox.forget_all()
            self.wire.outbox.reconcile(self.desired())
        elif action in ("delete", "renew") and known:
            del self.truth[name]
            self.unused.discard(name)
            if is_used:
                self.wire.outbox.put(delivery(name, next(self._versions), "delete", uid=known[0]))
            if action == "renew":
                self.step("put", name)
        elif action == "release" and known and is_used:
            self.unused.add(name)
            self.wire.outbox.put(delivery(name, known[1], "delete", uid=known[0]))
        elif action == "use" and known and not is_used:
            self.unused.discard(name)
            self.wire.outbox.put(delivery(name, known[1], "insert", uid=known[0], content=known[2]))
        elif action in ("put", "touch") and (known or action == "put"):
            version = next(self._versions)
            uid = known[0] if known else f"u{next(self._uids)}"
            content = known[2] if known and action == "touch" else version
            self.truth[name] = (uid, version, content)
            if is_used:
                operation = "update" if known else "insert"
                self.wire.outbox.put(delivery(name, version, operation, uid=uid, content=content))

    def desired(self) -> list[Delivery]:
        truth = ((name, known) for name, known in self.truth.items() if name not in self.unused)
        return [delivery(name, version, uid=uid, content=content) for name, (uid, version, content) in truth]

    def send(self) -> None:
        for msg_id in self.wire.outbox.overtaken(self.now_s):
            lost: Any = self.wire.under_way.pop(msg_id)
            if self.now_s % 2:  # it had arrived, only its acknowledgement had not
                self._store(lost)
        self.wire.send(self.now_s)
        for sent in self.wire.under_way.values():
            held = self.wire.outbox.held(sent.uid)
            if sent.operation != "delete" and held is not None and not held.resource_version:
                self.cursor[sent.uid] = held

    def settle(self, count: int) -> None:
        for msg_id in list(self.wire.under_way)[:count]:
            sent = self.wire.under_way[msg_id]
            self._store(sent)
            self.wire.ack(1)
            held = self.wire.outbox.held(sent.uid)
            self.cursor.pop(sent.uid, None)
            if held is not None:
                self.cursor[sent.uid] = held

    def cut(self, *, has_arrived: bool) -> None:
        if has_arrived:
            for sent in self.wire.under_way.values():
                self._store(sent)
        outbox = NodeOutbox(window=2)
        if self._tells:
            told = {f"default/pod/{name}": [uid, str(version)] for name, (uid, version, _) in self.held.items()}
            self.cursor = holdings_of(told, self.cursor)
        outbox.load(self.cursor.values())
        outbox.reconcile(self.desired())
        self.wire = Wire(outbox)

    def _store(self, d: Delivery) -> None:
        name = d.key.rpartition("/")[2]
        if d.operation == "delete":
            assert name not in self.held or self.held[name][0] == d.uid
            self.held.pop(name, None)
            return
        assert name not in self.held or self.held[name][0] == d.uid, "successor before the removal"
        assert name not in self.held or self.held[name][1] <= int(d.resource_version)
        self.held[name] = (d.uid, int(d.resource_version), int(d.content["metadata"]["labels"]["content"]))


@settings(max_examples=1500, deadline=None)
@given(STEPS, st.booleans())
def test_the_node_ends_with_the_truth_and_order_is_kept_per_object(steps: list[tuple[str, int]], tells: bool) -> None:
    """Whatever happens in between, the node at last holds the newest state of each object, and never two at once."""
    model = Model(tells=tells)
    for action, number in steps:
        model.step(action, f"o{number}")
        keys = [d.key for d in model.wire.under_way.values()]
        assert len(keys) == len(set(keys))
    for _ in range(100):
        model.send()
        model.settle(1000)
    assert {name: (uid, content) for name, (uid, _, content) in model.held.items()} == model.wanted()
    assert len(model.wire.outbox) == 0
