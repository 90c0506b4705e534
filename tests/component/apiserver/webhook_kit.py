"""A webhook server process behind a Service of the API server under test."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from skerry.base import certificates, x509

SERVER = Path(__file__).with_name("webhook_process.py")


@dataclass
class Hook:
    """The running process.

    Args:
        bundle: its authority, as ``caBundle``.
    """

    port: int
    bundle: str
    cert: Path

    def service(self, path: str) -> dict[str, Any]:
        """A ``clientConfig`` through the Service."""
        service = {"namespace": "default", "name": "hook", "path": path, "port": 8443}
        return {"service": service, "caBundle": self.bundle}

    def url(self, path: str) -> dict[str, Any]:
        """A ``clientConfig`` with a URL."""
        return {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.bundle}

    async def calls(self) -> list[dict[str, Any]]:
        """Every call so far."""
        trust = ssl.create_default_context(cadata=base64.b64decode(self.bundle).decode())
        async with aiohttp.ClientSession() as session:
            async with session.get(f"https://127.0.0.1:{self.port}/", ssl=trust) as answer:
                found: list[dict[str, Any]] = json.loads(await answer.read())
                return found


@asynccontextmanager
async def running(directory: Path, api: Any) -> AsyncIterator[Hook]:
    """Start the process, and put it behind the Service ``hook`` in ``default``."""
    authority = x509.new_ca("hooks")
    credential = x509.issue_server(authority, ["hook.default.svc", "127.0.0.1"])
    cert, key = directory / "hook.crt", directory / "hook.key"
    certificates.save(credential, cert, key)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), str(cert), str(key), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 15))
        service = {
            "metadata": {"name": "hook"},
            "spec": {"ports": [{"name": "https", "port": 8443, "targetPort": 8443}], "selector": {"a": "b"}},
        }
        assert (await api.ask("POST", "/api/v1/namespaces/default/services", service))[0] == 201
        await api.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        pod = {"metadata": {"name": "hook"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        assert (await api.ask("POST", "/api/v1/namespaces/default/pods", pod))[0] == 201
        status, answer = await api.ask(
            "PATCH", "/api/v1/namespaces/default/pods/hook/status", {"status": {"podIP": "127.0.0.1"}},
            kind="application/merge-patch+json",
        )  # fmt: skip
        assert status == 200, answer
        behind = {"kind": "Pod", "namespace": "default", "name": "hook"}
        endpoints = {
            "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["127.0.0.9"], "conditions": {"ready": False}},
                {"addresses": ["127.0.0.1"], "conditions": {"ready": True}, "targetRef": behind},
            ],
        }
        slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        status, answer = await api.ask("POST", slices, endpoints)
        assert status == 201, answer
        bundle = base64.b64encode(authority.cert_pem).decode()
        yield Hook(port, bundle, cert)
    finally:
        process.kill()
        await process.wait()
