"""Volumes as directories."""

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.status import NotFound
from skerry.runtime.downward import NodeFacts
from skerry.runtime.volumes import VolumeError, Volumes, expand, mounts_of, object_names, remove, write_files

OBJECTS = {
    ("configmap", "c"): {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}},
    ("secret", "s"): {"kind": "Secret", "data": {"p": base64.b64encode(b"hush").decode()}},
}


class Sources:
    async def get(self, kind: str, namespace: str, name: str) -> Object:
        if (kind, name) not in OBJECTS:
            raise NotFound(f'{kind} "{name}" not found')
        return OBJECTS[kind, name]


class Tokens:
    async def get(self, namespace: str, service_account: str, **options: Any) -> str:
        return f"{namespace}/{service_account}/{options['audience']}/{options['expiration_s']}"


def pod(*volumes: dict[str, Any], **mount: Any) -> Object:
    container = {"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/v"} | mount]}
    metadata = {"name": "web", "namespace": "default", "uid": "u1", "labels": {"app": "web"}}
    return {"metadata": metadata, "spec": {"containers": [container], "volumes": list(volumes)}}


def prepare(found: Object, path: Path) -> None:
    asyncio.run(Volumes(Sources(), Tokens()).prepare(found, path, NodeFacts("192.0.2.1")))


def test_config_secret_token_and_facts_in_one_volume(tmp_path: Path) -> None:
    sources = [
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "deep/a", "mode": 0o400}]}},
        {"secret": {"name": "s"}},
        {"serviceAccountToken": {"path": "token", "audience": "x", "expirationSeconds": 3607}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    prepare(pod({"name": "v", "projected": {"sources": sources, "defaultMode": 0o640}}), tmp_path)
    at = tmp_path / "v"
    found = {name: (at / name).read_text() for name in ("deep/a", "p", "token", "labels")}
    assert found == {"deep/a": "1", "p": "hush", "token": "default/default/x/3607", "labels": 'app="web"'}
    assert (at / "deep/a").stat().st_mode & 0o777 == 0o400
    assert (at / "p").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "source",
    [
        {"configMap": {"name": "missing"}},
        {"secret": {"secretName": "missing"}},
        {"configMap": {"name": "c", "items": [{"key": "zz", "path": "zz"}]}},
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "../a"}]}},
        {"persistentVolumeClaim": {"claimName": "x"}},
        {"hostPath": {"path": "/nonexistent-place"}},
        {"hostPath": {"path": "/", "type": "File"}},
    ],
)
def test_what_cannot_be_had_is_named(tmp_path: Path, source: dict[str, Any]) -> None:
    with pytest.raises(VolumeError) as caught:
        prepare(pod({"name": "v"} | source), tmp_path)
    assert caught.value.reason == "FailedMount" and str(caught.value)


def test_optional_objects_may_be_missing(tmp_path: Path) -> None:
    prepare(pod({"name": "v", "configMap": {"name": "missing", "optional": True}}), tmp_path)
    assert [entry.name for entry in (tmp_path / "v").iterdir() if not entry.name.startswith("..")] == []


def test_files_change_in_one_step_and_only_when_they_differ(tmp_path: Path) -> None:
    at = tmp_path / "v"
    assert write_files(at, {"a": (b"1", 0o644), "b": (b"2", 0o644)})
    before = os.readlink(at / "..data")
    assert not write_files(at, {"a": (b"1", 0o644), "b": (b"2", 0o644)})
    assert os.readlink(at / "..data") == before
    assert write_files(at, {"a": (b"9", 0o644), "c": (b"3", 0o644)})
    assert {entry.name for entry in at.iterdir() if not entry.name.startswith("..")} == {"a", "c"}
    assert (at / "a").read_bytes() == b"9" and not (at / before).exists()


def test_empty_directories_keep_what_is_in_them_and_are_removed(tmp_path: Path) -> None:
    found = pod({"name": "v", "emptyDir": {}})
    prepare(found, tmp_path / "p")
    (tmp_path / "p/v/file").touch()
    prepare(found, tmp_path / "p")
    assert (tmp_path / "p/v/file").exists() and (tmp_path / "p/v").stat().st_mode & 0o777 == 0o777
    remove(tmp_path / "p")
    assert not (tmp_path / "p").exists()
    remove(tmp_path / "p")


def test_mounts(tmp_path: Path) -> None:
    found = pod({"name": "v", "emptyDir": {}}, subPathExpr="$(POD)/x", readOnly=True)
    prepare(found, tmp_path)
    [mount] = mounts_of(found, found["spec"]["containers"][0], tmp_path, {"POD": "web"})
    assert (mount.host_path, mount.container_path, mount.read_only) == (tmp_path / "v/web/x", "/v", True)


def test_sub_paths_cannot_leave_their_volume(tmp_path: Path) -> None:
    found = pod({"name": "v", "emptyDir": {}}, subPath="link/etc")
    prepare(found, tmp_path)
    (tmp_path / "v/link").symlink_to("/")
    with pytest.raises(VolumeError, match="leaves its volume"):
        mounts_of(found, found["spec"]["containers"][0], tmp_path, {})


def test_names_of_objects() -> None:
    found = pod(
        {"name": "v", "configMap": {"name": "c"}}, {"name": "p", "projected": {"sources": [{"secret": {"name": "s"}}]}}
    )
    assert object_names(found) == {("configmap", "c"), ("secret", "s")}


@pytest.mark.parametrize(
    ("text", "expected"), [("$(A)", "1"), ("$$(A)", "$(A)"), ("$(Z)", "$(Z)"), ("$(A", "$(A"), ("$A $", "$A $")]
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected
