"""Service account tokens: renewed in time, kept through outages and through a clock that is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.status import Unavailable
from skerry.base.aio.clock import SystemClock
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.sync.remote import TokenSource

POD = {"pod_name": "web", "pod_uid": "u1"}


class Cloud:
    """Gives a new token at each question while it is there."""

    def __init__(self) -> None:
        self.is_there = True
        self.asked = 0

    async def ask(self, operation: str, resource: str, content: Any = None, *, source: str = "") -> Object:
        if not self.is_there:
            raise Unavailable("no link")
        self.asked += 1
        return {"status": {"token": f"token-{self.asked}"}}


class Wall(SystemClock):
    def __init__(self) -> None:
        self.time_s = 1_750_000_000.0

    def now_s(self) -> float:
        return self.time_s


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def clock() -> Wall:
    return Wall()


@pytest.fixture
def tokens(tmp_path: Path, cloud: Cloud, clock: Wall) -> Iterator[TokenSource]:
    database = open_database(tmp_path)
    objects = EdgeObjects(database, codec=SealingCodec(bytes(32)), clock=clock)
    yield TokenSource(objects, cloud, clock=clock)  # type: ignore[arg-type]
    database.close()


async def token(tokens: TokenSource, **other: Any) -> str:
    return await tokens.get("default", "sa", **({"audience": None, "expiration_s": 3600} | POD | other))


async def test_renewed_at_80_percent_of_its_life(tokens: TokenSource, clock: Wall) -> None:
    assert await token(tokens) == "token-1"
    clock.time_s += 2800
    assert await token(tokens) == "token-1"
    clock.time_s += 100
    assert await token(tokens) == "token-2"


async def test_pods_that_share_an_account_have_tokens_of_their_own(tokens: TokenSource, cloud: Cloud) -> None:
    assert await token(tokens) == "token-1"
    assert await token(tokens, pod_uid="u2") == "token-2"
    assert await token(tokens, audience="vault") == "token-3"
    assert await token(tokens) == "token-1"
    await tokens.forget("u1")
    cloud.is_there = False
    assert await token(tokens, pod_uid="u2") == "token-2"
    with pytest.raises(Unavailable):
        await token(tokens)


async def test_kept_26_hours_offline_and_renewed_at_once_afterwards(
    tokens: TokenSource, cloud: Cloud, clock: Wall
) -> None:
    await token(tokens)
    cloud.is_there = False
    clock.time_s += 26 * 3600
    assert await token(tokens) == "token-1"
    cloud.is_there = True
    assert await token(tokens) == "token-2"


async def test_a_clock_of_1970_neither_loses_a_token_nor_trusts_its_age(
    tokens: TokenSource, cloud: Cloud, clock: Wall
) -> None:
    await token(tokens)
    clock.time_s = 60.0
    cloud.is_there = False
    assert await token(tokens) == "token-1"
    cloud.is_there = True
    assert await token(tokens) == "token-2"
    assert await token(tokens) == "token-2"
