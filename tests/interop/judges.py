"""An embedded API server with upstream's judges around it: hollow nodes, kube-controller-manager, kube-scheduler."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from tests.interop.goedge import GoProcess, binary

from skerry.base import json
from skerry.base.net.listening import free_port
from skerry.kube import kubeconfig as credentials
from skerry.kube.http import HttpKubeApi, HttpTransport

_FAILED = re.compile(
    r"reflector\.go|Failed to watch|failed to list|unable to sync caches|Unauthorized|is forbidden", re.I
)
_HARMLESS = re.compile(r"context canceled|use of closed network connection|Watch closed|watch of .* ended with")


class Bench:
    """One embedded control plane on free ports.

    Args:
        directory: for data and logs.
        controllers: control loops that run here, as ``--controllers`` takes them.
        address: where it listens.
    """

    def __init__(self, directory: Path, *, controllers: str = "*", address: str = "127.0.0.1") -> None:
        self._directory = directory
        self.data = directory / "cloud"
        command = [
            sys.executable, "-m", "skerry.cli.main", "cloud", "run", "--data", str(self.data), "--listen", address,
            "--advertise", address, "--ports", "any", "--log-format", "text", "-o", "json",
            f"--controllers={controllers}",
        ]  # fmt: skip
        self.cloud = GoProcess("cloud", command, directory=directory / "logs")
        self._transport: HttpTransport | None = None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.data / "admin.kubeconfig"

    @property
    def api(self) -> HttpKubeApi:
        """Its objects, as administrator."""
        assert self._transport is not None
        return HttpKubeApi(self._transport)

    async def start(self, stack: AsyncExitStack) -> None:
        """Start the cloud and wait until it serves."""
        stack.push_async_callback(self.cloud.stop)
        await self.cloud.start()
        async with asyncio.timeout(60):
            while not self._serves():
                assert self.cloud.is_running, self.cloud.tail()
                await asyncio.sleep(0.1)
        self._transport = HttpTransport(credentials.find(self.kubeconfig))
        stack.push_async_callback(self._transport.aclose)

    async def run(self, stack: AsyncExitStack, process: GoProcess) -> GoProcess:
        """Start a program that ends with the stack."""
        stack.push_async_callback(process.stop)
        await process.start()
        return process

    def hollow_nodes(self, count: int) -> GoProcess:
        """Nodes without containers."""
        command = [sys.executable, "-m", "tests.interop.kubelet", str(self.kubeconfig), "--nodes", str(count)]
        return self._process("kubelets", command)

    def controller_manager(self, controllers: str = "*") -> GoProcess:
        """kube-controller-manager with the keys of this cluster."""
        pki = self.data / "pki"
        command = [
            str(binary("SKERRY_KUBE_CONTROLLER_MANAGER")), "--kubeconfig", str(self.kubeconfig), "--leader-elect=false",
            "--service-account-private-key-file", str(pki / "sa.key"), "--root-ca-file", str(pki / "ca.crt"),
            "--cluster-signing-cert-file", str(pki / "ca.crt"), "--cluster-signing-key-file", str(pki / "ca.key"),
            "--allocate-node-cidrs=false", "--bind-address=127.0.0.1", "--secure-port=0",
            f"--controllers={controllers}",
        ]  # fmt: skip
        return self._process("kube-controller-manager", command)

    def scheduler(self) -> GoProcess:
        """kube-scheduler."""
        command = [
            str(binary("SKERRY_KUBE_SCHEDULER")), "--kubeconfig", str(self.kubeconfig), "--leader-elect=false",
            f"--secure-port={free_port()}", "--bind-address=127.0.0.1",
        ]  # fmt: skip
        return self._process("kube-scheduler", command)

    def _process(self, name: str, command: list[str]) -> GoProcess:
        return GoProcess(name, command, directory=self._directory / "logs")

    def _serves(self) -> bool:
        try:
            return bool(json.loads((self.data / "run.json").read_bytes())["ready"])
        except (OSError, json.JsonError, KeyError):
            return False


def failing_informers(log: str) -> list[str]:
    """Lines of a Go program's log that tell of a list or watch that failed.

    Args:
        log: klog text; only lines of level E and W count.
    """
    lines = [line for line in log.splitlines() if line[:1] in ("E", "W") and _FAILED.search(line)]
    return [line for line in lines if not _HARMLESS.search(line)]
