"""Volumes as directories."""

import asyncio
import base64
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.api.gvk import Object
from skerry.api.status import NotFound
from skerry.controllers.volumes import node_local
from skerry.runtime.claims import OWN_PLACE, place_of
from skerry.runtime.downward import NodeFacts
from skerry.runtime.volume_files import VolumeError, write_files
from skerry.runtime.volumes import Volumes, expand, mounts_of, object_names, remove

OBJECTS: dict[tuple[str, str], Object] = {
    ("configmap", "c"): {"kind": "ConfigMap", "data": {"a": "1", "b": "2"}},
    ("configmap", "evil"): {"kind": "ConfigMap", "data": {"../../escaped": "1"}},
    ("secret", "torn"): {"kind": "Secret", "data": {"p": "!"}},
    ("secret", "s"): {"kind": "Secret", "data": {"p": base64.b64encode(b"hush").decode()}},
}


class Sources:
    async def get(self, kind: str, namespace: str, name: str) -> Object:
        if (kind, name) not in OBJECTS:
            raise NotFound(f'{kind} "{name}" not found')
        return OBJECTS[kind, name]

    fresh = get


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
        {"hostPath": {"path": "/nonexistent-place", "type": "Directory"}},
        {"hostPath": {"path": "/tmp/../nonexistent-place"}},
        {"hostPath": {"path": "relative"}},
        {"hostPath": {"path": "/", "type": "Nothing"}},
        {"hostPath": {}},
        {"secret": {"secretName": "torn"}},
        {"configMap": {"name": "evil"}},
        {"configMap": {"name": "c", "items": [{}]}},
        {"emptyDir": {"medium": "HugePages"}},
        {"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}},
        {"csi": {"driver": "d"}},
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


def test_names_that_an_interrupted_agent_did_not_link_are_linked_by_the_next(tmp_path: Path) -> None:
    files = {"token": (b"1", 0o644), "below/file": (b"2", 0o600)}
    write_files(tmp_path / "whole", files)
    steps = 0
    while _interrupted_after(steps, tmp_path / str(steps), files):
        at = tmp_path / str(steps)
        write_files(at, files)
        assert {name: (at / name).read_bytes() for name in files} == {"token": b"1", "below/file": b"2"}, steps
        assert len([entry for entry in at.iterdir() if entry.name.startswith("..")]) == 2, steps
        steps += 1
    assert steps > 6


def _interrupted_after(steps: int, at: Path, files: dict[str, tuple[bytes, int]]) -> bool:
    """Write in a process of its own that dies after so many changes of names; False when it came to its end."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from skerry.runtime.volume_files import write_files\n"
        "left = int(sys.argv[1])\n"
        "def count(event, _):\n"
        "    global left\n"
        "    if event in ('os.mkdir', 'os.symlink', 'os.rename', 'os.chmod'):\n"
        "        left -= 1\n"
        "        if left < 0: os._exit(9)\n"
        "sys.addaudithook(count)\n"
        f"write_files(Path(sys.argv[2]), {files!r})\n"
    )
    return subprocess.run([sys.executable, "-c", script, str(steps), str(at)], check=False).returncode == 9


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
    home = tmp_path / "p/volumes"
    home.parent.mkdir()
    found = pod({"name": "v", "emptyDir": {}}, subPathExpr="$(POD)/x", readOnly=True)
    prepare(found, home)
    [mount] = mounts_of(found, found["spec"]["containers"][0], home, {"POD": "web"})
    (home / "v/web/x/seen").touch()
    assert [path.name for path in mount.host_path.iterdir()] == ["seen"]
    assert (mount.container_path, mount.read_only) == ("/v", True)
    with pytest.raises(VolumeError, match="variable"):
        mounts_of(found, found["spec"]["containers"][0], home, {})
    remove(home)
    assert list(home.parent.iterdir()) == []


def test_a_sub_path_stays_what_it_was_though_a_container_swaps_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a normal user has no mounts to pin")
    home = tmp_path / "p/volumes"
    home.parent.mkdir()
    found = pod({"name": "v", "emptyDir": {}}, subPath="data")
    prepare(found, home)
    [mount] = mounts_of(found, found["spec"]["containers"][0], home, {})
    (home / "v/data").rename(home / "v/old")
    (home / "v/data").symlink_to("/etc")
    assert list(mount.host_path.iterdir()) == []
    remove(home)


def test_files_belong_to_the_pods_group(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    token = {"serviceAccountToken": {"path": "token"}}
    found = pod(
        {"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "t", "projected": {"sources": [token]}},
    )  # fmt: skip
    found["spec"]["securityContext"] = {"fsGroup": 4321}
    prepare(found, tmp_path)
    prepare(found, tmp_path)
    for name, mode in (("v", 0o2777), ("s/p", 0o440), ("t/token", 0o640)):
        seen = (tmp_path / name).stat()
        assert (seen.st_gid, stat.S_IMODE(seen.st_mode)) == (4321, mode), name


CLAIM = {"metadata": {"name": "data"}, "spec": {"volumeName": "pv-1"}}


@pytest.mark.parametrize("kind", ["local", "hostPath", "ours"])
def test_a_claim_is_its_place_on_the_node(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "disk"
    source: dict[str, Any] = {"hostPath": {"path": str(place)}}
    annotations = {"pv.kubernetes.io/provisioned-by": "skerry.dev/node-local"} if kind == "ours" else {}
    if kind == "local":
        place.mkdir()
        source = {"local": {"path": str(place)}}
    volume = {"metadata": {"name": "pv-1", "annotations": annotations}, "spec": source | {"capacity": {}}}
    OBJECTS["persistentvolumeclaim", "data"], OBJECTS["persistentvolume", "pv-1"] = CLAIM, volume
    found = pod({"name": "v", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}})
    home = tmp_path / "volumes"
    prepare(found, home)
    (place / "kept").write_text("1")
    [mount] = mounts_of(found, found["spec"]["containers"][0], home, {})
    assert (mount.host_path, mount.read_only) == (place, True)
    remove(home)
    assert (place / "kept").read_text() == "1" and not home.exists()


@pytest.mark.parametrize("is_ours", [True, False])
def test_an_agent_of_a_user_keeps_node_local_volumes_where_it_may(tmp_path: Path, *, is_ours: bool) -> None:
    assert str(OWN_PLACE) == node_local.DIRECTORY
    annotations = {"pv.kubernetes.io/provisioned-by": "skerry.dev/node-local"} if is_ours else {}
    source = {"hostPath": {"path": f"{OWN_PLACE}/pvc-1", "type": "DirectoryOrCreate"}, "capacity": {}}
    OBJECTS["persistentvolumeclaim", "data"] = CLAIM
    OBJECTS["persistentvolume", "pv-1"] = {"metadata": {"name": "pv-1", "annotations": annotations}, "spec": source}
    found = pod({"name": "v", "persistentVolumeClaim": {"claimName": "data"}})
    place = asyncio.run(place_of(found, found["spec"]["volumes"][0], Sources(), own=tmp_path))
    assert place.path == str(tmp_path / "pvc-1" if is_ours else OWN_PLACE / "pvc-1")


@pytest.mark.parametrize(
    ("claim", "volume", "text"),
    [
        ({"spec": {}}, {}, "not bound"),
        ({"spec": {"volumeName": "pv-1", "volumeMode": "Block"}}, {}, "block device"),
        (CLAIM, {"spec": {"nfs": {"server": "x"}, "capacity": {}}}, "nfs"),
        (CLAIM, {"spec": {"local": {"path": "/nonexistent-place"}}}, "does not exist"),
    ],
)
def test_claims_that_cannot_be_mounted_are_named(
    tmp_path: Path, claim: dict[str, Any], volume: dict[str, Any], text: str
) -> None:
    OBJECTS["persistentvolumeclaim", "data"], OBJECTS["persistentvolume", "pv-1"] = claim, volume
    with pytest.raises(VolumeError, match=text):
        prepare(pod({"name": "v", "persistentVolumeClaim": {"claimName": "data"}}), tmp_path)


def test_an_ephemeral_claim_must_be_the_pods_own(tmp_path: Path) -> None:
    OBJECTS["persistentvolumeclaim", "web-v"] = CLAIM
    with pytest.raises(VolumeError, match="not created for this pod"):
        prepare(pod({"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}), tmp_path)


def test_sub_paths_cannot_leave_their_volume(tmp_path: Path) -> None:
    found = pod({"name": "v", "emptyDir": {}}, subPath="link/etc")
    prepare(found, tmp_path)
    (tmp_path / "v/link").symlink_to("/")
    with pytest.raises(VolumeError, match="leaves its volume"):
        mounts_of(found, found["spec"]["containers"][0], tmp_path, {})


@pytest.mark.parametrize("name", ["..", ".", "../x", "..data", "/etc/x", "a/../../x", "a/b", "a\0b", "", "x/.."])
@pytest.mark.parametrize("where", ["configMap", "secret", "projected", "binaryData"])
def test_keys_cannot_leave_their_volume(tmp_path: Path, where: str, name: str) -> None:
    kind = "secret" if where == "secret" else "configmap"
    data = {name: base64.b64encode(b"x").decode(), "good": base64.b64encode(b"y").decode()}
    OBJECTS[kind, "keys"] = {"kind": "Secret" if kind == "secret" else "ConfigMap", "data": data}
    if where == "binaryData":
        OBJECTS[kind, "keys"] = {"kind": "ConfigMap", "binaryData": data}
    source = {"secret": {"secretName": "keys"}, "projected": {"sources": [{"configMap": {"name": "keys"}}]}}
    volume = {where: source[where]} if where in source else {"configMap": {"name": "keys"}}
    below = tmp_path / "pods/volumes"
    below.mkdir(parents=True)
    with pytest.raises(VolumeError):
        prepare(pod({"name": "v"} | volume), below)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} - {"pods", "pods/volumes"}
    assert all(path.startswith("pods/volumes/v") for path in left)


@pytest.mark.parametrize("path", ["..", "../x", "..data", "/etc/x", "a/../../x", "a\0b", "", "a//b"])
@pytest.mark.parametrize("where", ["configMap", "token", "downwardAPI"])
def test_paths_of_items_cannot_leave_their_volume(tmp_path: Path, where: str, path: str) -> None:
    sources: dict[str, Any] = {
        "configMap": {"configMap": {"name": "c", "items": [{"key": "a", "path": path}]}},
        "token": {"serviceAccountToken": {"path": path}},
        "downwardAPI": {"downwardAPI": {"items": [{"path": path, "fieldRef": {"fieldPath": "metadata.name"}}]}},
    }
    with pytest.raises(VolumeError, match="leaves its volume"):
        prepare(pod({"name": "v", "projected": {"sources": [sources[where]]}}), tmp_path)


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
