"""A real API server on a loopback port, with its own authority and an administrator's client."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from skerry.apiserver.audit import AuditLog
from skerry.apiserver.core import ApiCore
from skerry.apiserver.http import ApiServer
from skerry.app import pki
from skerry.base import certificates, json, x509
from skerry.base.x509 import LocalCertifier
from skerry.kube.ports import NodeConnector


@dataclass
class Site:
    """The server, and what clients need to reach it."""

    core: ApiCore
    server: ApiServer
    files: pki.ApiFiles
    url: str
    directory: Path

    def tls(self, user: str = "", *groups: str) -> ssl.SSLContext:
        """A client's TLS, with a certificate for ``user`` (the administrator's when empty)."""
        context = ssl.create_default_context(cafile=str(self.files.ca_cert))
        if not user:
            context.load_cert_chain(self.files.admin_cert, self.files.admin_key)
            return context
        credential = x509.issue_client(x509.load(self.files.ca_cert, self.files.ca_key), user, organizations=groups)
        cert, key = self.directory / "user.crt", self.directory / "user.key"
        certificates.save(credential, cert, key)
        context.load_cert_chain(cert, key)
        return context

    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        path = self.directory / "kubeconfig"
        pki.write_kubeconfig(path, self.files, server=self.url)
        return path


class Api:
    """Short words for requests."""

    def __init__(self, session: aiohttp.ClientSession, url: str, tls: ssl.SSLContext) -> None:
        self._session = session
        self._url = url
        self._tls = tls

    def open(self, method: str, path: str, **more: Any) -> Any:
        """The raw request, as a context manager."""
        return self._session.request(method, self._url + path, ssl=self._tls, **more)

    async def ask(
        self, method: str, path: str, obj: Any = None, *, kind: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        """Status and decoded body."""
        data: Any = obj if isinstance(obj, bytes | None) else json.dumps(obj)
        if data is not None and len(data) > 1_000_000:
            data = io.BytesIO(data)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            sent["Content-Type"] = kind
        async with self.open(method, path, data=data, headers=sent) as answer:
            body = await answer.read()
            if answer.content_type.endswith("json"):
                return answer.status, json.loads(body)
            return answer.status, body.decode()


Serve = Callable[..., Any]


@pytest.fixture(scope="session")
def shared_pki(tmp_path_factory: pytest.TempPathFactory) -> pki.ApiFiles:
    return asyncio.run(
        pki.prepare(tmp_path_factory.mktemp("pki"), hosts=["localhost", "127.0.0.1"], certs=LocalCertifier())
    )


@pytest.fixture
async def serve(tmp_path: Path, shared_pki: pki.ApiFiles) -> AsyncIterator[Serve]:
    """Starts servers on this test's data; they are closed afterwards."""
    sites: list[Site] = []

    async def start(
        *, nodes: NodeConnector | None = None, dials_itself: bool = False, audit: AuditLog | None = None, **more: Any
    ) -> Site:
        more.setdefault("synchronous", "NORMAL")
        core = ApiCore(database=tmp_path / "api.db", token_key=shared_pki.token_key, **more)
        await core.start()
        server = ApiServer(core, nodes=nodes, dials_itself=dials_itself, audit=audit)
        port = await server.listen(
            "127.0.0.1", 0, cert_file=shared_pki.cert, key_file=shared_pki.key, client_ca_file=shared_pki.ca_cert
        )
        site = Site(core, server, shared_pki, f"https://127.0.0.1:{port}", tmp_path)
        sites.append(site)
        return site

    yield start
    for site in sites:
        await site.server.aclose()
        await site.core.aclose()


@pytest.fixture
async def site(serve: Serve) -> Site:
    started: Site = await serve()
    return started


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def client(session: aiohttp.ClientSession) -> Callable[[Site], Api]:
    """An administrator's client of some server."""
    return lambda site: Api(session, site.url, site.tls())


@pytest.fixture
async def api(site: Site, session: aiohttp.ClientSession) -> Api:
    return Api(session, site.url, site.tls())


@pytest.fixture
def as_user(site: Site, session: aiohttp.ClientSession) -> Callable[..., Api]:
    """A client of another user."""
    return lambda user, *groups: Api(session, site.url, site.tls(user, *groups))
