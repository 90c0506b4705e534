"""The volumes of a pod as directories on the node: made, kept fresh, removed.

``<pod directory>/volumes/<volume name>``; a claim is a link to its place on the node. A volume that cannot be filled
holds the pod with a named reason; nothing is ever mounted empty in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from skerry.api.gvk import Object
from skerry.api.quantity import parse_quantity
from skerry.api.status import ApiError, NotFound
from skerry.base.values import Struct
from skerry.runtime.claims import OWN_PLACE, Objects, Place, claim_of, place_of
from skerry.runtime.downward import NodeFacts, field_value, resource_value
from skerry.runtime.mounting import mount_memory, pin, unmount_below
from skerry.runtime.ports import Mount
from skerry.runtime.trees import make_directory, remove_tree
from skerry.runtime.volume_files import Files, VolumeError, give_to_group, object_data, safe_path, write_files

__all__ = [
    "Objects",
    "Tokens",
    "VolumeError",
    "Volumes",
    "expand",
    "mounts_of",
    "object_data",
    "object_names",
    "remove",
]

_MODE = 0o644
_TOKEN_MODE = 0o600
_HOST_TYPES = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}
_WRITTEN = ("configMap", "secret", "projected", "downwardAPI")
"""Volumes whose files the agent writes; containers only read them."""


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


class Volumes(Struct, frozen=True):
    """Makes the volumes of pods.

    Args:
        objects: where ConfigMaps and Secrets come from.
        tokens: where service account tokens come from.
        own: where volumes of the class ``node-local`` are on this node.
    """

    objects: Objects
    tokens: Tokens
    own: Path = OWN_PLACE

    async def prepare(self, pod: Object, directory: Path, facts: NodeFacts) -> None:
        """Make or refresh every volume of ``pod`` under ``directory``.

        Raises:
            VolumeError: names the volume and what is missing.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        for volume in (pod.get("spec") or {}).get("volumes") or []:
            name = str(volume.get("name"))
            try:
                await self._one(pod, volume, directory / safe_path(name), facts)
            except ApiError as exc:
                raise VolumeError(f"volume {name!r}: {exc.message}") from exc
            except VolumeError as exc:
                raise VolumeError(f"volume {name!r}: {exc}", hint=exc.hint) from exc
            except OSError as exc:
                raise VolumeError(f"volume {name!r}: {exc}") from exc
            except (KeyError, TypeError, ValueError, AttributeError) as exc:
                raise VolumeError(f"volume {name!r} is malformed: {type(exc).__name__} {exc}") from exc

    async def _one(self, pod: Object, volume: Mapping[str, Any], path: Path, facts: NodeFacts) -> None:
        source, settings = _source(volume)
        group = _fs_group(pod)
        match source:
            case "emptyDir":
                _empty(path, settings, pod, group)
            case "hostPath":
                _check_host_path(Place(str(settings["path"]), str(settings.get("type") or "")))
            case "persistentVolumeClaim" | "ephemeral":
                place = await place_of(pod, volume, self.objects, own=self.own)
                _check_host_path(place)
                if place.is_managed and group is not None and not place.is_read_only:
                    policy = _security(pod).get("fsGroupChangePolicy")
                    is_quick = policy == "OnRootMismatch"
                    # In a thread: a claim may hold any number of files.
                    await asyncio.to_thread(give_to_group, Path(place.path), group, only_if_root_differs=is_quick)
                _link(path, Path(place.path))
            case "configMap" | "secret" | "downwardAPI":
                default = _mode(settings, "defaultMode", _MODE)
                write_files(path, await self._files(pod, source, settings, facts, default), group=group)
            case "projected":
                default = _mode(settings, "defaultMode", _MODE)
                files: Files = {}
                for part in settings.get("sources") or []:
                    kind, inner = _source(part | {"name": ""})
                    files |= await self._files(pod, kind, inner, facts, default)
                write_files(path, files, group=group)
            case _:
                raise VolumeError(f"{source} volumes are not supported on this node")

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
        if any("/" in key for key in data):
            raise VolumeError(f'{kind} "{name}" has a key that is a path')
        items = settings.get("items")
        if not items:
            return {key: (value, default) for key, value in data.items()}
        files: Files = {}
        for item in items:
            if item["key"] in data:
                files[safe_path(item["path"])] = (data[item["key"]], _mode(item, "mode", default))
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
        mode = default if _fs_group(pod) is None else _TOKEN_MODE
        return {safe_path(settings["path"]): (token.encode(), mode)}


def mounts_of(pod: Object, container: Mapping[str, Any], directory: Path, env: Mapping[str, str]) -> list[Mount]:
    """The mounts of one container; ``directory`` is what ``prepare`` was given.

    Raises:
        VolumeError: ``CreateContainerConfigError``: a mount names no volume, or a sub-path is not in its volume.
    """
    volumes = {volume["name"]: volume for volume in (pod.get("spec") or {}).get("volumes") or []}
    pins = directory.parent / "sub-paths" / str(container["name"])
    found = []
    for index, mount in enumerate(container.get("volumeMounts") or []):
        try:
            found.append(_mount(pod, volumes, mount, directory, pins / str(index), env))
        except (OSError, VolumeError) as exc:
            text = f"volumeMount {mount.get('name')!r}: {exc}"
            raise VolumeError(text, reason="CreateContainerConfigError") from exc
    return found


def remove(directory: Path) -> None:
    """Remove what ``prepare`` and ``mounts_of`` made, with its mounts; never what a claim or hostPath points to."""
    for path in (directory, directory.parent / "sub-paths"):
        if path.is_dir():
            unmount_below(path)
        remove_tree(path)


def _facts_files(pod: Object, settings: Mapping[str, Any], facts: NodeFacts, default: int) -> Files:
    files: Files = {}
    for item in settings.get("items") or []:
        if item.get("fieldRef"):
            text = field_value(pod, item["fieldRef"]["fieldPath"], facts)
        else:
            reference = item.get("resourceFieldRef") or {}
            text = resource_value(_container(pod, reference.get("containerName", "")), reference, facts)
        files[safe_path(item["path"])] = (text.encode(), _mode(item, "mode", default))
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


def _security(pod: Object) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (pod.get("spec") or {}).get("securityContext") or {}
    return found


def _fs_group(pod: Object) -> int | None:
    group = _security(pod).get("fsGroup")
    return None if group is None else int(group)


def _empty(path: Path, settings: Mapping[str, Any], pod: Object, group: int | None) -> None:
    path.mkdir(exist_ok=True)
    medium = str(settings.get("medium") or "")
    if medium not in ("", "Memory"):
        raise VolumeError(f"emptyDir of medium {medium!r} is not supported on this node")
    if medium == "Memory" and os.geteuid() == 0:
        limit = settings.get("sizeLimit")
        mount_memory(path, size_bytes=parse_quantity(str(limit)).value if limit else _memory_limit(pod))
    else:
        path.chmod(0o777)
    if group is not None and os.geteuid() == 0:
        os.chown(path, -1, group)
        path.chmod(0o2777)


def _memory_limit(pod: Object) -> int | None:
    """The pod's memory, where every container has a limit."""
    containers = (pod.get("spec") or {}).get("containers") or []
    limits = [((c.get("resources") or {}).get("limits") or {}).get("memory") for c in containers]
    return sum(parse_quantity(str(limit)).value for limit in limits) if limits and all(limits) else None


def _check_host_path(place: Place) -> None:
    path = Path(place.path)
    if not path.is_absolute() or ".." in path.parts:
        raise VolumeError(f"hostPath {place.path!r} must be absolute and without '..'")
    if place.kind in ("", "DirectoryOrCreate", "FileOrCreate"):
        try:
            _make_host_path(path, place)
        except OSError as exc:
            raise VolumeError(
                f"hostPath {path} cannot be made: {exc.strerror or exc}",
                hint="make it on the node yourself, or name a place where it can be made",
            ) from exc
    elif not path.exists():
        raise VolumeError(f"hostPath {path} does not exist on this node")
    if place.kind:
        if place.kind not in _HOST_TYPES:
            raise VolumeError(f"hostPath type {place.kind!r} is not known")
        is_right, what = _HOST_TYPES[place.kind]
        if not is_right(path.stat().st_mode):
            raise VolumeError(f"hostPath type check failed: {path} is not {what}")


def _make_host_path(path: Path, place: Place) -> None:
    if place.kind == "FileOrCreate":
        path.touch(exist_ok=True, mode=0o644)
    elif not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        make_directory(path, 0o777 if place.is_managed else 0o755)


def _link(path: Path, target: Path) -> None:
    """The place of a claim, as a link that is replaced in one step."""
    if path.is_symlink() and path.readlink() == target:
        return
    fresh = path.with_name(f"..{path.name}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)


def _mount(
    pod: Object,
    volumes: Mapping[str, Any],
    mount: Mapping[str, Any],
    directory: Path,
    pinned: Path,
    env: Mapping[str, str],
) -> Mount:
    volume = volumes.get(mount["name"])
    if volume is None:
        raise VolumeError(f"volumeMount {mount['name']!r} names no volume of the pod")
    source, settings = _source(volume)
    host_path = Path(str(settings["path"])) if source == "hostPath" else directory / str(mount["name"])
    is_read_only = bool(mount.get("readOnly")) or source in _WRITTEN
    if (claim := claim_of(pod, volume)) is not None:
        host_path = host_path.resolve()
        is_read_only = is_read_only or claim[1]
    sub_path = str(mount.get("subPath") or "")
    if mount.get("subPathExpr"):
        sub_path = _expanded(str(mount["subPathExpr"]), env)
    if sub_path:
        host_path = _below(host_path, safe_path(sub_path), pinned, is_written=source in _WRITTEN)
    return Mount(host_path, str(mount["mountPath"]), is_read_only, str(mount.get("mountPropagation") or "None"))


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """Raises ``VolumeError`` when a variable is missing: another directory than meant would be shared."""
    found = expand(text, env)
    if "$(" in found.replace("$$", ""):
        raise VolumeError(f"subPathExpr {text!r} names a variable that the container does not have")
    return found


def _below(base: Path, sub_path: str, pinned: Path, *, is_written: bool) -> Path:
    real = base.resolve()
    path = (real / sub_path).resolve()
    if not path.is_relative_to(real):
        raise VolumeError(f"subPath {sub_path!r} leaves its volume")
    if is_written:  # no container can change these
        if not path.exists():
            raise VolumeError(f"subPath {sub_path!r} is not in its volume")
        return path
    _make_below(real, path.relative_to(real).parts)
    return pin(real, sub_path, pinned)


def _make_below(base: Path, parts: Sequence[str]) -> None:
    """Missing directories, each made in its parent as it is now."""
    fd = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            with contextlib.suppress(FileExistsError):
                make_directory(part, 0o777, dir_fd=fd)
            following = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = following
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                return
    finally:
        os.close(fd)


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
