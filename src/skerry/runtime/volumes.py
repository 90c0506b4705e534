"""The volumes of a pod as directories on the node: made, kept fresh, removed.

``<pod directory>/volumes/<volume name>``. ConfigMaps, Secrets, tokens and facts are written in one step: the names in
the volume are links into ``..data``, itself a link that is renamed over the old one. A volume that cannot be filled
holds the pod with a named reason; nothing is ever mounted empty in its place.
"""

from __future__ import annotations

import base64
import ctypes
import os
import stat
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from skerry.api.gvk import Object
from skerry.api.quantity import parse_quantity
from skerry.api.status import ApiError, NotFound
from skerry.runtime.downward import NodeFacts, field_value, resource_value
from skerry.runtime.ports import EngineError, Mount
from skerry.runtime.trees import remove_tree

_DATA = "..data"
_MODE = 0o644
_HOST_TYPES = {
    "Directory": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}
_MNT_DETACH = 2

Files = dict[str, tuple[bytes, int]]


class VolumeError(EngineError):
    """A volume cannot be had now; the pod waits and the Event says why."""

    reason = "FailedMount"


class Objects(Protocol):
    """ConfigMaps and Secrets."""

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        """``configmap`` or ``secret``. Raises ``ApiError`` (``NotFound`` when it does not exist)."""


class Tokens(Protocol):
    """Tokens of service accounts."""

    async def get(
        self,
        namespace: str,
        service_account: str,
        *,
        audience: str | None,
        expiration_s: int,
        pod_name: str,
        pod_uid: str,
    ) -> str:
        """The token to mount now. Raises ``ApiError``."""


@dataclass(frozen=True, slots=True)
class Volumes:
    """Makes the volumes of pods.

    Args:
        objects: where ConfigMaps and Secrets come from.
        tokens: where service account tokens come from.
    """

    objects: Objects
    tokens: Tokens

    async def prepare(self, pod: Object, directory: Path, facts: NodeFacts) -> None:
        """Make or refresh every volume of ``pod`` under ``directory``.

        Raises:
            VolumeError: names the volume and what is missing.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        for volume in (pod.get("spec") or {}).get("volumes") or []:
            try:
                await self._one(pod, volume, directory / str(volume["name"]), facts)
            except ApiError as exc:
                raise VolumeError(f"volume {volume['name']!r}: {exc.message}") from exc
            except OSError as exc:
                raise VolumeError(f"volume {volume['name']!r}: {exc}") from exc

    async def _one(self, pod: Object, volume: Mapping[str, Any], path: Path, facts: NodeFacts) -> None:
        source, settings = _source(volume)
        match source:
            case "emptyDir":
                _empty(path, settings)
            case "hostPath":
                _check_host_path(volume["name"], settings)
            case "configMap" | "secret" | "downwardAPI":
                write_files(
                    path, await self._files(pod, source, settings, facts, _mode(settings, "defaultMode", _MODE))
                )
            case "projected":
                default = _mode(settings, "defaultMode", _MODE)
                files: Files = {}
                for part in settings.get("sources") or []:
                    kind, inner = _source(part | {"name": ""})
                    files |= await self._files(pod, kind, inner, facts, default)
                write_files(path, files)
            case _:
                raise VolumeError(f"volume {volume['name']!r}: {source} volumes are not supported on this node")

    async def _files(
        self, pod: Object, source: str, settings: Mapping[str, Any], facts: NodeFacts, default: int
    ) -> Files:
        match source:
            case "configMap":
                return await self._object_files(pod, "configmap", settings.get("name", ""), settings, default)
            case "secret":
                name = settings.get("secretName") or settings.get("name", "")
                return await self._object_files(pod, "secret", name, settings, default)
            case "downwardAPI":
                return _facts_files(pod, settings, facts, default)
            case "serviceAccountToken":
                return await self._token_files(pod, settings, default)
        raise VolumeError(f"projected {source} is not supported on this node")

    async def _object_files(
        self, pod: Object, kind: str, name: str, settings: Mapping[str, Any], default: int
    ) -> Files:
        optional = bool(settings.get("optional"))
        try:
            found = await self.objects.get(kind, str(pod["metadata"]["namespace"]), name)
        except NotFound:
            if optional:
                return {}
            raise
        data = object_data(found)
        items = settings.get("items")
        if not items:
            return {key: (value, default) for key, value in data.items()}
        files: Files = {}
        for item in items:
            if item["key"] in data:
                files[_safe(item["path"])] = (data[item["key"]], _mode(item, "mode", default))
            elif not optional:
                raise VolumeError(f'{kind} "{name}" has no key "{item["key"]}"')
        return files

    async def _token_files(self, pod: Object, settings: Mapping[str, Any], default: int) -> Files:
        metadata = pod["metadata"]
        token = await self.tokens.get(
            str(metadata["namespace"]),
            (pod.get("spec") or {}).get("serviceAccountName") or "default",
            audience=settings.get("audience") or None,
            expiration_s=int(settings.get("expirationSeconds") or 3600),
            pod_name=str(metadata["name"]),
            pod_uid=str(metadata["uid"]),
        )
        return {_safe(settings["path"]): (token.encode(), default)}


def mounts_of(pod: Object, container: Mapping[str, Any], directory: Path, env: Mapping[str, str]) -> list[Mount]:
    """The mounts of one container; ``directory`` is what ``prepare`` was given.

    Raises:
        VolumeError: a mount names no volume, or a sub-path leaves its volume.
    """
    volumes = {volume["name"]: volume for volume in (pod.get("spec") or {}).get("volumes") or []}
    return [_mount(volumes, mount, directory, env) for mount in container.get("volumeMounts") or []]


def remove(directory: Path) -> None:
    """Remove what ``prepare`` made, with its mounts."""
    if directory.is_dir():
        for path in directory.iterdir():
            if path.is_mount():
                _libc_call("umount2", os.fsencode(path), _MNT_DETACH)
    remove_tree(directory)


def object_data(found: Object) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret as bytes."""
    if found.get("kind") == "Secret" or "type" in found:
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    data = {key: str(value).encode() for key, value in (found.get("data") or {}).items()}
    return data | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}


def write_files(path: Path, files: Files) -> bool:
    """Make ``path`` hold exactly ``files``, in one step for its readers. Returns whether anything changed."""
    path.mkdir(exist_ok=True)
    path.chmod(0o755)
    if (path / _DATA).is_symlink() and _read_files(path / _DATA) == files:
        return False
    fresh = f"..{uuid.uuid4().hex}"
    for name, (data, mode) in files.items():
        file = path / fresh / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(mode)
    (path / fresh).mkdir(exist_ok=True)
    (path / "..data_tmp").unlink(missing_ok=True)
    (path / "..data_tmp").symlink_to(fresh)
    (path / "..data_tmp").replace(path / _DATA)
    _link_names(path, {name.partition("/")[0] for name in files})
    for old in path.iterdir():
        if old.name.startswith("..") and old.name not in (fresh, _DATA):
            remove_tree(old)
    return True


def _link_names(path: Path, names: set[str]) -> None:
    for name in names:
        if not (path / name).is_symlink():
            (path / name).symlink_to(f"{_DATA}/{name}")
    for old in path.iterdir():
        if not old.name.startswith("..") and old.name not in names:
            old.unlink()


def _read_files(link: Path) -> Files:
    directory = link.resolve()
    return {
        str(file.relative_to(directory)): (file.read_bytes(), stat.S_IMODE(file.stat().st_mode))
        for file in directory.rglob("*")
        if file.is_file()
    }


def _facts_files(pod: Object, settings: Mapping[str, Any], facts: NodeFacts, default: int) -> Files:
    files: Files = {}
    for item in settings.get("items") or []:
        if item.get("fieldRef"):
            text = field_value(pod, item["fieldRef"]["fieldPath"], facts)
        else:
            reference = item.get("resourceFieldRef") or {}
            text = resource_value(_container(pod, reference.get("containerName", "")), reference, facts)
        files[_safe(item["path"])] = (text.encode(), _mode(item, "mode", default))
    return files


def _container(pod: Object, name: str) -> Mapping[str, Any]:
    spec = pod.get("spec") or {}
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        if container["name"] == name:
            found: Mapping[str, Any] = container
            return found
    raise VolumeError(f'resourceFieldRef names container "{name}", which the pod does not have')


def _source(volume: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind of a volume and its settings; a volume without one is an emptyDir."""
    for key, value in volume.items():
        if key != "name" and value is not None:
            return key, value
    return "emptyDir", {}


def _mode(settings: Mapping[str, Any], name: str, default: int) -> int:
    value = settings.get(name)
    return default if value is None else int(value)


def _safe(path: str) -> str:
    parts = path.split("/")
    if path.startswith(("/", "..")) or ".." in parts or not path:
        raise VolumeError(f"path {path!r} leaves its volume")
    return path


def _empty(path: Path, settings: Mapping[str, Any]) -> None:
    path.mkdir(exist_ok=True)
    if settings.get("medium") == "Memory" and os.geteuid() == 0:
        if not path.is_mount():
            limit = settings.get("sizeLimit")
            size = f",size={parse_quantity(str(limit)).value}" if limit else ""
            _libc_call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", ctypes.c_ulong(0), f"mode=0777{size}".encode())
        return
    path.chmod(0o777)


def _check_host_path(name: str, settings: Mapping[str, Any]) -> None:
    path, kind = Path(str(settings["path"])), settings.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    elif kind == "FileOrCreate":
        path.touch(exist_ok=True, mode=0o644)
    elif not path.exists():
        raise VolumeError(f"volume {name!r}: hostPath {path} does not exist on this node")
    elif kind in _HOST_TYPES and not _HOST_TYPES[kind](path.stat().st_mode):
        raise VolumeError(f"volume {name!r}: hostPath {path} is not a {kind}")


def _mount(volumes: Mapping[str, Any], mount: Mapping[str, Any], directory: Path, env: Mapping[str, str]) -> Mount:
    volume = volumes.get(mount["name"])
    if volume is None:
        raise VolumeError(f"volumeMount {mount['name']!r} names no volume of the pod")
    source, settings = _source(volume)
    host_path = Path(str(settings["path"])) if source == "hostPath" else directory / str(mount["name"])
    sub_path = str(mount.get("subPath") or "")
    if mount.get("subPathExpr"):
        sub_path = expand(str(mount["subPathExpr"]), env)
    if sub_path:
        host_path = _below(host_path, _safe(sub_path), may_make=source in ("emptyDir", "hostPath"))
    is_read_only = bool(mount.get("readOnly")) or source in ("configMap", "secret", "projected", "downwardAPI")
    return Mount(host_path, str(mount["mountPath"]), is_read_only, str(mount.get("mountPropagation") or "None"))


def _below(base: Path, sub_path: str, *, may_make: bool) -> Path:
    path = (base / sub_path).resolve()
    if not path.is_relative_to(base.resolve()):
        raise VolumeError(f"subPath {sub_path!r} leaves its volume")
    if not path.exists():
        if not may_make:
            raise VolumeError(f"subPath {sub_path!r} is not in its volume")
        path.mkdir(parents=True)
        path.chmod(0o777)
    return path


def expand(text: str, env: Mapping[str, str]) -> str:
    """``$(NAME)`` from ``env``; unknown names stay as written, ``$$`` is one ``$``."""
    out, at = [], 0
    while at < len(text):
        if text.startswith("$$", at):
            out.append("$")
            at += 2
        elif text.startswith("$(", at) and (end := text.find(")", at)) > 0:
            name = text[at + 2 : end]
            out.append(env.get(name, text[at : end + 1]))
            at = end + 1
        else:
            out.append(text[at])
            at += 1
    return "".join(out)


def _libc_call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def object_names(pod: Object) -> set[tuple[str, str]]:
    """``(kind, name)`` of every ConfigMap and Secret that the volumes of a pod name."""
    found: set[tuple[str, str]] = set()
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        source, settings = _source(volume)
        parts: Sequence[Mapping[str, Any]] = settings.get("sources") or [] if source == "projected" else [volume]
        for part in parts:
            if part.get("configMap"):
                found.add(("configmap", str(part["configMap"].get("name", ""))))
            if part.get("secret"):
                found.add(("secret", str(part["secret"].get("secretName") or part["secret"].get("name", ""))))
    return found
