"""``skerry release``: give a node (back) to a Go edgecore, with the newest objects and the same running containers.

What edgecore finds is written first (certificates, database, volumes, where it has none a configuration); our own files
go last. Whatever fails before that is undone.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from skerry.api.config import edgecore
from skerry.api.gvk import Object
from skerry.app import edge_unit, output
from skerry.app.adopt import CONFIG, SERVICE, Origin, clear, read_origin, undo_all
from skerry.app.edge_settings import NODE_FILE, load_config, read_node
from skerry.app.places import edge_data
from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.base.errors import ConfigError, SkerryError
from skerry.base.files import lock_holder, write_atomic, write_secret
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.node.rivals import conflicting
from skerry.edge.store import edgecore as database
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects, type_of
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.store.rowkey import row_keys
from skerry.runtime import handover

_FORMER = ".before-release"


class ReleaseFailed(SkerryError):
    """A step failed; everything was undone."""


def main(
    *, edgecore_config: Path | None, data: Path | None, config_file: Path | None, check_only: bool, force: bool,
    yes: bool, as_json: bool,
) -> int:  # fmt: skip
    """Check, hand over, remove our files. Returns the exit code."""
    directory = edge_data(data)
    joined = read_node(directory)
    config = load_config(config_file, {"data": directory})
    kind = str(joined.get("runtime") or config.runtime)
    if kind != "cri":
        raise ConfigError(
            f"the pods of this node are processes ({kind} runtime), which edgecore cannot run",
            hint="`skerry reset`, then `keadm join`",
        )
    socket = Path(config.cri_socket or str(joined.get("criSocket") or edgecore.DEFAULT_SOCKET))
    if running := lock_holder(directory):
        raise ConfigError(f"the agent (pid {running}) runs from {directory}", hint="systemctl stop skerry-edge")
    for rival in conflicting(socket):
        raise ConfigError(f"{rival.name} (pid {rival.pid}) is running", hint=f"systemctl stop {rival.name}")
    known = joined.get("edgecore") or {}
    file = edgecore_config or Path(str(known.get("config") or CONFIG))
    is_new = not file.exists()
    if not is_new and not known and edgecore_config is None:
        raise ConfigError(
            f"{file} is there, and this node was not adopted from it",
            hint="name it with --edgecore-config if its node is this one",
        )
    objects, waiting = asyncio.run(_read_store(directory, config.store_key))
    if waiting and not force:
        raise ConfigError(
            f"{waiting} reports wait for the cloud and would be lost",
            hint="let the agent connect once (skerry edge run), or add --force",
        )
    origin = _new_origin(file, joined, socket) if is_new else read_origin(file)
    if origin.node != joined["node"]:
        raise ConfigError(f"{file} is of node {origin.node}, this is {joined['node']}", hint="name another file")
    pods = [obj for key, obj in objects.items() if type_of(key) == "pod"]
    facts = {"node": origin.node, "pods": len(pods), "config": str(file), "hub": origin.hub}
    if check_only:
        output.emit({"released": False, **facts}, as_json=as_json, text="nothing stands against it; nothing changed")
        return 0
    if not yes and (not sys.stdin.isatty() or input(f"give {origin.node} to edgecore? [y/N] ").strip().lower() != "y"):
        raise ConfigError("not confirmed; nothing was changed", hint="add --yes to go on without asking")
    _hand_over(origin, joined, objects, pods, directory, is_new=is_new)
    done = clear(directory)
    if known.get("wasEnabled") and edge_unit.can_install():
        edge_unit.systemctl("enable", SERVICE)
    text = "\n".join(
        [*done, f"node {origin.node} is edgecore's; it will dial {origin.hub}; start it: systemctl start edgecore"]
    )
    output.emit({"released": True, **facts, "done": done}, as_json=as_json, text=text)
    return 0


async def _read_store(data: Path, store_key: str) -> tuple[dict[str, Object], int]:
    connection = open_database(data)
    try:
        keys = row_keys(data, wanted=store_key)
        codec = SealingCodec(keys.key, keys.former)
        objects = EdgeObjects(connection, codec=codec, clock=SystemClock(), keeps_unread=keys.is_stopgap)
        found = {key: obj for kind in database.CROSSING for key, obj in objects.list(kind).items()}
        return found, EdgeOutbox(connection, clock=SystemClock()).depth()
    finally:
        connection.close()


def _new_origin(file: Path, joined: Mapping[str, Any], socket: Path) -> Origin:
    """Where the files of an edgecore go that was not here before."""
    hub, join, tunnel = (
        f"{host}:{port}" for host, port in (joined["hubs"][0], joined["join"], joined["tunnels"][0])
    )  # fmt: skip

    def path(key: str) -> Path:
        return Path(str(edgecore.default_of(key)))

    return Origin(
        config=file, node=str(joined["node"]), database=path("database.dataSource"),
        ca=path("modules.edgeHub.tlsCaFile"), cert=path("modules.edgeHub.tlsCertFile"),
        key=path("modules.edgeHub.tlsPrivateKeyFile"), kubelet=Path(edgecore.KUBELET_ROOT), socket=socket,
        hub=hub, join=join, tunnel=tunnel, settings={},
    )  # fmt: skip


def _hand_over(
    origin: Origin, joined: Mapping[str, Any], objects: Mapping[str, Object], pods: list[Object], data: Path, *,
    is_new: bool,
) -> None:  # fmt: skip
    undo: list[Callable[[], object]] = []
    files = CertificateFiles(data / "certs")
    files.recover()
    try:
        for path in (origin.database, origin.ca, origin.cert, origin.key):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            undo.append(_keep(path))
        write_atomic(origin.ca, files.ca.read_bytes())
        write_secret(origin.key, files.key.read_bytes())
        write_atomic(origin.cert, files.cert.read_bytes())
        database.replace_objects(origin.database, objects)
        if is_new:
            origin.config.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            undo.append(lambda: origin.config.unlink(missing_ok=True))
            write_secret(origin.config, _config(origin))
        for move in handover.to_kubelet(pods, kubelet=origin.kubelet, ours=data / "pods"):
            if handover.carry_out(move):
                undo.append(partial(handover.carry_out, move.back()))
        undo.append(lambda: write_secret(data / NODE_FILE, json.dumps(joined)))
        (data / NODE_FILE).unlink()
    except (SkerryError, OSError) as exc:
        undo_all(undo)
        raise ReleaseFailed(
            f"node {origin.node} was not released, and everything was undone: {exc}", hint=getattr(exc, "hint", "")
        ) from exc


def _keep(path: Path) -> Callable[[], object]:
    """A copy beside a file, which stays; gives what puts it back."""
    if not path.exists():
        return lambda: path.unlink(missing_ok=True)
    copy = path.with_name(path.name + _FORMER)
    shutil.copy2(path, copy)
    return lambda: copy.replace(path)


def _config(origin: Origin) -> bytes:
    """A small ``edgecore.yaml``: what differs from KubeEdge's defaults."""
    socket = f"unix://{origin.socket}"
    document = {
        "apiVersion": f"{edgecore.API_GROUP}/v1alpha2",
        "kind": edgecore.KIND,
        "database": {"dataSource": str(origin.database)},
        "modules": {
            "edgeHub": {
                "enable": True, "httpServer": f"https://{origin.join}", "token": "",
                "tlsCaFile": str(origin.ca), "tlsCertFile": str(origin.cert), "tlsPrivateKeyFile": str(origin.key),
                "websocket": {"enable": True, "server": origin.hub},
            },
            "edged": {
                "enable": True, "hostnameOverride": origin.node, "rootDirectory": str(origin.kubelet),
                "tailoredKubeletConfig": {"containerRuntimeEndpoint": socket, "imageServiceEndpoint": socket},
            },
            "edgeStream": {"enable": True, "server": origin.tunnel},
        },
    }  # fmt: skip
    return edge_unit.settings_file(document)
