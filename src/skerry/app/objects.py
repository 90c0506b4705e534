"""``skerry get|describe|apply|delete|logs``: a small client for machines without kubectl."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from skerry.api.gvk import EVENTS, Object
from skerry.app import client, output
from skerry.base import json, yaml
from skerry.base.errors import ConfigError
from skerry.sdk.client import Client, Validation


@asynccontextmanager
async def _open(kubeconfig: Path | None, data: Path | None, namespace: str | None) -> AsyncIterator[Client]:
    async with client.open_transport(client.find_kubeconfig(kubeconfig, data)) as transport:
        yield Client(transport, namespace=namespace or transport.credentials.namespace)


def get(
    *, kind: str, names: Sequence[str], all_namespaces: bool, selector: str, wide: bool, kubeconfig: Path | None,
    data: Path | None, namespace: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Show objects of a kind, or one of them."""

    async def work() -> int:
        async with _open(kubeconfig, data, namespace) as found:
            word, _, first = kind.partition("/")
            resource = await found.resolve(word)
            wanted = [first, *names] if first else list(names) or [""]
            if as_json:
                await _emit_json(found, resource, wanted, selector, all_namespaces)
                return 0
            tables = [
                await found.table(resource, name, label_selector=selector, everywhere=all_namespaces) for name in wanted
            ]
            output.emit({}, as_json=False, text=_table(tables, wide=wide, everywhere=all_namespaces))
            return 0

    return client.run_translated(work)


def describe(
    *, kind: str, name: str, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool
) -> int:
    """One object and the Events about it."""

    async def work() -> int:
        async with _open(kubeconfig, data, namespace) as found:
            obj = await found.get(await found.resolve(kind), name)
            events = await found.list_objects(EVENTS)
            mine = [e for e in events if e.get("involvedObject", {}).get("uid") == obj["metadata"].get("uid")]
            obj.get("metadata", {}).pop("managedFields", None)
            rows = [(e.get("type"), e.get("reason"), e.get("count", 1), e.get("message")) for e in mine]
            text = yaml.dump(obj) + "\nEvents\n"
            text += output.table(("TYPE", "REASON", "COUNT", "MESSAGE"), rows) if rows else "  none"
            output.emit({"object": obj, "events": mine}, as_json=as_json, text=text)
            return 0

    return client.run_translated(work)


def apply(
    *, files: Sequence[Path], validation: Validation, kubeconfig: Path | None, data: Path | None, namespace: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Create or change every object of the files. What the server warns of goes to stderr."""
    manifests = [document for file in files for document in _documents(file)]

    async def work() -> int:
        done = []
        async with _open(kubeconfig, data, namespace) as found:
            for manifest in manifests:
                obj, outcome = await found.apply(manifest, validation=validation)
                for text in dict.fromkeys(found.warnings):
                    output.progress(f"Warning: {text}")
                found.warnings.clear()
                done.append({"kind": obj["kind"], "name": obj["metadata"]["name"], "outcome": outcome})
        text = "\n".join(f"{item['kind'].lower()}/{item['name']} {item['outcome']}" for item in done)
        output.emit({"items": done}, as_json=as_json, text=text)
        return 0

    return client.run_translated(work)


def delete(
    *, kind: str, name: str, grace_period_s: int | None, kubeconfig: Path | None, data: Path | None,
    namespace: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Delete one object."""

    async def work() -> int:
        async with _open(kubeconfig, data, namespace) as found:
            resource = await found.resolve(kind)
            await found.delete(resource, name, grace_period_s=grace_period_s)
            facts = {"kind": resource.kind, "name": name, "deleted": True}
            output.emit(facts, as_json=as_json, text=f'{resource.group_resource} "{name}" deleted')
            return 0

    return client.run_translated(work)


def logs(
    *, pod: str, container: str, follow: bool, tail: int | None, previous: bool, kubeconfig: Path | None,
    data: Path | None, namespace: str | None, as_json: bool,
) -> int:  # fmt: skip
    """A container's log; with ``-o json`` one object per line."""

    async def work() -> int:
        async with _open(kubeconfig, data, namespace) as found:
            pieces = found.logs(pod, container=container, follow=follow, tail_lines=tail, previous=previous)
            await _pour(pieces, as_json=as_json)
        return 0

    return client.run_translated(work)


async def _pour(pieces: AsyncIterator[bytes], *, as_json: bool) -> None:
    rest = b""
    async for piece in pieces:
        if not as_json:
            output.write(piece.decode(errors="replace"))
            continue
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            output.emit({"line": line.decode(errors="replace")}, as_json=True, text="")
    if rest:
        output.emit({"line": rest.decode(errors="replace")}, as_json=True, text="")


async def _emit_json(found: Client, resource: Any, names: Sequence[str], selector: str, everywhere: bool) -> None:
    if names[0]:
        for name in names:
            output.emit(await found.get(resource, name), as_json=True, text="")
        return
    items = await found.list_objects(resource, label_selector=selector, everywhere=everywhere)
    output.emit({"kind": "List", "apiVersion": "v1", "items": list(items)}, as_json=True, text="")


def _table(tables: Sequence[Object], *, wide: bool, everywhere: bool) -> str:
    columns = tables[0].get("columnDefinitions", [])
    shown = [i for i, column in enumerate(columns) if wide or not column.get("priority")]
    rows = []
    for table in tables:
        for row in table.get("rows") or []:
            space = [row["object"]["metadata"].get("namespace", "")] if everywhere else []
            rows.append([*space, *(row["cells"][i] for i in shown)])
    if not rows:
        return "no objects found"
    headers = [*(["NAMESPACE"] if everywhere else []), *(columns[i]["name"].upper() for i in shown)]
    return output.table(headers, rows)


def _documents(file: Path) -> list[Object]:
    try:
        text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        documents = yaml.load_all(text)
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {exc.strerror}") from exc
    except yaml.YamlError as exc:
        raise ConfigError(f"{file} is not valid YAML: {exc}") from exc
    found: list[Object] = []
    for document in documents:
        if not isinstance(document, dict):
            raise ConfigError(f"{file} holds {json.dumps(document).decode()[:60]}, which is no object")
        found += document.get("items") or [] if document.get("kind") == "List" else [document]
    for obj in found:
        _check(obj, file)
    if not found:
        raise ConfigError(f"{file} holds no object")
    return found


def _check(obj: Any, file: Path) -> None:
    """What every object needs before a server is asked."""
    if not isinstance(obj, dict) or not obj.get("apiVersion") or not obj.get("kind"):
        raise ConfigError(f"{file}: an object has no apiVersion and kind", hint="correct the file")
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise ConfigError(f"{file}: a {obj['kind']} has no metadata.name", hint="give it a name")
