from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.status import Unavailable
from skerry.base import yaml
from skerry.base.aio.clock import SystemClock
from skerry.edge.pods.static import MIRROR, StaticPods, is_mirror, is_static, static_pod

TEXT = b"kind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec: {containers: [{name: c, image: i}]}\n"


def pod_of(text: bytes, *, node: str) -> Object:
    return static_pod(yaml.load(text), node=node)


class Store:
    """Mirrors that the cloud has sent, and what was asked of it."""

    def __init__(self) -> None:
        self.pods: dict[str, Object] = {}
        self.static: list[Object] = []
        self.asked: list[tuple[str, str]] = []
        self.is_there = True

    def list(self, kind: str) -> dict[str, Object]:
        return self.pods

    def keep_static(self, pods: Any) -> None:
        self.static = list(pods)

    async def ask(self, operation: str, resource: str, content: Any) -> Object:
        if not self.is_there:
            raise Unavailable("no link")
        self.asked.append((operation, resource))
        if operation == "insert":
            self.pods[resource] = content | {"metadata": content["metadata"] | {"uid": f"m{len(self.asked)}"}}
        else:
            del self.pods[resource]
        return {}


def static(directory: Path, store: Store) -> StaticPods:
    return StaticPods(
        directory,
        node="edge-1",
        keeper=store,
        objects=store,
        ask=store.ask,
        clock=SystemClock(),  # type: ignore[arg-type]
    )


def test_a_manifest_becomes_a_pod_of_this_node() -> None:
    pod = pod_of(TEXT, node="edge-1")
    assert (pod["metadata"]["name"], pod["metadata"]["namespace"]) == ("web-edge-1", "default")
    assert pod["spec"]["nodeName"] == "edge-1" and is_static(pod) and not is_mirror(pod)
    assert pod_of(TEXT, node="edge-1")["metadata"]["uid"] == pod["metadata"]["uid"]
    assert pod_of(TEXT, node="edge-2")["metadata"]["uid"] != pod["metadata"]["uid"]
    assert pod_of(TEXT.replace(b"image: i", b"image: j"), node="edge-1")["metadata"]["uid"] != pod["metadata"]["uid"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"kind: Service", "no Pod"),
        (b"kind: Pod\nmetadata: {}", "no name"),
        (b"kind: Pod\nmetadata: {name: a}\nspec: {}", "no containers"),
        (TEXT.replace(b"{containers", b"{serviceAccountName: x, containers"), "service account"),
    ],
)
def test_what_cannot_run_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        pod_of(text, node="edge-1")


async def test_mirrors_follow_the_files(tmp_path: Path) -> None:
    store = Store()
    pods = static(tmp_path, store)
    (tmp_path / "web.yaml").write_bytes(TEXT)
    (tmp_path / "broken.yaml").write_bytes(b"{")
    (tmp_path / "note.txt").write_bytes(b"not read")
    store.is_there = False
    await pods.mirror(pods.look())
    assert len(store.static) == 1 and store.asked == []
    store.is_there = True
    await pods.mirror(pods.look())
    key = "default/pod/web-edge-1"
    assert store.asked == [("insert", key)] and store.pods[key]["metadata"]["annotations"][MIRROR]
    await pods.mirror(pods.look())
    assert len(store.asked) == 1
    store.pods[key]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await pods.mirror(pods.look())
    await pods.mirror(pods.look())
    assert [operation for operation, _ in store.asked] == ["insert", "delete", "insert"]
    (tmp_path / "web.yaml").write_bytes(TEXT.replace(b"image: i", b"image: j"))
    await pods.mirror(pods.look())
    await pods.mirror(pods.look())
    assert [operation for operation, _ in store.asked][3:] == ["delete", "insert"]
    (tmp_path / "web.yaml").unlink()
    await pods.mirror(pods.look())
    assert store.static == [] and store.pods == {}
