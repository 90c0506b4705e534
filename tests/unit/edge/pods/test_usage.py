"""What a pod takes on the disk, against its limits."""

from pathlib import Path
from typing import Any

import pytest

from skerry.edge.pods.usage import limits_of, over_limit

KIB = 1024


def pod(limit: str = "", *, other: str = "", init: str = "", size: str = "") -> dict[str, Any]:
    def container(name: str, text: str) -> dict[str, Any]:
        return {"name": name, "resources": {"limits": {"ephemeral-storage": text} if text else {}}}

    spec: dict[str, Any] = {"containers": [container("app", limit), container("other", other)]}
    spec["initContainers"] = [container("init", init)]
    spec["volumes"] = [{"name": "v", "emptyDir": {"sizeLimit": size} if size else {}}]
    spec["volumes"] += [{"name": "m", "emptyDir": {"medium": "Memory"}}, {"name": "c", "configMap": {"name": "c"}}]
    return {"spec": spec}


def judged(wanted: dict[str, Any], directory: Path, *, volume: int = 0, log: int = 0, **layers: int) -> str:
    for place, size in (("volumes/v", volume), ("logs/app", log)):
        (directory / place).mkdir(parents=True, exist_ok=True)
        (directory / place / "file").write_bytes(b"x" * size)
    return over_limit(limits_of(wanted), directory / "volumes", directory / "logs", layers)


def test_a_pod_without_limits_is_not_looked_at() -> None:
    assert not limits_of(pod()) and limits_of(pod(size="1Mi")) and limits_of(pod("1Mi"))


@pytest.mark.parametrize(
    ("wanted", "used", "text"),
    [
        (pod(size="64Ki"), {"volume": 32 * KIB, "app": 1 << 30}, ""),
        (pod(size="64Ki"), {"volume": 128 * KIB}, 'EmptyDir volume "v" exceeds the limit "64Ki"'),
        (pod("64Ki"), {"app": 32 * KIB, "log": 16 * KIB}, ""),
        (pod("64Ki"), {"app": 48 * KIB, "log": 32 * KIB}, "Container app exceeded its local ephemeral storage limit"),
        (pod("64Ki"), {"app": 16 * KIB, "other": 64 * KIB}, "exceeds the total limit of containers 65536"),
        (pod("64Ki", other="64Ki"), {"app": 16 * KIB, "other": 60 * KIB}, ""),
        (pod("64Ki"), {"app": 16 * KIB, "volume": 64 * KIB}, "exceeds the total limit of containers 65536"),
        (pod("64Ki", init="1Mi"), {"app": 16 * KIB, "volume": 64 * KIB}, ""),
    ],
)
def test_limits(tmp_path: Path, wanted: dict[str, Any], used: dict[str, int], text: str) -> None:
    found = judged(wanted, tmp_path, **used)
    assert text in found and bool(found) is bool(text)
