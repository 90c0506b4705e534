"""``skerry demo``: a tour that proves its claims on this machine, and shows only what it has just measured."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from skerry.api.gvk import DEPLOYMENTS, DEVICEMODELS, DEVICES, DEVICESTATUSES, NODES, PODS, Object, Resource
from skerry.api.status import AlreadyExists, NotFound, Unavailable
from skerry.app import onsite, output, samples
from skerry.app.allinone import RUN_FILE, Group, end_group, keep_alive
from skerry.app.children import PIDS, Child, end_left_over, on_signals, process_environment
from skerry.app.client import open_api, open_transport
from skerry.app.demo_parts import Broker, Engine, choose_engine, find_broker, missing
from skerry.app.demo_screen import render
from skerry.app.devices import read_device, write_value
from skerry.app.join import end_pods
from skerry.app.places import data_root
from skerry.base import json
from skerry.base.aio.supervise import race
from skerry.base.errors import ConfigError, SkerryError
from skerry.base.files import DirectoryLock, make_private_dir, write_atomic
from skerry.kube.http import HttpTransport
from skerry.kube.ports import KubeApi
from skerry.sdk.client import Client

T = TypeVar("T")

NODE = "demo-edge"
_MADE = "made.json"
_ENGINE = "engine.json"
_ALIKE, _COUNTS = 2, 5


class DemoFailed(SkerryError):
    """A claim of the tour did not hold."""


def main(
    *, data: Path | None, listen: str | None, ports: str | None, runtime: str, exit_when_ready: bool, clean: bool,
    plug_s: float, as_json: bool,
) -> int:  # fmt: skip
    """Run the tour. Returns the exit code."""
    directory = data or data_root() / "demo"
    if clean:
        return _clean(directory, as_json=as_json)
    to_make = [str(path) for path in directory.parents if not path.exists()]
    _check_ours(directory)
    make_private_dir(directory)
    with DirectoryLock(directory):
        if not (directory / _MADE).exists():
            write_atomic(directory / _MADE, json.dumps(to_make), mode=0o600)
        for name in end_left_over(directory):
            output.progress(f"ended the {name} that an earlier, killed demo had left")
        address, wanted = listen or "127.0.0.1", ports or "any"
        return asyncio.run(
            _tour(directory, address, wanted, runtime, plug_s=plug_s, as_json=as_json, exit_when_ready=exit_when_ready)
        )


async def _tour(
    data: Path, listen: str, ports: str, runtime: str, *, plug_s: float, as_json: bool, exit_when_ready: bool
) -> int:
    engine = await _engine(data, runtime)
    tour = Tour(data, engine, find_broker(data), listen=listen, ports=ports, plug_s=plug_s, as_json=as_json)
    return await tour.run(exit_when_ready=exit_when_ready)


async def _engine(data: Path, wanted: str) -> Engine:
    """The engine of this start; a second start keeps the one that the node has joined with, and its image."""
    path = data / _ENGINE
    if path.exists():
        kept = json.loads(path.read_bytes())
        return Engine(str(kept["runtime"]), str(kept["image"]))
    engine = await choose_engine(wanted)
    write_atomic(path, json.dumps({"runtime": engine.runtime, "image": engine.image}))
    return engine


class Tour:
    """The steps of the demo, in order, each with its time."""

    def __init__(
        self, data: Path, engine: Engine, broker: Broker | None, *, listen: str, ports: str, plug_s: float,
        as_json: bool,
    ) -> None:  # fmt: skip
        self._data = data
        self._engine = engine
        self._broker = broker
        self._plug_s = plug_s
        self._as_json = as_json
        self._group = Group(
            data, listen=listen, ports=ports, node=NODE, runtime=engine.runtime,
            environment=broker.environment if broker else {},
        )  # fmt: skip
        self._thermometer = Child(
            "thermometer", ["device", "simulate", "--port", str(_kept_port(data)), "-o", "json"],
            log_file=data / "logs/thermometer.log", environment=process_environment(),
            pid_file=data / PIDS / "thermometer.json",
        )  # fmt: skip
        self._started_s = time.monotonic()
        self._started_ms = int(time.time() * 1000)
        self._steps: list[dict[str, Any]] = []
        self._facts: dict[str, Any] = {}

    async def run(self, *, exit_when_ready: bool) -> int:
        """All steps, then the screen, then serve until a signal (or leave at once)."""
        stop = on_signals()
        try:
            stopped, _ = await race(self._tour(), stop.wait())
            if stopped:
                return 130
            self._announce()
            if not exit_when_ready:
                await keep_alive(self._group, stop)
            return 0
        finally:
            output.progress("stopping: pods, edge agent, cloud, thermometer")
            await self._group.stop()
            await self._thermometer.stop()
            if self._broker is not None:
                await self._broker.child.stop()
            (self._data / RUN_FILE).unlink(missing_ok=True)

    async def _tour(self) -> None:
        group = self._group
        await self._step("cloud: API server, controllers, hub", group.cloud.start())
        if not group.has_joined:
            self._facts["checks"] = await self._step(f"join node {NODE} with a one-time token", group.join())
        if self._broker is not None:
            await self._step("MQTT broker: mosquitto", self._broker.start())
        await self._step("edge agent", group.edge.start())
        await self._step("simulated Modbus thermometer", self._thermometer.start())
        _keep_port(self._data, int(self._thermometer.ready["port"]))
        async with open_api(group.kubeconfig) as api:
            await self._step("node Ready", _until(lambda: _node_ready(api)))
            await self._step("apply Deployment, DeviceModel and Device", self._apply(api))
            self._facts["runtime"] = self._engine.runtime
            pod = await self._step("pod Running", _until(lambda: _running_pod(api)))
            self._facts["pod"] = _pod_facts(pod)
            self._facts["reading"] = await self._step("first reading in DeviceStatus", _until(self._fresh_reading(api)))
        self._facts["took_s"] = round(time.monotonic() - self._started_s, 2)
        await self._look()
        if self._plug_s:
            await self._pull_the_plug()
        await self._step("run the commands of the last screen", self._run_commands())
        self._facts["memory_mib"] = {"cloud": _rss_mib(group.cloud.pid), "edge": _rss_mib(group.edge.pid)}

    def _fresh_reading(self, api: KubeApi) -> Callable[[], Awaitable[dict[str, Any] | None]]:
        """Looks for a reading of this run; the cloud still has those of the last one."""

        async def look() -> dict[str, Any] | None:
            return await _reading(api) if await _reading_after(api, self._started_ms) else None

        return look

    async def _look(self) -> None:
        pod = self._facts["pod"]["name"]
        async with open_transport(self._group.kubeconfig) as transport:
            self._facts["log"] = await self._step(
                "log line through the tunnel", _until(lambda: _last_line(transport, pod))
            )
        async with open_api(self._group.kubeconfig) as api:
            wanted = await _other_setpoint(api)
            work = write_value(api, "default", samples.THERMOMETER, "setpoint", wanted, wait_s=30)
            reported = await self._step("write a set point, read it back from the register", work)
        self._facts["setpoint"] = {"wanted": wanted, "reported": reported}
        if self._broker is not None:
            heard = self._broker.hear(f"default/{samples.THERMOMETER}", "temperature")
            self._facts["mqtt"] = await self._step("the same reading on an MQTT topic of the node", heard)

    async def _pull_the_plug(self) -> None:
        group = self._group
        async with open_api(group.kubeconfig) as api:
            before = _pod_facts(await _until(lambda: _running_pod(api)))
        counted = await self._steady_count()
        await self._step("plug pulled: the cloud is killed with SIGKILL", group.cloud.kill())
        left_s = self._plug_s
        while left_s > 0:
            output.progress(f"      the node goes on alone, {left_s:.0f} s left")
            await asyncio.sleep(min(5.0, left_s))
            left_s -= 5.0
        alone = await self._steady_count()  # also after a short plug: at least one reading came meanwhile
        for _ in range(_COUNTS):  # of a reading that is half in the rest comes; one that is lost stays away
            if alone["given_out"] - counted["given_out"] == alone["taken_in"] - counted["taken_in"]:
                break
            alone = await self._steady_count()
        await self._step("cloud started again", group.cloud.start())
        back_s = time.monotonic()
        started_ms = int(time.time() * 1000)
        async with open_api(group.kubeconfig) as api:
            await self._step("fresh reading in DeviceStatus", _until(lambda: _reading_after(api, started_ms)))
            back_s = round(time.monotonic() - back_s, 2)
            after = _pod_facts(await _until(lambda: _running_pod(api)))
        async with open_transport(group.kubeconfig) as transport:
            work = _until(lambda: _last_line(transport, after["name"]))
            self._facts["log"] = await self._step("log line through the tunnel, again", work)
        plug = {
            "seconds": self._plug_s, "back_s": back_s, "restarts": after["restarts"] - before["restarts"],
            "containers_before": before["containers"], "containers_after": after["containers"],
            "readings_out": alone["given_out"] - counted["given_out"],
            "readings_in": alone["taken_in"] - counted["taken_in"],
        }  # fmt: skip
        self._facts["plug"] = plug
        if before["containers"] != after["containers"] or plug["restarts"]:
            raise DemoFailed(f"the pod's containers changed: {before['containers']} became {after['containers']}")
        if plug["readings_out"] != plug["readings_in"] or not plug["readings_out"]:
            raise DemoFailed(f"{plug['readings_out']} readings were given out, {plug['readings_in']} came in")

    async def _steady_count(self) -> dict[str, int]:
        """A count taken when both counters have grown alike twice: after a restart the device counts anew, the node's
        store lags, and a reading may be half in."""
        before = await _until(self._counted)
        alike = 0

        async def grown() -> dict[str, int] | None:
            nonlocal before, alike
            now = await self._counted()
            if now is None or now == before:
                return None
            out, taken = now["given_out"] - before["given_out"], now["taken_in"] - before["taken_in"]
            before = now
            alike = alike + 1 if 0 < out == taken else 0
            return now if alike >= _ALIKE else None

        return await _until(grown)

    async def _counted(self) -> dict[str, int] | None:
        """Readings by the device's own counter, and those that the node has taken in, at one moment between two."""
        facts = onsite.read_status(self._data / "edge")
        if facts["pid"] != self._group.edge.pid:
            return None
        sequence = facts.get("devices", {}).get(f"default/{samples.THERMOMETER}", {}).get("sequence")
        counts = facts.get("readings", {})
        if not sequence:
            return None
        taken_in = (counts["accepted"] - counts["waiting"]) // samples.PROPERTIES
        return {"given_out": int(float(sequence)), "taken_in": taken_in}

    async def _run_commands(self) -> None:
        commands = _commands(self._group.kubeconfig, self._facts["pod"]["name"], self._data)
        kubectl = {"KUBECONFIG": str(self._group.kubeconfig), "KUBECACHEDIR": str(self._data / "kubectl-cache")}
        environment = process_environment() | kubectl
        for command in commands:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
            )
            _, errors = await process.communicate()
            if process.returncode:
                raise DemoFailed(f"`{' '.join(command)}` failed: {errors.decode(errors='replace').strip()}")
        self._facts["missing"] = missing(self._engine, self._broker)
        self._facts["commands"] = [" ".join(command) for command in commands]
        self._facts["clean"] = f"{_skerry()} demo --clean" + _data_flag(self._data)

    async def _apply(self, api: KubeApi) -> None:
        host, port = str(self._thermometer.ready["host"]), int(self._thermometer.ready["port"])
        await _put(api, DEPLOYMENTS, samples.hello_deployment(image=self._engine.image))
        await _put(api, DEVICEMODELS, samples.thermometer_model())
        await _put(api, DEVICES, samples.thermometer(NODE, host=host, port=port))

    async def _step(self, text: str, work: Awaitable[T]) -> T:
        number = len(self._steps) + 1
        started_s = time.monotonic()
        output.progress(f"[{number:>2}] {text} …")
        result = await work
        took_s = round(time.monotonic() - started_s, 2)
        self._steps.append({"step": text, "took_s": took_s})
        output.progress(f"      done in {took_s:.2f} s")
        return result

    def _announce(self) -> None:
        facts = self._group.facts() | self._facts | {"steps": self._steps}
        facts["pids"]["thermometer"] = self._thermometer.pid
        if self._broker is not None:
            facts["pids"]["broker"] = self._broker.child.pid
        write_atomic(self._data / RUN_FILE, json.dumps(facts), mode=0o600)
        output.emit(facts, as_json=self._as_json, text=render(facts))


async def _until(look: Callable[[], Awaitable[T | None]], *, timeout_s: float = 60.0) -> T:
    """Ask again until there is an answer; what is asked is an API object that somebody else changes."""
    deadline_s = time.monotonic() + timeout_s
    why = "it did not happen"
    while time.monotonic() < deadline_s:
        try:
            found = await look()
            if found is not None:
                return found
        except (NotFound, Unavailable) as exc:
            why = str(exc)
        await asyncio.sleep(0.1)
    raise DemoFailed(
        f"gave up after {timeout_s:.0f} s: {why}", hint="the logs are named above; `skerry doctor` may know"
    )


async def _put(api: KubeApi, resource: Resource, obj: Object) -> None:
    try:
        await api.create(resource, obj, namespace="default")
    except AlreadyExists:
        await api.patch(resource, obj["metadata"]["name"], {"spec": obj["spec"]}, namespace="default")


async def _node_ready(api: KubeApi) -> Object | None:
    node = await api.get(NODES, NODE)
    conditions = {item["type"]: item for item in node.get("status", {}).get("conditions", [])}
    return node if conditions.get("Ready", {}).get("status") == "True" else None


async def _running_pod(api: KubeApi) -> Object | None:
    pods = await api.list(PODS, namespace="default", label_selector=f"app={samples.HELLO}")
    for pod in pods.items:
        status = pod.get("status", {})
        ready = [item.get("ready") for item in status.get("containerStatuses", [])]
        if status.get("phase") == "Running" and ready and all(ready) and "deletionTimestamp" not in pod["metadata"]:
            return pod
    return None


def _pod_facts(pod: Object) -> dict[str, Any]:
    statuses = pod["status"]["containerStatuses"]
    return {
        "name": pod["metadata"]["name"],
        "node": pod["spec"]["nodeName"],
        "containers": {item["name"]: item["containerID"] for item in statuses},
        "restarts": sum(int(item.get("restartCount", 0)) for item in statuses),
    }


async def _twin(api: KubeApi, name: str) -> Object | None:
    status = await api.get(DEVICESTATUSES, samples.THERMOMETER, namespace="default")
    for twin in status.get("status", {}).get("twins", []):
        if twin.get("propertyName") == name and twin.get("reported", {}).get("value"):
            return dict(twin["reported"])
    return None


async def _reading(api: KubeApi) -> dict[str, Any] | None:
    twin = await _twin(api, "temperature")
    if twin is None:
        return None
    stamp_ms = int(twin.get("metadata", {}).get("timestamp", 0))
    return {"value": twin["value"], "age_s": round(max(0.0, time.time() - stamp_ms / 1000), 1)}


async def _reading_after(api: KubeApi, after_ms: int) -> Object | None:
    twin = await _twin(api, "temperature")
    return twin if twin and int(twin.get("metadata", {}).get("timestamp", 0)) >= after_ms else None


async def _last_line(transport: HttpTransport, pod: str) -> str | None:
    text = b"".join([piece async for piece in Client(transport).logs(pod, tail_lines=1)])
    return text.decode(errors="replace").strip() or None


async def _other_setpoint(api: KubeApi) -> str:
    """A set point that the register does not hold now."""
    values = (await read_device(api, "default", samples.THERMOMETER))["values"]
    return "19.5" if values["setpoint"]["value"] == "21.5" else "21.5"


def _commands(kubeconfig: Path, pod: str, data: Path) -> list[list[str]]:
    """What the last screen proposes; kubectl's where it is here, ours otherwise."""
    skerry = _skerry()
    device = [skerry, "device", "get", samples.THERMOMETER]
    own = [[skerry, "node", "list"], device, [skerry, "device", "set", samples.THERMOMETER, "setpoint=20.5"]]
    tool = "kubectl" if shutil.which("kubectl") else skerry
    objects = [[tool, "get", "pods", *(["-o", "wide"] if tool == "kubectl" else [])], [tool, "logs", pod]]
    status = [skerry, "edge", "status", "--data", str(data / "edge")]
    return [*objects, *own, status]


def _skerry() -> str:
    """The command as a person can type it."""
    beside = Path(sys.executable).with_name("skerry")
    return "skerry" if shutil.which("skerry") else str(beside)


def _data_flag(data: Path) -> str:
    return "" if data == data_root() / "demo" else f" --data {data}"


def _rss_mib(pid: int) -> float:
    with Path(f"/proc/{pid}/status").open() as file:
        kib = next((int(line.split()[1]) for line in file if line.startswith("VmRSS:")), 0)
    return round(kib / 1024, 1)


def _kept_port(data: Path) -> int:
    """The thermometer's port of the last run, so that a second start finds the device where it was."""
    try:
        return int((data / "thermometer.port").read_text())
    except (OSError, ValueError):
        return 0


def _keep_port(data: Path, port: int) -> None:
    write_atomic(data / "thermometer.port", f"{port}\n".encode())


def _clean(directory: Path, *, as_json: bool) -> int:
    existed = directory.exists()
    if existed:
        _check_ours(directory)
        end_group(directory)
        with DirectoryLock(directory):
            end_left_over(directory)
            asyncio.run(end_pods(directory / "edge"))
            made = _made_parents(directory)
            shutil.rmtree(directory)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
    text = f"removed {directory}" if existed else f"nothing to remove: {directory} does not exist"
    output.emit({"cleaned": existed, "data": str(directory)}, as_json=as_json, text=text)
    return 0


def _check_ours(directory: Path) -> None:
    """Only what a demo has made is used, and removed, by a demo.

    Raises:
        ConfigError: it holds something else.
    """
    if directory.exists() and not (directory / _MADE).is_file() and any(directory.iterdir()):
        raise ConfigError(
            f"{directory} was not made by `skerry demo`", hint="nothing was changed; name the demo's own directory"
        )


def _made_parents(directory: Path) -> list[Path]:
    """Parents that the first start had to make, the deepest first."""
    try:
        return [Path(text) for text in json.loads((directory / _MADE).read_bytes())]
    except (OSError, json.JsonError):
        return []
