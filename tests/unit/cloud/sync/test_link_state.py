"""When many deliveries that wait for a node are a backlog, and when no more."""

from __future__ import annotations

from skerry.cloud.hub.ports import NodeLink, NodeName
from skerry.cloud.sync.link_state import LASTS_S, MANY, OLD_S, Backlogs, has_caught_up, is_behind

NODE = NodeName("edge-1")


def link(waiting: int, oldest_s: float = 0.0) -> dict[NodeName, NodeLink]:
    return {NODE: NodeLink(NODE, 0.0, 0.0, "", "", waiting, oldest_s)}


def test_a_full_outbox_is_a_backlog_once_it_has_lasted() -> None:
    found = Backlogs()
    assert found.look(link(MANY), 0.0) == []
    assert found.look(link(MANY), LASTS_S - 1) == []
    assert found.look(link(MANY), LASTS_S) == [NODE] and NODE in found
    assert found.look(link(MANY * 5), LASTS_S + 10) == []
    assert found.look(link(MANY // 2), LASTS_S + 20) == [] and NODE in found
    assert found.look(link(0), LASTS_S + 30) == [NODE] and NODE not in found


def test_one_that_empties_in_between_is_none() -> None:
    found = Backlogs()
    for look in range(20):
        assert found.look(link(MANY if look % 3 else 0), look * 10.0) == []


def test_a_dip_below_the_limit_does_not_start_the_time_anew() -> None:
    found = Backlogs()
    found.look(link(MANY), 0.0)
    found.look(link(MANY - 1), 10.0)
    assert found.look(link(MANY - 1), LASTS_S) == [NODE]


def test_a_node_that_acknowledges_nothing_has_one_with_a_single_delivery() -> None:
    found = Backlogs()
    assert found.look(link(1, OLD_S - 1), 0.0) == []
    assert found.look(link(1, OLD_S), 10.0) == []
    assert found.look(link(1, OLD_S + 30), 10.0 + LASTS_S) == [NODE]


def test_a_backlog_outlives_a_reconnect_and_goes_with_the_link() -> None:
    found = Backlogs()
    found.look(link(MANY), 0.0)
    found.look(link(MANY), LASTS_S)
    assert found.look({}, LASTS_S + 10) == [] and NODE in found
    assert found.look(link(3), LASTS_S + 20) == [NODE]
    found.look(link(MANY), 100.0)
    assert found.look({}, 110.0) == []
    assert found.look(link(MANY), 100.0 + LASTS_S) == [], "the time of before the reconnect counted"
    found.forget(NODE)
    assert NODE not in found


def test_no_state_is_both() -> None:
    states = [link(waiting, old)[NODE] for waiting in (0, 1, 49, 50, 99, 100) for old in (0.0, 9.0, 10.0, 29.0, 30.0)]
    assert not [state for state in states if is_behind(state) and has_caught_up(state) and state.waiting]
