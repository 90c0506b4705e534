import asyncio

import pytest

from skerry.base.aio.backoff import Backoff
from skerry.base.aio.fanout import Fanout, SlowReader
from skerry.base.aio.keyed import KeyedQueue
from skerry.base.aio.supervise import Supervisor, wait_for_condition


async def test_keyed_queue_keeps_only_the_newest_value() -> None:
    seen: list[tuple[str, int]] = []
    gate = asyncio.Event()

    async def work(key: str, value: int) -> None:
        await gate.wait()
        seen.append((key, value))

    queue: KeyedQueue[str, int] = KeyedQueue("t", work, workers=1)
    for value in range(5):
        queue.put("a", value)
    queue.put("b", 9)
    gate.set()
    await queue.join()
    assert seen == [("a", 0), ("b", 9), ("a", 4)], "a key that was worked on goes behind those that wait"
    await queue.aclose()


async def test_keyed_queue_never_runs_one_key_twice_at_once() -> None:
    running: set[str] = set()
    overlaps = 0

    async def work(key: str, value: int) -> None:
        nonlocal overlaps
        overlaps += key in running
        running.add(key)
        await asyncio.sleep(0)
        running.discard(key)

    queue: KeyedQueue[str, int] = KeyedQueue("t", work, workers=8)
    for value in range(50):
        queue.put("a", value)
        await asyncio.sleep(0)
    await queue.join()
    assert overlaps == 0
    await queue.aclose()


async def test_keyed_queue_retries_with_the_newest_value() -> None:
    seen: list[int] = []

    async def work(key: str, value: int) -> None:
        seen.append(value)
        if value == 0:
            queue.put("a", 1)
            raise OSError("no")

    queue: KeyedQueue[str, int] = KeyedQueue("t", work, on_error=lambda key, exc: True)
    queue.put("a", 0)
    await queue.join()
    assert seen == [0, 1]
    await queue.aclose()


async def test_slow_reader_is_closed_and_told_why() -> None:
    fanout: Fanout[int] = Fanout(limit=2)
    slow, fast = fanout.reader(), fanout.reader(limit=10)
    for item in range(3):
        fanout.send(item)
    assert [await slow.get(), await slow.get()] == [0, 1]
    with pytest.raises(SlowReader):
        await slow.get()
    assert fast.drain() == [0, 1, 2]
    assert len(fanout) == 1


def test_backoff_doubles_to_its_cap() -> None:
    backoff = Backoff(first_s=1, cap_s=5, jitter=False)
    assert [backoff.next_s() for _ in range(4)] == [1, 2, 4, 5]
    backoff.reset()
    assert backoff.next_s() == 1


def test_one_delay_of_a_backoff_can_be_capped_further() -> None:
    backoff = Backoff(first_s=1, cap_s=8, jitter=False)
    assert [backoff.next_s(at_most_s=2) for _ in range(4)] == [1, 2, 2, 2]
    assert backoff.next_s() == 8


def test_jitter_stays_within_the_ceiling() -> None:
    backoff = Backoff(first_s=1, cap_s=4)
    assert all(0 <= backoff.next_s() <= 4 for _ in range(100))


async def test_supervisor_cancels_and_awaits_its_tasks() -> None:
    ended = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with Supervisor("t") as supervisor:
        supervisor.run("forever", forever())
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_supervisor_reports_the_failure_of_a_task() -> None:
    async def fails() -> None:
        raise OSError("broken")

    async with Supervisor("t") as supervisor:
        supervisor.run("fails", fails())
        with pytest.raises(OSError, match="broken"):
            await supervisor.wait()


async def test_kept_task_is_restarted() -> None:
    starts = 0
    again = asyncio.Event()

    async def fails_once() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise OSError("once")
        again.set()
        await asyncio.Event().wait()

    async with Supervisor("t") as supervisor:
        supervisor.keep("k", fails_once, first_s=0.001)
        await again.wait()
    assert starts == 2


async def test_wait_for_condition_times_out() -> None:
    assert not await wait_for_condition(lambda: False, asyncio.Event(), timeout_s=0.01)
