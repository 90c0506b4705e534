"""``skerry device``: devices with their values, writing a value, a simulated thermometer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from skerry.api import devices as meaning
from skerry.api.gvk import DEVICEMODELS, DEVICES, DEVICESTATUSES, Object
from skerry.api.status import NotFound
from skerry.app import client, output
from skerry.app.children import on_signals
from skerry.app.client import CommandFailed
from skerry.base.errors import ConfigError
from skerry.kube.ports import KubeApi
from skerry.sdk.simulate import Thermometer, ThermometerServer


def device_list(*, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """Devices with state and values."""

    async def work(api: KubeApi) -> int:
        devices = (await api.list(DEVICES, namespace=namespace)).items
        statuses = {_id(item): item for item in (await api.list(DEVICESTATUSES, namespace=namespace)).items}
        facts = [device_facts(device, statuses.get(_id(device))) for device in devices]
        rows = [
            (
                f["namespace"],
                f["name"],
                f["node"],
                f["state"],
                _shown(f["values"]),
            )
            for f in facts
        ]
        text = output.table(("NAMESPACE", "NAME", "NODE", "STATE", "VALUES"), rows) if rows else "no devices"
        output.emit({"items": facts}, as_json=as_json, text=text)
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def device_get(*, name: str, kubeconfig: Path | None, data: Path | None, namespace: str | None, as_json: bool) -> int:
    """One device with the age of each value."""

    async def work(api: KubeApi) -> int:
        facts = await read_device(api, namespace or "default", name)
        rows = [
            (prop, v["value"], v["wanted"], output.age(v["age_s"]) if v["age_s"] is not None else "")
            for prop, v in facts["values"].items()
        ]
        head = f"{facts['namespace']}/{name} on node {facts['node']}: {facts['state'] or 'no state reported'}\n\n"
        output.emit(facts, as_json=as_json, text=head + output.table(("PROPERTY", "VALUE", "WANTED", "AGE"), rows))
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


def device_set(
    *, name: str, value: str, wait_s: float, kubeconfig: Path | None, data: Path | None, namespace: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Write a value and wait until the device reports it."""
    prop, separator, wanted = value.partition("=")
    if not separator or not prop or not wanted:
        raise ConfigError(f"{value!r} is not PROPERTY=VALUE", hint="for example setpoint=21.5")

    async def work(api: KubeApi) -> int:
        started_s = time.monotonic()
        reported = await write_value(api, namespace or "default", name, prop, wanted, wait_s=wait_s)
        took_s = round(time.monotonic() - started_s, 2)
        facts = {"device": name, "property": prop, "wanted": wanted, "reported": reported, "took_s": took_s}
        output.emit(facts, as_json=as_json, text=f"{name} {prop}: {reported} (after {took_s:.1f} s)")
        return 0

    return client.run(work, kubeconfig=kubeconfig, data=data)


async def write_value(api: KubeApi, namespace: str, name: str, prop: str, wanted: str, *, wait_s: float) -> str:
    """Write a wanted value and wait for the device to report it; returns the reported value.

    Raises:
        CommandFailed: no such property, a value that its DeviceModel rules out, or the device did not report it in
            time.
    """
    device = await api.get(DEVICES, name, namespace=namespace)
    properties = device.get("spec", {}).get("properties", [])
    if prop not in {item.get("name") for item in properties}:
        known = ", ".join(str(item.get("name")) for item in properties)
        raise CommandFailed(f'device {namespace}/{name} has no property "{prop}"', hint=f"it has: {known}")
    await _check_wanted(api, namespace, device, prop, wanted)
    changed = [item | {"desired": {"value": wanted}} if item["name"] == prop else item for item in properties]
    await api.patch(DEVICES, name, {"spec": {"properties": changed}}, namespace=namespace)
    deadline_s = time.monotonic() + wait_s
    reported = ""
    while time.monotonic() < deadline_s:
        values = (await read_device(api, namespace, name))["values"]
        reported = values.get(prop, {}).get("value") or ""
        if is_same(wanted, reported):
            return reported
        await asyncio.sleep(0.1)
    has = reported or "reported nothing"
    raise CommandFailed(
        f"{namespace}/{name} {prop}: wanted {wanted}, after {wait_s:.0f} s the device has {has}",
        hint=f"see `skerry why device/{name}`; the wanted value stays and is written when the device can be reached",
    )


async def _check_wanted(api: KubeApi, namespace: str, device: Object, prop: str, wanted: str) -> None:
    """Refuse what the device's model rules out; a device without a model takes anything."""
    reference = str((device["spec"].get("deviceModelRef") or {}).get("name") or "")
    try:
        model = await api.get(DEVICEMODELS, reference, namespace=namespace)
    except NotFound:
        return
    point = meaning.view(device, model).point(prop)
    if point is not None and (problem := meaning.desired_problem(wanted, point)):
        allowed = f"{point.type} {point.access}" + "".join(
            f", {name} {bound}" for name, bound in (("minimum", point.minimum), ("maximum", point.maximum)) if bound
        )
        raise CommandFailed(
            f"{namespace}/{device['metadata']['name']} {prop}: {problem}",
            hint=f"DeviceModel {namespace}/{reference} says: {allowed}; nothing was changed",
        )


async def read_device(api: KubeApi, namespace: str, name: str) -> dict[str, Any]:
    """Facts of one device."""
    device = await api.get(DEVICES, name, namespace=namespace)
    try:
        status = await api.get(DEVICESTATUSES, name, namespace=namespace)
    except NotFound:
        status = None
    return device_facts(device, status)


def device_facts(device: Object, status: Object | None) -> dict[str, Any]:
    """A device as the commands show it."""
    state = (status or {}).get("status", {})
    twins = {twin.get("propertyName"): twin for twin in state.get("twins", [])}
    values = {}
    for item in device.get("spec", {}).get("properties", []):
        reported = twins.get(item["name"], {}).get("reported", {})
        stamp_ms = int(reported.get("metadata", {}).get("timestamp") or 0)
        values[item["name"]] = {
            "value": reported.get("value") or None,
            "wanted": (item.get("desired") or {}).get("value") or None,
            "age_s": round(max(0.0, time.time() - stamp_ms / 1000), 1) if stamp_ms else None,
            "timestamp_ms": stamp_ms or None,
        }
    return {
        "namespace": device["metadata"]["namespace"],
        "name": device["metadata"]["name"],
        "node": device.get("spec", {}).get("nodeName", ""),
        "state": state.get("state", ""),
        "values": values,
    }


def simulate(*, host: str, port: int, as_json: bool) -> int:
    """Run a simulated Modbus thermometer until a signal comes."""
    return asyncio.run(_simulate(host, port, as_json=as_json))


async def _simulate(host: str, port: int, *, as_json: bool) -> int:
    stop = on_signals()
    thermometer = Thermometer()
    async with ThermometerServer(thermometer, host=host, port=port) as server:
        facts = {"ready": True, "host": host, "port": server.port}
        output.emit(facts, as_json=as_json, text=f"thermometer serves Modbus TCP on {host}:{server.port}")
        await stop.wait()
    output.emit({"served": thermometer.served}, as_json=as_json, text=f"{thermometer.served} readings were given out")
    return 0


def is_same(wanted: str, reported: str) -> bool:
    """Whether a reported value is the wanted one; numbers are compared as numbers."""
    try:
        return abs(float(wanted) - float(reported)) <= 1e-6 * max(1.0, abs(float(wanted)))
    except ValueError:
        return wanted == reported


def _id(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _shown(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={value['value']}" for name, value in values.items())
