"""``skerry adopt``: a node of a Go edgecore becomes ours, with its certificates, objects and running containers.

Nothing of edgecore's is changed but the volumes of its pods, which move to our directories under the containers that
have them; ``release`` (``app/release.py``) moves them back. ``node.json``, written last, makes the node ours: whatever
fails before is undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from skerry.api.config import edge as config_kind
from skerry.api.config import edgecore
from skerry.api.gvk import Object
from skerry.app import edge_unit, output
from skerry.app.config_files import read_foreign
from skerry.app.edge_settings import NODE_FILE
from skerry.app.places import edge_data, split_address
from skerry.base import conf, json
from skerry.base.aio.clock import SystemClock
from skerry.base.errors import ConfigError, SkerryError
from skerry.base.files import make_private_dir, write_atomic, write_secret
from skerry.base.net.edge_tls import ClientIdentity, client_context
from skerry.base.obs.log import get_log
from skerry.base.values import Struct, field
from skerry.base.x509_child import inspect
from skerry.edge.link.checks import Check
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.link.manifest import Manifest
from skerry.edge.node.rivals import conflicting
from skerry.edge.store import edgecore as database
from skerry.edge.store import twins
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.store.rowkey import row_keys
from skerry.runtime import handover
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.spec import POD_UID
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.join import common_name

log = get_log(__name__)

CONFIG = Path("/etc/kubeedge/config/edgecore.yaml")
SERVICE = "edgecore.service"
_OF_PODS = ("pods", "pod-logs")
_SOURCE = "kubernetes.io/config.source"
_STATIC_SOURCES = ("file", "http")


class AdoptionFailed(SkerryError):
    """A check did not pass, or a step failed and everything was undone."""


class Origin(Struct, frozen=True):
    """An edgecore as its configuration file describes it.

    Args:
        kubelet: root directory of the kubelet inside of it.
        settings: of our configuration file.
    """

    config: Path
    node: str
    database: Path
    ca: Path
    cert: Path
    key: Path
    kubelet: Path
    socket: Path
    hub: str
    join: str
    tunnel: str
    settings: dict[str, Any]

    def to_json(self) -> dict[str, str]:
        """What a release needs, for ``node.json``."""
        names = ("config", "database", "ca", "cert", "key", "kubelet", "socket")
        return {name: str(getattr(self, name)) for name in names}


class _Found(Struct):
    """What the checks found."""

    objects: dict[str, Object] = field(default_factory=dict)
    devices: database.Devices = field(default_factory=database.Devices)
    sandboxes: dict[str, str] = field(default_factory=dict)

    @property
    def pods(self) -> list[Object]:
        return [obj for key, obj in self.objects.items() if key.split("/", 2)[1] == "pod"]


def main(
    *, edgecore_config: Path, hubs: Sequence[str], joins: Sequence[str], tunnels: Sequence[str], data: Path | None,
    check_only: bool, service: bool, as_json: bool,
) -> int:  # fmt: skip
    """Check, take over, install the unit. Returns the exit code."""
    origin = read_origin(edgecore_config)
    places = _places(origin, hubs, joins, tunnels)
    return asyncio.run(_adopt(origin, places, edge_data(data), check_only=check_only, service=service, as_json=as_json))


def read_origin(file: Path) -> Origin:
    """What an ``edgecore.yaml`` says, with KubeEdge's defaults for what it leaves out.

    Raises:
        ConfigError: it cannot be read, or is of another kind.
    """
    converted = read_foreign(file, edgecore)
    document = conf.parse(file.read_bytes())
    facts, settings = converted.facts, dict(converted.settings)
    bus = _at(document, "modules", "eventBus")
    if isinstance(bus, dict) and bus.get("enable") is False:
        settings.pop("mqtt", None)
    settings.setdefault("dmiSocket", edgecore.DEFAULT_DMI_SOCKET)
    manifests = str(_at(document, "modules", "edged", "tailoredKubeletConfig", "staticPodPath") or edgecore.STATIC_PODS)
    if Path(manifests).is_dir():
        settings["staticPods"] = manifests
    settings.setdefault("criSocket", edgecore.DEFAULT_SOCKET)

    def path(name: str, key: str) -> Path:
        return Path(str(facts.get(name) or edgecore.default_of(key)))

    hub = str(facts.get("hub") or "")
    return Origin(
        config=file,
        node=str(facts.get("node") or socket.gethostname().lower()),
        database=path("database", "database.dataSource"),
        ca=path("caFile", "modules.edgeHub.tlsCaFile"),
        cert=path("certFile", "modules.edgeHub.tlsCertFile"),
        key=path("keyFile", "modules.edgeHub.tlsPrivateKeyFile"),
        kubelet=Path(str(_at(document, "modules", "edged", "rootDirectory") or edgecore.KUBELET_ROOT)),
        socket=Path(settings["criSocket"]),
        hub=hub,
        join=str(facts.get("join") or "").partition("://")[2].rstrip("/"),
        tunnel=str(facts.get("tunnel") or ""),
        settings=settings,
    )


def _at(document: Any, *path: str) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _places(origin: Origin, hubs: Sequence[str], joins: Sequence[str], tunnels: Sequence[str]) -> dict[str, Any]:
    if not (hubs or origin.hub):
        raise ConfigError(f"{origin.config} names no modules.edgeHub.websocket.server", hint="add --hub HOST:PORT")
    found_hubs = [list(split_address(text, c.PORT_HUB)) for text in hubs or [origin.hub]]
    host = found_hubs[0][0]
    found_joins = joins or ([origin.join] if origin.join else [f"{host}:{c.PORT_JOIN}"])
    found_tunnels = tunnels or ([origin.tunnel] if origin.tunnel else [f"{host}:{c.PORT_TUNNEL}"])
    return {
        "hubs": found_hubs,
        "join": list(split_address(found_joins[0], c.PORT_JOIN)),
        "joins": [list(split_address(text, c.PORT_JOIN)) for text in found_joins],
        "tunnels": [list(split_address(text, c.PORT_TUNNEL)) for text in found_tunnels],
    }


async def _adopt(
    origin: Origin, places: Mapping[str, Any], data: Path, *, check_only: bool, service: bool, as_json: bool
) -> int:
    found = _Found()
    checks: list[Check] = []
    steps: tuple[tuple[str, Callable[[], Awaitable[str]]], ...] = (
        ("this directory", lambda: _check_free(data)),
        ("edgecore", lambda: _check_stopped(origin)),
        ("certificate", lambda: _check_certificate(origin)),
        ("database", lambda: _check_database(origin, found)),
        ("container engine", lambda: _check_engine(origin, found)),
        ("volumes", lambda: _check_volumes(origin, found)),
    )
    for name, step in steps:
        begun = time.monotonic()
        try:
            check = Check(name, True, await step(), "", time.monotonic() - begun)
        except SkerryError as exc:
            check = Check(name, False, str(exc), exc.hint, time.monotonic() - begun)
        checks.append(check)
        output.progress(f"  {'ok  ' if check.is_ok else 'FAIL'} {name:<18} {check.detail}")
        if not check.is_ok:
            facts = {"adopted": False, "checks": [each.to_json() for each in checks]}
            output.emit(facts, as_json=as_json, text="not adopted; nothing was changed")
            raise ConfigError(f"{name}: {check.detail}", hint=check.remedy)
    report = {"node": origin.node, "pods": len(found.pods), "sandboxes": len(found.sandboxes), "data": str(data),
              "checks": [each.to_json() for each in checks]}  # fmt: skip
    if check_only:
        text = "every check passed; nothing was changed"
        output.emit({"adopted": False, **report}, as_json=as_json, text=text)
        return 0
    await _take(origin, places, found, data, service=service)
    unit = {"unit": edge_unit.UNIT.name} if service and edge_unit.can_install() else {}
    running = f"unit {edge_unit.UNIT.name} runs" if unit else f"start the agent with: skerry edge run --data {data}"
    text = (
        f"node {origin.node} is adopted with {len(found.sandboxes)} running pods; {running}\n"
        f"give it back with: skerry release --data {data}"
    )
    output.emit({"adopted": True, **report, **unit}, as_json=as_json, text=text)
    return 0


# Checks


async def _check_free(data: Path) -> str:
    if (data / NODE_FILE).exists():
        raise ConfigError(f"{data} belongs to a node already", hint="choose another --data, or `skerry reset` first")
    if os.geteuid() != 0:
        raise ConfigError("adopting a node needs root", hint="run it with sudo")
    return f"{data} is free"


async def _check_stopped(origin: Origin) -> str:
    for rival in conflicting(origin.socket):
        hint = f"systemctl stop {rival.name}" if rival.name == "edgecore" else f"stop and disable {rival.name}"
        raise ConfigError(f"{rival.name} (pid {rival.pid}) is running", hint=hint)
    return "does not run"


async def _check_certificate(origin: Origin) -> str:
    for path in (origin.ca, origin.cert, origin.key):
        if not path.is_file():
            raise ConfigError(f"{path} is missing", hint="the node must have joined its cloud once; or `skerry join`")
    try:
        client_context(origin.ca, ClientIdentity(origin.cert, origin.key))
    except (ssl.SSLError, OSError) as exc:
        raise ConfigError(f"{origin.cert} and {origin.key} cannot be used: {exc}") from exc
    found = await inspect(origin.cert.read_bytes())
    if found.common_name != common_name(origin.node):
        raise ConfigError(
            f"{origin.cert} is of {found.common_name}, not of node {origin.node}",
            hint=f"set modules.edged.hostnameOverride in {origin.config}",
        )
    days = (found.not_after_s - time.time()) / 86_400
    return f"{found.common_name}, {days:.0f} days left"


async def _check_database(origin: Origin, found: _Found) -> str:
    found.objects = database.read_objects(origin.database)
    found.devices = database.read_devices(origin.database)
    return f"{len(found.objects)} objects, {len(found.pods)} pods, {len(found.devices.rows)} devices"


async def _check_engine(origin: Origin, found: _Found) -> str:
    client = CriClient(origin.socket)
    try:
        answer = await client.call("ListPodSandbox", {})
    finally:
        await client.aclose()
    uids = {str(pod["metadata"]["uid"]) for pod in found.pods}
    for item in answer.get("items", []):
        uid = item.get("labels", {}).get(POD_UID, "")
        if uid and (uid in uids or item.get("annotations", {}).get(_SOURCE) in _STATIC_SOURCES):
            found.sandboxes[item["id"]] = uid
    return f"{len(found.sandboxes)} sandboxes of its pods at {origin.socket}"


async def _check_volumes(origin: Origin, found: _Found) -> str:
    moves = handover.to_us(found.pods, kubelet=origin.kubelet, ours=Path("/"))
    there = [move for move in moves if move.source.exists()]
    return f"{len(there)} below {origin.kubelet}"


# Taking over


async def _take(origin: Origin, places: Mapping[str, Any], found: _Found, data: Path, *, service: bool) -> None:
    undo: list[Callable[[], object]] = [lambda: clear(data)]
    try:
        make_private_dir(data)
        Manifest(data).add("directory", str(data))
        _copy_certificates(origin, CertificateFiles(data / "certs"))
        await _fill_store(data, found)
        for move in handover.to_us(found.pods, kubelet=origin.kubelet, ours=make_private_dir(data / "pods")):
            if handover.carry_out(move):
                undo.append(partial(handover.carry_out, move.back()))
        config = {"apiVersion": config_kind.API_VERSION, "kind": config_kind.KIND, "data": str(data), "runtime": "cri"}
        write_atomic(data / "edge.yaml", edge_unit.settings_file(config | origin.settings))
        facts = {
            "node": origin.node, **places, "runtime": "cri", "criSocket": str(origin.socket),
            "nodeUid": str(uuid.uuid4()), "adopted": found.sandboxes, "edgecore": origin.to_json(),
        }  # fmt: skip
        if service and edge_unit.can_install():
            facts["edgecore"] |= {"wasEnabled": _disable()}
            if facts["edgecore"]["wasEnabled"]:
                undo.append(lambda: edge_unit.systemctl("enable", SERVICE))
        write_secret(data / NODE_FILE, json.dumps(facts))
        undo.append(lambda: (data / NODE_FILE).unlink(missing_ok=True))
        if service and edge_unit.can_install():
            edge_unit.install(data)
    except (SkerryError, OSError) as exc:
        undo_all(undo)
        raise AdoptionFailed(
            f"node {origin.node} was not adopted, and everything was undone: {exc}", hint=getattr(exc, "hint", "")
        ) from exc


def clear(data: Path) -> list[str]:
    """Remove the agent's unit and files; what running containers may have of their pods stays. Returns what was done.

    What else the manifest lists (a pod network) stays too: the pods that run now have it.
    """
    done = Manifest(data).undo(kinds=("unit",)) if data.is_dir() else []
    for path in data.iterdir() if data.is_dir() else ():
        if path.name in _OF_PODS:
            _remove_empty(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        data.rmdir()
    is_left = data.exists()
    done.append(f"left {data} with files of running pods" if is_left else f"removed directory {data}")
    return done


def _remove_empty(path: Path) -> None:
    """Directories without a file below; a mount is busy and stays."""
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            Path(directory).rmdir()


def undo_all(steps: list[Callable[[], object]]) -> None:
    """Take back what was done, the newest first; what cannot be taken back is said and does not stop the rest."""
    for step in reversed(steps):
        try:
            step()
        except (SkerryError, OSError) as exc:
            log.error("adopt.not_undone", hint="look at it before edgecore is started again", why=str(exc))


def _copy_certificates(origin: Origin, files: CertificateFiles) -> None:
    make_private_dir(files.directory)
    write_atomic(files.ca, origin.ca.read_bytes())
    write_secret(files.key, origin.key.read_bytes())
    write_atomic(files.cert, origin.cert.read_bytes())


async def _fill_store(data: Path, found: _Found) -> None:
    connection = open_database(data)
    try:
        objects = EdgeObjects(connection, codec=SealingCodec(row_keys(data).key), clock=SystemClock())
        for key, obj in found.objects.items():
            await objects.put(key, obj)

        def write(to: Any) -> None:
            for device, description, state, last_online in found.devices.rows:
                twins.put_device(to, device, description=description, state=state, last_online=last_online)
                twins.put_twins(to, device, found.devices.twins.get(device, {}))

        await connection.write(write)
    finally:
        connection.close()


def _disable() -> bool:
    """Keep edgecore from coming back with the next boot; whether it would have."""
    if shutil.which("systemctl") is None:
        return False
    with contextlib.suppress(SkerryError):
        if edge_unit.systemctl("is-enabled", SERVICE).strip() == "enabled":
            edge_unit.systemctl("disable", SERVICE)
            return True
    return False
