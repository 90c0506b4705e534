import pytest

from skerry.edge.images.ledger import Fetched
from skerry.edge.images.plan import bytes_to_free, collectable
from skerry.runtime.ports import StoredImage

NOW_S = 1_750_000_000.0


def image(name: str, *, pinned: bool = False) -> StoredImage:
    return StoredImage(f"sha256:{name}", (f"r/{name}:1",), (f"r/{name}@sha256:00",), 100, pinned)


def fetched(name: str, *, used_ago_s: float = 3600, pulled_ago_s: float = 7200) -> tuple[str, Fetched]:
    return f"sha256:{name}", Fetched(f"{name}:1", NOW_S - pulled_ago_s, NOW_S - used_ago_s)


def names(*images: StoredImage, ledger: dict[str, Fetched], **more: object) -> list[str]:
    settings: dict[str, object] = {"in_use": (), "known": (), "loaded": (), "is_offline": False, "now_s": NOW_S} | more
    found = collectable(images, ledger, **settings)  # type: ignore[arg-type]
    return [each.id.removeprefix("sha256:") for each in found]


def test_the_longest_unused_goes_first_and_only_our_own() -> None:
    ledger = dict([fetched("a", used_ago_s=10), fetched("b", used_ago_s=30), fetched("c", used_ago_s=20)])
    assert names(image("a"), image("b"), image("c"), image("theirs"), ledger=ledger) == ["b", "c", "a"]


@pytest.mark.parametrize("kept", ["sha256:a", "a:1", "r/a:1", "r/a@sha256:00"])
@pytest.mark.parametrize("why", ["in_use", "known"])
def test_an_image_in_use_or_of_a_known_pod_stays_by_any_of_its_names(kept: str, why: str) -> None:
    assert names(image("a"), image("b"), ledger=dict([fetched("a"), fetched("b")]), **{why: {kept}}) == ["b"]


def test_an_archive_stays_while_offline() -> None:
    ledger = dict([fetched("a")])
    assert names(image("a"), ledger=ledger, loaded={"r/a:1"}, is_offline=True) == []
    assert names(image("a"), ledger=ledger, loaded={"r/a:1"}) == ["a"]


def test_pinned_and_just_pulled_images_stay_and_a_clock_set_back_keeps_none_for_ever() -> None:
    assert names(image("a", pinned=True), ledger=dict([fetched("a")])) == []
    assert names(image("a"), ledger=dict([fetched("a", pulled_ago_s=60)])) == []
    assert names(image("a"), ledger=dict([fetched("a", pulled_ago_s=-86_400)])) == ["a"]


@pytest.mark.parametrize(("free", "wanted"), [(50, 0), (16, 0), (15, 5), (1, 19)])
def test_thresholds(free: int, wanted: int) -> None:
    assert bytes_to_free(100, free, high_percent=85, low_percent=80) == wanted
