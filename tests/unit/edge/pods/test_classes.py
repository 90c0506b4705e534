"""Which handler of the engine a RuntimeClass means."""

from __future__ import annotations

import pytest

from skerry.api.gvk import Object
from skerry.api.status import ApiError, Forbidden, NotFound, ServerTimeout, Unavailable
from skerry.edge.pods.classes import RuntimeClasses
from skerry.runtime.ports import EngineRefused

STRICT: Object = {"metadata": {"name": "strict"}, "handler": "runc-strict"}


class Cloud:
    """What the node kept, and what the cloud says."""

    def __init__(self, *, kept: Object | None = None, says: Object | ApiError | None = None) -> None:
        self._kept, self._says = kept, says
        self.asked: list[str] = []

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        if self._kept is None:
            raise Unavailable("offline")
        return self._kept

    async def fresh(self, kind: str, namespace: str, name: str) -> Object:
        self.asked.append(f"{namespace}/{kind}/{name}")
        if isinstance(self._says, ApiError):
            raise self._says
        assert self._says is not None
        return self._says


async def test_no_class_is_the_default_and_nobody_is_asked() -> None:
    cloud = Cloud()
    assert await RuntimeClasses(cloud).handler("") == "" and not cloud.asked


async def test_the_newest_object_says_the_handler() -> None:
    cloud = Cloud(kept={"handler": "old"}, says=STRICT)
    assert await RuntimeClasses(cloud).handler("strict") == "runc-strict"
    assert cloud.asked == ["/runtimeclass/strict"]


async def test_the_node_itself_comes_first() -> None:
    cloud = Cloud(says=STRICT)
    assert await RuntimeClasses(cloud, own={"strict": "mine"}).handler("strict") == "mine" and not cloud.asked


@pytest.mark.parametrize("why", [Unavailable("offline"), ServerTimeout("slow"), Forbidden("no")])
async def test_what_was_kept_counts_while_the_cloud_cannot_be_asked(why: ApiError) -> None:
    assert await RuntimeClasses(Cloud(kept=STRICT, says=why)).handler("strict") == "runc-strict"


async def test_an_unknown_class_holds_the_pod_and_is_named() -> None:
    with pytest.raises(EngineRefused) as refused:
        await RuntimeClasses(Cloud(kept=STRICT, says=NotFound("gone"))).handler("strict")
    assert str(refused.value) == 'RuntimeClass "strict" not found'
    assert refused.value.reason == "FailedCreatePodSandBox"
    with pytest.raises(EngineRefused, match="the cloud cannot be asked: offline"):
        await RuntimeClasses(Cloud(says=Unavailable("offline"))).handler("strict")


async def test_a_cloud_that_does_not_know_the_question_is_not_asked() -> None:
    cloud = Cloud()
    assert await RuntimeClasses(cloud, is_answered=lambda: False).handler("kata") == "kata" and not cloud.asked
