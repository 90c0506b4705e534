"""``skerry join`` and ``skerry reset``."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skerry.api.config import edge as config_kind
from skerry.api.names import label_errors
from skerry.app import edge_unit, ending, output
from skerry.app.edge_settings import NODE_FILE, load_config, read_node
from skerry.app.places import edge_data, split_address
from skerry.app.runtimes import choose_runtime, open_runtime
from skerry.base import json
from skerry.base.errors import ConfigError, Refused, SkerryError
from skerry.base.files import lock_holder, make_private_dir, write_atomic, write_secret
from skerry.edge.link import enrol
from skerry.edge.link.checks import Check, JoinChecks
from skerry.edge.link.manifest import Manifest
from skerry.edge.store.ports import VaultError
from skerry.edge.store.rowkey import IN_FILE
from skerry.edge.store.vault import SystemdVault
from skerry.runtime import volumes
from skerry.runtime.cri.probe import find_socket
from skerry.runtime.ports import EngineError
from skerry.runtime.trees import remove_tree
from skerry.wire.kubeedge import constants as c


def main(
    *, host: str, token: str, node: str | None, runtime: str, cri_socket: str, store_key: str, labels: str | None,
    hubs: Sequence[str], tunnels: Sequence[str], data: Path | None, config_file: Path | None, check_only: bool,
    service: bool, as_json: bool,
) -> int:  # fmt: skip
    """Check, enrol, write the configuration, install the unit. Returns the exit code."""
    name, port = split_address(host, c.PORT_JOIN)
    _check_written(config_file, labels=labels, store_key=store_key)
    directory = edge_data(data)
    if config_file is not None:
        config_file = config_file.resolve()
        config = load_config(config_file, {"data": data})
        directory, store_key = config.data, config.store_key
    engine = cri_socket or os.environ.get(f"{config_kind.ENVIRONMENT_PREFIX}CRI_SOCKET", "")
    places = {
        "hubs": [list(split_address(text, c.PORT_HUB)) for text in hubs],
        "tunnels": [list(split_address(text, c.PORT_TUNNEL)) for text in tunnels],
    }
    return asyncio.run(
        _join(
            name, port, token, node or "", runtime, engine, store_key, labels, places, directory, config_file,
            check_only, service, as_json,
        )
    )  # fmt: skip


async def _join(
    host: str, port: int, token: str, node: str, runtime: str, cri_socket: str, store_key: str, labels: str | None,
    places: Mapping[str, list[list[Any]]], data: Path, config_file: Path | None, check_only: bool, service: bool,
    as_json: bool,
) -> int:  # fmt: skip
    _check_labels(labels)
    if (data / NODE_FILE).exists() and not check_only:
        raise ConfigError(
            f"{data} belongs to a joined node already", hint="`skerry reset` undoes the join, or choose another --data"
        )
    checks = JoinChecks(
        host, port, token=token, node=node, data=data,
        probe_runtime=lambda: choose_runtime(runtime, cri_socket=cri_socket), probe_key=lambda: _probe_key(store_key),
        tell=_tell,
    )  # fmt: skip
    passed = await checks.run()
    report = [check.to_json() for check in checks.checks]
    if not passed:
        failed = next(check for check in checks.checks if not check.is_ok)
        output.emit({"joined": False, "checks": report}, as_json=as_json, text="not joined; nothing was changed")
        kind = Refused if failed.name in ("token", "token use", "authority and TLS", "version") else ConfigError
        raise kind(f"{failed.name}: {failed.detail}", hint=failed.remedy)
    if check_only:
        output.emit(
            {"joined": False, "checks": report}, as_json=as_json, text="every check passed; nothing was changed"
        )
        return 0
    before = {path.name for path in data.iterdir()} if data.is_dir() else None
    try:
        facts = await _enrol(host, port, checks, places, data, cri_socket, store_key, labels, config_file)
        if service and edge_unit.can_install():
            edge_unit.install(data, config_file=config_file)
            facts["unit"] = edge_unit.UNIT.name
    except (SkerryError, OSError):
        _leave_nothing(data, before)
        raise
    facts |= {"joined": True, "checks": report, "data": str(data)}
    if config_file is not None:
        facts["config"] = str(config_file)
    output.emit(facts, as_json=as_json, text=_text(facts))
    return 0


def _leave_nothing(data: Path, before: set[str] | None) -> None:
    """After a join that failed on the way: remove what it has made.

    Args:
        before: what was in the directory; None when it was not there.
    """
    made = Manifest(data)
    if before is None:
        made.undo()
        return
    made.undo(kinds=("unit",))
    for path in data.iterdir():
        if path.name in before:
            continue
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink()


async def _enrol(
    host: str, port: int, checks: JoinChecks, places: Mapping[str, list[list[Any]]], data: Path, cri_socket: str,
    store_key: str, labels: str | None, config_file: Path | None,
) -> dict[str, Any]:  # fmt: skip
    manifest = Manifest(make_private_dir(data))
    manifest.add("directory", str(data))
    assert checks.token is not None
    files = enrol.CertificateFiles(data / "certs")
    await enrol.enrol(host, port, token=checks.token, node=checks.node, files=files)
    facts: dict[str, Any] = {
        "node": checks.node,
        "join": [host, port],
        "hubs": places["hubs"] or _told(checks.hello, "hub", host, c.PORT_HUB),
        "tunnels": places["tunnels"] or _told(checks.hello, "tunnel", host, c.PORT_TUNNEL),
        "runtime": checks.runtime,
        "nodeUid": str(uuid.uuid4()),
    }
    if checks.runtime == "cri" and (socket := cri_socket or find_socket()):
        facts["criSocket"] = str(socket)
    if config_file is None:
        config = {
            "apiVersion": config_kind.API_VERSION,
            "kind": config_kind.KIND,
            "data": str(data),
            "runtime": checks.runtime,
        }
        if "criSocket" in facts:
            config["criSocket"] = facts["criSocket"]
        if store_key != IN_FILE:
            config["storeKey"] = store_key
        if labels:
            config["labels"] = labels
        write_atomic(data / "edge.yaml", edge_unit.settings_file(config))
    write_secret(data / NODE_FILE, json.dumps(facts))
    return facts


def _told(hello: Mapping[str, Any], server: str, host: str, default: int) -> list[list[Any]]:
    """Where a server is, as the cloud says: first at the host that was just reached, then elsewhere."""
    found = [[str(at), int(port)] for at, port in hello.get(f"{server}s") or []]
    here = [place for place in found if place[0] == host]
    ports = hello.get("ports") or {}
    return here + [place for place in found if place[0] != host] or [[host, int(ports.get(server) or default)]]


def _check_labels(text: str | None) -> None:
    """Labels that the cluster would refuse are refused before anything is checked or changed.

    Raises:
        ConfigError: names the label and what is wrong with it.
    """
    for pair in (text or "").split(","):
        key, mark, value = pair.partition("=")
        wrong = label_errors({key: value}, "--labels") if mark else []
        if pair and not mark:
            raise ConfigError(f"--labels: {pair!r} is no label", hint="write them as KEY=VALUE,KEY=VALUE")
        if pair and wrong:
            raise ConfigError(str(wrong[0]), hint="see labels in the Kubernetes documentation: site=north, line=3")


def _check_written(config_file: Path | None, *, labels: str | None, store_key: str) -> None:
    """What goes into the file of settings that a join writes has no place where the operator brings one.

    Raises:
        ConfigError: names what to write into that file instead.
    """
    if config_file is None:
        return
    given = {"--labels": ("labels", labels), "--store-key": ("storeKey", store_key if store_key != IN_FILE else None)}
    for flag, (key, value) in given.items():
        if value:
            raise ConfigError(f"{flag} does not go with --config", hint=f"write {key} into {config_file}")


async def _probe_key(store_key: str) -> str:
    """Whether the machine can keep the key so: a trial key is wrapped and opened.

    Raises:
        ConfigError: it cannot; with the remedy.
    """
    if store_key == IN_FILE:
        return "in a file beside the database"
    try:
        await asyncio.to_thread(SystemdVault().wrap, store_key, os.urandom(32))
    except VaultError as exc:
        what = "there is no TPM 2.0 that systemd-creds can use" if store_key == "tpm2" else "systemd-creds cannot do it"
        raise ConfigError(
            f"{what}: {exc}", hint=exc.hint or "join with --store-key file; see docs/explain/edge-store.md"
        ) from exc
    return f"wrapped by systemd-creds ({store_key})"


def reset(*, data: Path | None, config_file: Path | None, yes: bool, as_json: bool) -> int:
    """Undo the join: remove what the manifest lists."""
    directory = edge_data(data)
    manifest = Manifest(directory)
    if not manifest.made:
        raise ConfigError(f"{directory} holds no manifest: nothing here was made by `skerry join`")
    if not yes:
        for entry in manifest.made:
            output.progress(f"will remove {entry.kind} {entry.name}")
        if not sys.stdin.isatty() or input("go on? [y/N] ").strip().lower() != "y":
            raise ConfigError("not confirmed; nothing was removed", hint="add --yes to go on without asking")
    running = lock_holder(directory)
    if running:
        raise ConfigError(f"the agent (pid {running}) runs from {directory}", hint="stop it first, then reset")
    done = asyncio.run(end_pods(directory, config_file)) + manifest.undo()
    output.emit({"reset": True, "done": done}, as_json=as_json, text="\n".join(done))
    return 0


async def end_pods(directory: Path, config_file: Path | None = None) -> list[str]:
    """End and remove every pod of this node; an engine that does not answer is said, and does not stop the reset.

    Raises:
        ConfigError: the settings do not say on which engine they are.
    """
    if not (directory / NODE_FILE).exists():
        return []
    try:
        joined = read_node(directory)
    except ConfigError as exc:
        return [f"pods were not ended: {exc}"]
    config = load_config(config_file, {"data": directory})
    runtime = await open_runtime(config, joined)
    done = []
    try:
        done += [f"ended pod {name}" for name in await ending.end_pods(runtime)]
    except EngineError as exc:
        done.append(f"pods were not ended: {exc.explained()}")
    finally:
        await runtime.pods.aclose()
    for place in (directory / "pods").glob("*/volumes"):
        volumes.remove(place)
    return done


def _tell(check: Check) -> None:
    mark = "ok  " if check.is_ok else "FAIL"
    output.progress(f"  {mark} {check.name:<18} {check.detail} ({check.took_s:.2f} s)")
    if not check.is_ok and check.remedy:
        output.progress(f"       what to do: {check.remedy}")


def _text(facts: dict[str, Any]) -> str:
    run = f"skerry edge run --data {shlex.quote(facts['data'])}"
    run += f" --config {shlex.quote(facts['config'])}" if "config" in facts else ""
    running = f"unit {facts['unit']} runs" if "unit" in facts else f"start the agent with: {run}"
    return f"node {facts['node']} has joined; {running}"
