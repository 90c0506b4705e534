"""How many may shake hands at once, and how long one may take."""

from __future__ import annotations

from skerry.base.net.http_server.window import LEAST, SLOW_S, OpeningWindow


def window(most: int = 512) -> OpeningWindow:
    return OpeningWindow(most, deadline_s=10.0)


def test_slow_handshakes_make_it_smaller_down_to_a_least_size_and_fast_ones_larger_again() -> None:
    found = window()
    found.came_through(SLOW_S + 0.1)
    assert found.size == 511
    for _ in range(1000):
        found.came_through(SLOW_S + 0.1)
    assert found.size == LEAST
    for _ in range(1000):
        found.came_through(0.01)
    assert found.size == 512


def test_a_small_window_stays_as_it_is() -> None:
    found = window(8)
    for _ in range(20):
        found.came_through(5.0)
    assert found.size == 8


def test_patience_begins_with_half_of_the_deadline_and_follows_what_others_needed() -> None:
    found = window()
    assert found.patience_s == 5.0
    for _ in range(200):
        found.came_through(0.005)
    assert found.patience_s == 2.5
    for _ in range(200):
        found.came_through(1.5)
    assert 5.9 < found.patience_s < 6.1
    for _ in range(200):
        found.came_through(9.0)
    assert found.patience_s == 10.0
