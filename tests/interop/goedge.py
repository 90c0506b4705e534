"""A Go edgecore on a directory and a containerd of its own, as a test starts and stops it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.interop.workload import Running
from tests.parts import PAUSE_IMAGE, Containerd

from skerry.base.net.listening import free_port
from skerry.testing.site import until
from skerry.wire.kubeedge.route import resource_type

_TAKEN = '"SyncLoop ADD" source="api"'
_ENDED = re.compile(r'"Pod is orphaned and must be torn down" pod="default/([^"]+)"')
_MESSAGE = re.compile(
    r"edgehub/(sendToCloud|routeToEdge)\][^{]*\{Header:\{[^}]*\} Router:\{Source:(\S*) Destination:\S* Group:(\S*)"
    r" Operation:(\S*) Resource:(\S*)\}"
)

_WAYS = {"sendToCloud": "up", "routeToEdge": "down"}


def binary(name: str) -> Path:
    """The foreign program that this environment variable names; skips the test where there is none."""
    path = Path(os.environ.get(name, ""))
    if not path.is_file():
        pytest.skip(f"{name} does not name a program")
    return path


class GoProcess:
    """One foreign program with its log.

    Args:
        name: of the log file.
        command: program and arguments.
        directory: for its log; made when missing.
        environment: added to ours.
    """

    def __init__(
        self, name: str, command: list[str], *, directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log_file = directory / f"{name}.log"
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None
        self._began = 0

    @property
    def is_running(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it; does not wait until it serves."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._began = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env=self._environment,
            )  # fmt: skip

    async def stop(self, *, number: signal.Signals = signal.SIGTERM) -> None:
        """Signal it, after 10 s SIGKILL, and wait until it is gone."""
        if not self.is_running or self._process is None:
            return
        self._process.send_signal(number)
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL it."""
        await self.stop(number=signal.SIGKILL)

    def said(self) -> str:
        """Its log since its last start."""
        return self.log_file.read_bytes()[self._began :].decode(errors="replace")

    def tail(self) -> str:
        """The end of its log."""
        return self.log_file.read_text(errors="replace")[-3000:] if self.log_file.exists() else ""


class GoEdge:
    """edgecore with everything that it writes below one directory.

    Args:
        directory: for configuration, certificates, database and pods; short, for it holds sockets.
        engine: the containers' engine.
        node: node name.
        hub: ``host:port`` of the WebSocket.
        join: ``host:port`` of the certificate server.
        token: join token; empty when certificates are there already.
        options: further members of the configuration, by dotted path.
        verbosity: of its log; ``routes`` needs 4.
    """

    def __init__(
        self, directory: Path, *, engine: Containerd, node: str, hub: str, join: str, token: str = "",
        options: Mapping[str, Any] | None = None, verbosity: int = 4,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.node = node
        self.hub = hub
        self._engine = engine
        self.config_file = directory / "edgecore.yaml"
        for name in ("ca", "certs", "manifests", "kubelet", "dmi", "pods"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(json.dumps(self._config(hub, join, token, options or {}), indent=1))
        command = [str(binary("SKERRY_EDGECORE")), "--config", str(self.config_file), f"--v={verbosity}"]
        environment = {"CHECK_EDGECORE_ENVIRONMENT": "false"}
        self.process = GoProcess("edgecore", command, directory=directory.parent / "logs", environment=environment)

    @property
    def database(self) -> Path:
        """Its SQLite file."""
        return self.directory / "edgecore.db"

    def move(self, hub: str) -> None:
        """Dial another hub from the next start on."""
        text = self.config_file.read_text()
        assert self.hub in text
        self.config_file.write_text(text.replace(self.hub, hub))
        self.hub = hub

    def rows(self, kind: str) -> dict[str, Any]:
        """Stored objects of a type, by key."""
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        try:
            found = connection.execute("SELECT key, value FROM meta WHERE type = ?", (kind,)).fetchall()
        finally:
            connection.close()
        return {key: json.loads(value) for key, value in found}

    def routes(self) -> set[str]:
        """What crossed the wire so far, from its log: ``up|down operation type [source/group]``."""
        text = self.process.log_file.read_text(errors="replace")
        return {
            f"{_WAYS[way]} {operation or '-'} {resource_type(resource)} [{source}/{group}]"
            for way, source, group, operation, resource in _MESSAGE.findall(text)
            if resource
        }

    async def keeps(self, before: Collection[Running]) -> set[Running]:
        """Those of the containers that it keeps after its start.

        Its kubelet sometimes cleans up before it has looked at the pods that it was given, and ends them all: a race
        of its own (kubelet.go, ``syncLoopIteration``), whatever its cloud says. Its log tells which way it went.
        """

        async def has_taken_its_pods() -> str:
            return "" if _TAKEN in self.process.said() else "edgecore has not looked at its pods"

        await until(has_taken_its_pods, within_s=90)
        ended = set(_ENDED.findall(self.process.said()))
        return {container for container in before if container.pod not in ended}

    def clear(self) -> None:
        """Unmount the volumes of pods and remove the directory."""
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.directory}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _config(self, hub: str, join: str, token: str, options: Mapping[str, Any]) -> dict[str, Any]:
        at = str(self.directory)
        certificates = {
            "tlsCaFile": f"{at}/ca/rootCA.crt",
            "tlsCertFile": f"{at}/certs/server.crt",
            "tlsPrivateKeyFile": f"{at}/certs/server.key",
        }
        socket = f"unix://{self._engine.socket}"
        kubelet = {
            "address": "127.0.0.1",
            "readOnlyPort": free_port(),
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": ["none"],
            "containerRuntimeEndpoint": socket,
            "imageServiceEndpoint": socket,
            "makeIPTablesUtilChains": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "podLogsDir": f"{at}/pods",
            "staticPodPath": f"{at}/manifests",
            "volumePluginDir": f"{at}/kubelet/volumeplugins",
            "evictionHard": {},
            "contentType": "application/json",
            "localStorageCapacityIsolation": False,
            "syncFrequency": "5s",
        }
        config: dict[str, Any] = {
            "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
            "kind": "EdgeCore",
            "database": {"dataSource": str(self.database)},
            "modules": {
                "edgeHub": {
                    "enable": True, "heartbeat": 15, "httpServer": f"https://{join}", "token": token,
                    "rotateCertificates": True, **certificates,
                    "websocket": {
                        "enable": True, "server": hub,
                        "handshakeTimeout": 30, "readDeadline": 15, "writeDeadline": 15,
                    },
                },
                "edged": {
                    "enable": True, "hostnameOverride": self.node, "podSandboxImage": PAUSE_IMAGE,
                    "rootDirectory": f"{at}/kubelet", "registerSchedulable": True, "reportEvent": True,
                    "tailoredKubeletConfig": kubelet,
                },
                "deviceTwin": {"enable": True, "dmiSockPath": f"{at}/dmi/"},
                "eventBus": {"enable": False},
                "metaManager": {"enable": True, "metaServer": {"enable": False}},
            },
        }  # fmt: skip
        for path, value in options.items():
            *parents, last = path.split(".")
            place = config
            for name in parents:
                place = place.setdefault(name, {})
            place[last] = value
        return config
