"""Certificate requests from creation to certificate, against a real API server on disk."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.component.controllers.conftest import ADMIN

from skerry.api.gvk import CLUSTERROLEBINDINGS, CSRS, Object
from skerry.apiserver.auth.authn import User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.base import certificates, x509
from skerry.base.aio.supervise import Supervisor, wait_for_condition
from skerry.base.certificates import Credential
from skerry.base.certifier import ChildCertifier
from skerry.controllers.certificates.loop import CertificateController
from skerry.controllers.certificates.rules import API_CLIENT, KUBELET_CLIENT
from skerry.kube.informer import InformerSet

NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))


class World:
    """An API server and the part under test."""

    def __init__(self, core: ApiCore) -> None:
        self.core = core
        self.api = LocalKubeApi(core, user=ADMIN)
        self.authority = x509.new_ca("kubernetes")
        self.informers = InformerSet(self.api)

    async def ask(
        self, user: User, signer: str, usages: list[str], *, name: str = "r", seconds: int | None = None
    ) -> None:
        der, _ = x509.new_csr("system:node:n1", organizations=["system:nodes"])
        pem = certificates.to_pem("CERTIFICATE REQUEST", der)
        spec: Object = {"request": base64.b64encode(pem).decode(), "signerName": signer, "usages": usages}
        spec |= {"expirationSeconds": seconds} if seconds is not None else {}
        await LocalKubeApi(self.core, user=user).create(CSRS, {"metadata": {"name": name}, "spec": spec})

    async def approve(self, name: str = "r") -> None:
        request = await self.api.get(CSRS, name)
        condition = {"type": "Approved", "status": "True", "reason": "ByTest"}
        await self.api.update(CSRS, {**request, "status": {"conditions": [condition]}}, subresource="approval")

    async def until(self, holds: Callable[[Object], bool], name: str = "r") -> Object:
        changed = asyncio.Event()
        informer = self.informers.of(CSRS)
        informer.on_event(lambda kind, old, new: changed.set())
        assert await wait_for_condition(
            lambda: (found := informer.get(name)) is not None and holds(found), changed, timeout_s=10
        ), informer.get(name)
        return await self.api.get(CSRS, name)


def has_certificate(request: Object) -> bool:
    return bool((request.get("status") or {}).get("certificate"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    core = ApiCore(database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="OFF")
    await core.start()
    async with Supervisor("test") as tasks:
        made = World(core)
        certs = ChildCertifier()

        async def authority() -> Credential:
            return made.authority

        part = CertificateController(made.api, informers=made.informers, authority=authority, certs=certs)
        tasks.keep("informers", made.informers.run)
        tasks.keep("part", part.run)
        yield made
    await certs.aclose()
    await core.aclose()


async def test_a_request_waits_for_approval_and_is_then_signed(world: World) -> None:
    await world.ask(ADMIN, API_CLIENT, ["client auth", "digital signature"], seconds=3600)
    await world.approve()
    done = await world.until(has_certificate)
    cert = base64.b64decode(done["status"]["certificate"])
    info = x509.read_certificate(cert)
    assert (info.common_name, info.organizations) == ("system:node:n1", ("system:nodes",))
    assert x509.is_issued_by(cert, world.authority.cert_der)
    assert 3600 <= info.not_after_s - info.not_before_s <= 3600 + 301


async def test_a_node_that_asks_for_its_own_certificate_gets_it_without_a_person(world: World) -> None:
    binding = {
        "metadata": {"name": "renew"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
    }  # fmt: skip
    await world.api.create(CLUSTERROLEBINDINGS, binding)
    await world.ask(NODE, KUBELET_CLIENT, ["client auth", "digital signature", "key encipherment"])
    done = await world.until(has_certificate)
    assert done["status"]["conditions"][0]["reason"] == "AutoApproved"


async def test_what_a_signer_does_not_sign_fails_with_the_reason(world: World) -> None:
    await world.ask(ADMIN, KUBELET_CLIENT, ["server auth"])
    await world.approve()
    done = await world.until(lambda request: len((request.get("status") or {}).get("conditions") or ()) == 2)
    assert not has_certificate(done)
    assert "usages did not match" in done["status"]["conditions"][1]["message"]
