import pytest

from skerry.runtime.cri.logrotation import LOOK_S, SOONEST_S, next_look_s

MAX = 10 * 1024 * 1024


@pytest.mark.parametrize(("waited_s", "largest", "then_s"), [
    (10.0, 0, 10.0), (10.0, MAX // 100, 10.0), (10.0, 2 * MAX, 5.0), (10.0, 1_000 * MAX, SOONEST_S),
    (1.0, 0, 2.0), (4.0, 0, 8.0), (8.0, 0, LOOK_S), (2.0, MAX, 2.0),
])  # fmt: skip
def test_the_next_look_comes_when_the_fastest_log_is_full(waited_s: float, largest: int, then_s: float) -> None:
    assert next_look_s(waited_s, largest, MAX) == then_s


def test_a_flood_takes_a_tenth_of_what_it_took_with_looks_at_equal_times() -> None:
    wait_s, flood, files = LOOK_S, 100 * 1024 * 1024, []
    for _ in range(20):
        files.append(int(wait_s * flood))
        wait_s = next_look_s(wait_s, files[-1], MAX)
    assert sum(files[-5:]) <= 5 * flood * SOONEST_S
