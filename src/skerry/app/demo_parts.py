"""Better parts that ``skerry demo`` uses where the machine has them: a container engine with an image, an MQTT broker.

Nothing is installed, pulled or left running: an engine is used when it can run a pod with what it holds now, and a
broker is a process of the demo's own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from skerry.api.causes import CauseTable
from skerry.api.config import edge as config_kind
from skerry.app.children import PIDS, Child, process_environment
from skerry.app.runtime_cri import probe_engine
from skerry.base import json
from skerry.base.errors import ConfigError
from skerry.base.files import write_atomic
from skerry.base.net.listening import check_bindable, free_port
from skerry.base.values import Struct
from skerry.edge.bus.external import ExternalBus, Route
from skerry.runtime.cri.probe import find_socket, images_with_shell
from skerry.runtime.ports import EngineError
from skerry.wire.kubeedge.twin import device_topic

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


class Engine(Struct, frozen=True):
    """How the demo's pod runs.

    Args:
        runtime: cri or process.
        image: of the sample pod; only a label on the process runtime.
        why_not: why no container engine is used, with what would bring it; empty when one is.
    """

    runtime: str
    image: str = "busybox"
    why_not: str = ""


async def choose_engine(wanted: str) -> Engine:
    """The container engine where it can run the sample pod without a pull, else the process runtime.

    Args:
        wanted: auto, cri or process.
    """
    if wanted == "process":
        return Engine("process")
    configured = os.environ.get(f"{config_kind.ENVIRONMENT_PREFIX}CRI_SOCKET", "")
    found = await probe_engine(configured)
    if found:
        cause = CauseTable()[found[0].code]
        return Engine("process", why_not=f"{found[0].evidence}. {cause.remedy}")
    place = Path(configured.removeprefix("unix://")) if configured else find_socket()
    assert place is not None  # the probe found it
    try:
        images = await images_with_shell(place)
    except EngineError as exc:
        return Engine("process", why_not=exc.explained())
    if not images:
        why = f"{place} holds no image with a shell. To use it: crictl pull busybox, then `skerry demo --clean`"
        return Engine("process", why_not=why)
    return Engine("cri", image=images[0])


class Broker:
    """A mosquitto of the demo's own, on a free port of this machine only; it keeps nothing on disk."""

    def __init__(self, program: Path, data: Path) -> None:
        self._data = data
        self.port = _kept_port(data)
        self._config = data / "broker/mosquitto.conf"
        self.child = Child(
            "broker", ["-c", str(self._config)], program=[str(program)], serves_on=("127.0.0.1", self.port),
            log_file=data / "logs/broker.log", environment=process_environment(), pid_file=data / PIDS / "broker.json",
        )  # fmt: skip

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells the agent to use it."""
        return {f"{config_kind.ENVIRONMENT_PREFIX}MQTT": f"127.0.0.1:{self.port}"}

    async def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._config.parent.mkdir(parents=True, exist_ok=True)
        text = f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        write_atomic(self._config, text.encode())
        await self.child.start()

    async def hear(self, device_id: str, name: str, *, timeout_s: float = 30.0) -> dict[str, str]:
        """The next document that the agent publishes about a property: ``{"topic", "value"}``.

        Raises:
            TimeoutError: there was none.
        """
        topic = device_topic(device_id, "twin/update/document")
        heard: asyncio.Queue[str] = asyncio.Queue(maxsize=8)

        async def take(_: str, payload: bytes) -> None:
            twin = json.loads(payload).get("twin", {}).get(name) or {}
            value = ((twin.get("current") or {}).get("actual") or {}).get("value")
            if value is not None and not heard.full():
                heard.put_nowait(str(value))

        bus = ExternalBus(port=self.port, client_id="skerry-demo", routes=[Route(topic, take)])
        bus.start()
        try:
            async with asyncio.timeout(timeout_s):
                return {"topic": topic, "value": await heard.get()}
        finally:
            await bus.aclose()


def find_broker(data: Path) -> Broker | None:
    """The broker, where mosquitto is installed."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    return Broker(Path(program), data) if program else None


def missing(engine: Engine, broker: Broker | None) -> Sequence[str]:
    """What would make the demo richer, each with the command that brings it."""
    lines = []
    if engine.why_not:
        lines.append(f"pods ran as processes: {engine.why_not}")
    if broker is None:
        lines.append("no MQTT broker: device topics were left out. Debian/Ubuntu: sudo apt-get install mosquitto")
    if shutil.which("kubectl") is None:
        lines.append("no kubectl: the commands above are skerry's own; any kubectl from 1.27 on works")
    return lines


def _kept_port(data: Path) -> int:
    """The port of the last run where it is free, else a free one."""
    path = data / "broker.port"
    try:
        port = int(path.read_text())
        check_bindable("127.0.0.1", [port])
    except (OSError, ValueError, ConfigError):
        port = free_port()
        write_atomic(path, f"{port}\n".encode())
    return port
