"""A real API server on a loopback port with TLS, and a kubeconfig for its administrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from skerry.apiserver.core import ApiCore
from skerry.apiserver.http import ApiServer
from skerry.app import pki
from skerry.base.x509 import LocalCertifier
from skerry.kube.http import HttpTransport
from skerry.kube.kubeconfig import find


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[HttpTransport]:
    """Serve until the block ends; yields a connection as administrator."""
    files = await pki.prepare(directory / "pki", hosts=["127.0.0.1", "localhost"], certs=LocalCertifier())
    core = ApiCore(database=directory / "api.db", token_key=directory / "sa.key", synchronous="NORMAL")
    await core.start()
    server = ApiServer(core)
    port = await server.listen("127.0.0.1", 0, cert_file=files.cert, key_file=files.key, client_ca_file=files.ca_cert)
    config = directory / "kubeconfig"
    pki.write_kubeconfig(config, files, server=f"https://127.0.0.1:{port}")
    transport = HttpTransport(find(config))
    try:
        yield transport
    finally:
        await transport.aclose()
        await server.aclose()
        await core.aclose()
