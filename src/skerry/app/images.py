"""``skerry image load``: images from an archive into the node's engine, for sites without a registry."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.app import output
from skerry.app.edge_settings import load_config, read_node
from skerry.base import json
from skerry.base.errors import ConfigError, SkerryError
from skerry.edge.images.ledger import add_loaded
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.images import CriImages
from skerry.runtime.cri.probe import DEFAULT_SOCKET

_TIMEOUT_S = 3600.0
_INDEX_BYTES = 4 * 1024 * 1024


def load(*, file: Path, data: Path | None, config_file: Path | None, as_json: bool) -> int:
    """Bring an archive of ``docker save`` or ``ctr images export`` into the engine, and keep it from being collected.

    CRI has no call for it, so the engine's own program does it: ``ctr`` for containerd, ``docker`` behind cri-dockerd,
    ``skopeo`` for CRI-O.

    Raises:
        ConfigError: no archive with named images, or the node needs none, or the engine's program is missing.
        SkerryError: the engine did not take it.
    """
    config = load_config(config_file, {"data": data})
    joined = read_node(config.data)
    if str(joined.get("runtime")) == "process":
        raise ConfigError("this node runs pods as processes and needs no images")
    names = names_in(file)
    socket = Path((config.cri_socket or str(joined.get("criSocket") or DEFAULT_SOCKET)).removeprefix("unix://"))
    output.progress(f"loading {', '.join(names)} from {file}")
    absent = asyncio.run(_load(socket, file, names))
    if absent:
        raise SkerryError(f"the engine took {file} but does not show {', '.join(absent)}")
    add_loaded(config.data, names)
    output.emit({"loaded": names, "file": str(file)}, as_json=as_json, text=f"loaded {', '.join(names)}")
    return 0


async def _load(socket: Path, file: Path, names: list[str]) -> list[str]:
    client = CriClient(socket)
    try:
        engine = str((await client.call("Version", {})).get("runtime_name", ""))
        for command in commands(engine, socket, file, names):
            await asyncio.to_thread(_run, command, engine, file)
        images = CriImages(client)
        return [name for name in names if not await images.is_present(name)]
    finally:
        await client.aclose()


def commands(engine: str, socket: Path, file: Path, names: Sequence[str]) -> list[list[str]]:
    """What brings the images ``names`` of an archive into an engine, by its own programs. Pure.

    Raises:
        ConfigError: an engine of another kind.
    """
    if engine == "containerd":
        return [["ctr", "--address", str(socket), "--namespace", "k8s.io", "images", "import", str(file)]]
    if engine == "docker":
        return [["docker", "load", "--input", str(file)]]
    if engine == "cri-o":
        return [["skopeo", "copy", f"docker-archive:{file}:{name}", f"containers-storage:{name}"] for name in names]
    raise ConfigError(f"loading archives into {engine or 'this engine'} is not known", hint="use its own tools")


def _run(command: Sequence[str], engine: str, file: Path) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise ConfigError(f"{command[0]} is not on this machine", hint=f"install the command line tools of {engine}")
    done = subprocess.run([program, *command[1:]], check=False, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode:
        raise SkerryError(f"{command[0]} did not take {file}: {done.stderr.strip()[-500:]}")


def names_in(file: Path) -> list[str]:
    """The names of the images in an archive: of docker's ``manifest.json`` or of an OCI ``index.json``.

    Raises:
        ConfigError: not an archive, or its images have no names.
    """
    try:
        with tarfile.open(file) as archive:
            found = _docker_names(_member(archive, "manifest.json")) or _oci_names(_member(archive, "index.json"))
    except (OSError, tarfile.TarError, json.JsonError) as exc:
        raise ConfigError(f"{file} is no image archive: {exc}", hint="make one: docker save -o FILE IMAGE") from exc
    if not found:
        raise ConfigError(f"{file} holds no image with a name", hint="save it by its name, not by its id")
    return sorted(set(found))


def _member(archive: tarfile.TarFile, name: str) -> Any:
    try:
        member = archive.extractfile(name)
    except KeyError:
        return None
    return json.loads(member.read(_INDEX_BYTES)) if member is not None else None


def _docker_names(manifest: Any) -> list[str]:
    items = manifest if isinstance(manifest, list) else []
    return [str(tag) for item in items if isinstance(item, Mapping) for tag in item.get("RepoTags") or []]


def _oci_names(index: Any) -> list[str]:
    items = (index.get("manifests") or []) if isinstance(index, Mapping) else []
    notes = [item.get("annotations") or {} for item in items if isinstance(item, Mapping)]
    return [str(note["io.containerd.image.name"]) for note in notes if note.get("io.containerd.image.name")]
