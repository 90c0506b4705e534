"""A real control plane for the interop tests: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

``SKERRY_KUBE_APISERVER``, ``SKERRY_KUBE_CONTROLLER_MANAGER`` and ``SKERRY_KUBE_SCHEDULER`` name the programs; etcd is
the one of ``SKERRY_ETCD`` if that runs with plain flags, else Debian's package.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tests.interop.goedge import GoProcess, binary
from tests.parts import Part, PartMissing, fetch

from skerry.api.crds import crd_manifests
from skerry.api.gvk import CRDS, SERVICEACCOUNTS
from skerry.app import pki
from skerry.base import certificates, x509
from skerry.base.net.listening import free_port
from skerry.base.x509 import LocalCertifier
from skerry.kube import kubeconfig as credentials
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.testing.site import until


class Cluster:
    """The four programs on free ports of 127.0.0.1.

    Args:
        directory: for data, keys and logs.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self.kubeconfig = directory / "admin.kubeconfig"
        self._transport: HttpTransport | None = None
        self.parts: list[GoProcess] = []

    @property
    def api(self) -> HttpKubeApi:
        """Its objects, as administrator."""
        assert self._transport is not None
        return HttpKubeApi(self._transport)

    async def start(self, stack: AsyncExitStack) -> None:
        """Start everything, install the CRDs, wait until service accounts are made."""
        self._files = await pki.prepare(
            self._directory / "pki", hosts=("127.0.0.1", "10.0.0.1"), certs=LocalCertifier()
        )
        certificates.save(x509.new_ca("tokens"), self._files.directory / "sa.crt", self._files.token_key)
        pki.write_kubeconfig(self.kubeconfig, self._files, server=f"https://127.0.0.1:{self._port}")
        client = free_port()
        self.parts = [
            self._etcd(client, free_port()), self._apiserver(client), self._controllers(), self._scheduler(),
        ]  # fmt: skip
        for part in self.parts:
            stack.push_async_callback(part.stop)
        self._transport = HttpTransport(credentials.find(self.kubeconfig))
        stack.push_async_callback(self._transport.aclose)
        etcd, apiserver, *rest = self.parts
        await etcd.start()
        await apiserver.start()

        async def serves() -> str:
            await self.api.list(CRDS)
            return ""

        await until(serves, within_s=60)
        for manifest in crd_manifests():
            await self.api.create(CRDS, manifest)
        for part in rest:
            await part.start()

        async def has_accounts() -> str:
            await self.api.get(SERVICEACCOUNTS, "default", namespace="default")
            return ""

        await until(has_accounts, within_s=60)

    def _etcd(self, client: int, peer: int) -> GoProcess:
        at = f"http://127.0.0.1:{client}"
        own = f"http://127.0.0.1:{peer}"
        program = _etcd_program()
        command = [
            str(program.path), "--data-dir", str(self._directory / "etcd"), "--listen-client-urls", at,
            "--advertise-client-urls", at, "--listen-peer-urls", own, "--initial-advertise-peer-urls", own,
            "--initial-cluster", f"default={own}", "--unsafe-no-fsync",
        ]  # fmt: skip
        return GoProcess("etcd", command, directory=self._logs, environment=program.environment)

    def _apiserver(self, etcd: int) -> GoProcess:
        files = self._files
        command = [
            str(binary("SKERRY_KUBE_APISERVER")), "--etcd-servers", f"http://127.0.0.1:{etcd}",
            "--bind-address", "127.0.0.1", "--secure-port", str(self._port),
            "--cert-dir", str(self._directory / "certs"),
            "--tls-cert-file", str(files.cert), "--tls-private-key-file", str(files.key),
            "--client-ca-file", str(files.ca_cert), "--service-cluster-ip-range", "10.0.0.0/24",
            "--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
            "--service-account-key-file", str(files.token_key),
            "--service-account-signing-key-file", str(files.token_key), "--authorization-mode", "Node,RBAC",
            "--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none",
        ]  # fmt: skip
        return GoProcess("kube-apiserver", command, directory=self._logs)

    def _controllers(self) -> GoProcess:
        files = self._files
        command = [
            str(binary("SKERRY_KUBE_CONTROLLER_MANAGER")), "--kubeconfig", str(self.kubeconfig),
            "--service-account-private-key-file", str(files.token_key), "--root-ca-file", str(files.ca_cert),
            "--leader-elect=false", "--secure-port", "0", "--controllers", "*",
        ]  # fmt: skip
        return GoProcess("kube-controller-manager", command, directory=self._logs)

    def _scheduler(self) -> GoProcess:
        command = [
            str(binary("SKERRY_KUBE_SCHEDULER")), "--kubeconfig", str(self.kubeconfig), "--leader-elect=false",
            "--secure-port", "0",
        ]  # fmt: skip
        return GoProcess("kube-scheduler", command, directory=self._logs)

    @property
    def _logs(self) -> Path:
        return self._directory / "logs"


def _etcd_program() -> Part:
    try:
        return fetch("etcd", "etcd-server")
    except PartMissing as exc:
        pytest.skip(str(exc))
