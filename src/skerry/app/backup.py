"""``skerry cloud backup`` and ``restore``: everything that a cloud cannot make anew, in one file.

A backup is a ``.tar.gz`` of mode 0600: ``manifest.json`` first, then the store, the keys, and the ports. It holds
every secret of the cluster in the clear: keep it as you keep a private key.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from skerry import __version__
from skerry.apiserver.store import snapshot
from skerry.app import output
from skerry.app.places import cloud_data
from skerry.base import json
from skerry.base.aio.clock import Clock
from skerry.base.errors import ConfigError, SkerryError
from skerry.base.files import DirectoryLock, make_private_dir, sync_directory
from skerry.base.obs.log import get_log
from skerry.base.values import asdict

log = get_log(__name__)

DATABASE = "cluster.db"
_MANIFEST = "manifest.json"
_KIND = "skerry-cloud-backup"
_FORMAT = 1
_PKI = ("ca.crt", "ca.key", "apiserver.crt", "apiserver.key", "sa.key", "admin.crt", "admin.key")
_ALONE = ("ports.json",)
_MANIFEST_BYTES = 1 << 20
_PATTERN = "skerry-cloud-*.tar.gz"


def backup(*, data: Path | None, out: Path | None, as_json: bool) -> int:
    """Write a backup of a cloud that may be running. Returns the exit code."""
    directory = cloud_data(data)
    if not (directory / DATABASE).exists():
        raise ConfigError(
            f"no cloud with an API server of its own has run in {directory}",
            hint="name the cloud's --data; beside a cluster back up that cluster",
        )
    facts = write_backup(directory, out or directory / "backups")
    text = f"{facts['file']}: {facts['objects']} objects, {facts['size_bytes']:,} bytes. It holds every secret: keep it"
    output.emit(facts, as_json=as_json, text=f"{text} safe, and not on this machine only.")
    return 0


def restore(file: Path, *, data: Path | None, force: bool, as_json: bool) -> int:
    """Put a backup in place of a lost cloud. Returns the exit code."""
    directory = make_private_dir(cloud_data(data))
    with DirectoryLock(directory):
        facts = restore_backup(file, directory, force=force, now_s=time.time())
    aside = f" What was there lies in {facts['replaced']}." if facts["replaced"] else ""
    text = (
        f"restored {facts['objects']} objects of {facts['taken']} into {directory}.{aside}\n"
        f"Start it: skerry cloud run --data {directory} --advertise HOST  (HOST: where nodes look for the cloud)"
    )
    output.emit(facts, as_json=as_json, text=text)
    return 0


class ScheduledBackups:
    """Writes a backup every ``every_s`` seconds and keeps the newest ``keep`` of them."""

    def __init__(self, data: Path, *, directory: Path, every_s: float, keep: int, clock: Clock) -> None:
        self._data = data
        self._directory = directory
        self._every_s = every_s
        self._keep = max(1, keep)
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled. A backup that fails is told and tried again at the next turn."""
        while True:
            await self._clock.sleep(self._wait_s())
            try:
                facts = await asyncio.to_thread(write_backup, self._data, self._directory)
            except (SkerryError, OSError) as exc:
                log.error("backup.failed", error=str(exc), hint=f"check free space and rights of {self._directory}")
                await self._clock.sleep(min(self._every_s, 300.0))
                continue
            log.info("backup.written", file=facts["file"], bytes=facts["size_bytes"], objects=facts["objects"])
            for old in _backups(self._directory)[: -self._keep]:
                old.unlink(missing_ok=True)

    def _wait_s(self) -> float:
        """Until the newest backup is ``every_s`` old, also across a restart."""
        found = _backups(self._directory)
        if not found:
            return 0.0
        return max(0.0, min(self._every_s, found[-1].stat().st_mtime + self._every_s - self._clock.now_s()))


def write_backup(data: Path, out: Path) -> dict[str, Any]:
    """Write a backup of the cloud in ``data``.

    Args:
        out: a directory (made if missing), or the file itself when it ends in ``.tar.gz``.

    Returns:
        ``file``, ``size_bytes``, ``taken``, ``version`` and the store's facts.

    Raises:
        StoreError: there is no store, or it is damaged.
        ConfigError: ``out`` exists, or cannot be written.
    """
    named = out.name.endswith(".tar.gz")
    try:
        make_private_dir(out) if not named and not out.exists() else None
    except OSError as exc:
        raise ConfigError(f"cannot make {out}: {exc.strerror}", hint="choose another place with --out") from exc
    if named and out.exists():
        raise ConfigError(f"{out} exists", hint="choose another file; a backup is never overwritten")
    directory = out.parent if named else out
    try:
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=directory) as scratch:
            return _write(data, out, Path(scratch), named=named)
    except OSError as exc:
        raise ConfigError(f"cannot write a backup to {directory}: {exc.strerror}", hint="free space there") from exc


def _write(data: Path, out: Path, scratch: Path, *, named: bool) -> dict[str, Any]:
    taken_s = time.time()
    facts = snapshot.copy(data / DATABASE, scratch / DATABASE)
    files = {DATABASE: scratch / DATABASE}
    files |= {f"pki/{name}": data / "pki" / name for name in _PKI}
    files |= {name: data / name for name in _ALONE if (data / name).exists()}
    taken = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(taken_s))
    manifest: dict[str, Any] = {
        "kind": _KIND, "format": _FORMAT, "version": __version__, "taken": taken, "taken_s": round(taken_s, 3),
        "store": asdict(facts), "files": {name: _description(path) for name, path in files.items()},
    }  # fmt: skip
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(taken_s))
    target = out if named else out / f"skerry-cloud-{stamp}{int(taken_s * 1000) % 1000:03d}Z.tar.gz"
    part = scratch / "part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as tar:
            _add(tar, _MANIFEST, io.BytesIO(json.dumps(manifest)), len(json.dumps(manifest)), taken_s)
            for name, path in files.items():
                with path.open("rb") as content:
                    _add(tar, name, content, path.stat().st_size, taken_s)
        file.flush()
        os.fsync(file.fileno())
    part.rename(target)
    sync_directory(target.parent)
    size = target.stat().st_size
    return {"file": str(target), "size_bytes": size, "taken": taken, "version": __version__, **asdict(facts)}


def restore_backup(file: Path, data: Path, *, force: bool, now_s: float) -> dict[str, Any]:
    """Put the backup's contents into ``data``, whose lock the caller holds.

    Args:
        force: what is there is moved aside instead of refused.
        now_s: seconds since 1970.

    Returns:
        ``taken``, ``from_version``, ``replaced`` (where the old files lie, or empty) and the store's new facts.

    Raises:
        ConfigError: not a backup, damaged, of a newer format, or there is a cloud already.
    """
    names = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "pki", "tls", *_ALONE)
    there = [name for name in names if (data / name).exists()]
    if there and not force:
        hint = "stop it and repeat with --force: what is there is moved aside, not deleted"
        raise ConfigError(f"{data} holds a cloud already", hint=hint)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=data) as scratch:
        unpacked = Path(scratch)
        manifest = _unpack(file, unpacked)
        lost_rv = _newest_rv(data / DATABASE)
        facts = snapshot.renew(
            unpacked / DATABASE, age_s=max(0.0, now_s - float(manifest["taken_s"])), at_least_rv=lost_rv
        )
        replaced = _move_aside(data, there, now_s) if there else None
        for name in ("pki", *_ALONE, DATABASE):  # the store last: without it there is no cloud, and a repeat works
            if (unpacked / name).exists():
                (unpacked / name).rename(data / name)
    sync_directory(data)
    return {
        "taken": manifest["taken"], "from_version": manifest["version"], "replaced": str(replaced or ""),
        "data": str(data), **asdict(facts),
    }  # fmt: skip


def _unpack(file: Path, directory: Path) -> dict[str, Any]:
    """Every file that the manifest names, checked against it; nothing else."""
    try:
        with tarfile.open(file, mode="r:gz") as tar:
            members = iter(tar)
            manifest = _manifest(tar, next(members, None), file)
            wanted: dict[str, Any] = dict(manifest["files"])
            for member in members:
                expected = wanted.pop(member.name, None)
                content = tar.extractfile(member) if member.isreg() else None
                if expected is None or content is None or member.size != expected["size"]:
                    raise ConfigError(f"{file} holds {member.name!r}, which its manifest does not describe so")
                _place(content, directory / member.name, expected, file)
            if wanted:
                raise ConfigError(f"{file} is cut off: it lacks {', '.join(sorted(wanted))}", hint="use another copy")
            return manifest
    except (tarfile.TarError, EOFError, OSError) as exc:
        raise ConfigError(f"cannot read backup {file}: {exc}", hint="is it whole? use another copy") from exc


def _manifest(tar: tarfile.TarFile, first: tarfile.TarInfo | None, file: Path) -> dict[str, Any]:
    content = tar.extractfile(first) if first and first.name == _MANIFEST and first.isreg() else None
    if first is None or content is None or first.size > _MANIFEST_BYTES:
        raise ConfigError(f"{file} is no backup of a Skerry cloud", hint="name a file that `skerry cloud backup` wrote")
    try:
        manifest: dict[str, Any] = json.loads(content.read())
        kind, number, names = manifest["kind"], int(manifest["format"]), set(manifest["files"])
    except (json.JsonError, KeyError, TypeError, ValueError) as exc:
        raise ConfigError(f"{file}: its manifest is damaged", hint="use another copy") from exc
    known = {DATABASE, *(f"pki/{name}" for name in _PKI), *_ALONE}
    if kind != _KIND or number > _FORMAT or not names <= known or DATABASE not in names:
        hint = f"it was written by skerry {manifest.get('version')}; use that version or a newer one"
        raise ConfigError(f"{file}: format {number} is not known to skerry {__version__}", hint=hint)
    return manifest


def _place(content: IO[bytes], path: Path, expected: Mapping[str, Any], file: Path) -> None:
    make_private_dir(path.parent)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, int(expected["mode"]) & 0o666), "w+b") as target:
        shutil.copyfileobj(content, target)
        target.flush()
        os.fsync(target.fileno())
        target.seek(0)
        if hashlib.file_digest(target, "sha256").hexdigest() != expected["sha256"]:
            raise ConfigError(f"{file} is damaged: {path.name} differs from its manifest", hint="use another copy")


def _newest_rv(database: Path) -> int:
    """Of the store that is replaced; 0 when there is none that can be read."""
    try:
        return snapshot.facts(database).newest_rv if database.exists() else 0
    except SkerryError:
        return 0


def _move_aside(data: Path, names: list[str], now_s: float) -> Path:
    aside = make_private_dir(data / time.strftime("replaced-%Y%m%dT%H%M%SZ", time.gmtime(now_s)))
    for name in names:
        (data / name).rename(aside / name)
    return aside


def _description(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stat = path.stat()
    return {"size": stat.st_size, "mode": stat.st_mode & 0o777, "sha256": digest}


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int, stamp_s: float) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(stamp_s)
    tar.addfile(member, content)


def _backups(directory: Path) -> list[Path]:
    """Oldest first."""
    found: Iterator[Path] = directory.glob(_PATTERN)
    return sorted(found)
