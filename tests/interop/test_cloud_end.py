"""A Go cloudcore over our API server passes the contract that our hub passes."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from tests.interop.gocloud import GoCloud, has_token

from skerry.api.crds import crd_manifests
from skerry.api.gvk import NODES, SECRETS, SERVICEACCOUNTS
from skerry.api.status import AlreadyExists
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.http import ApiServer
from skerry.apiserver.local import LocalKubeApi
from skerry.app import pki
from skerry.base import certificates, x509
from skerry.base.x509 import LocalCertifier
from skerry.kube.ports import KubeApi
from skerry.testing.contracts.cloud_end import FIRST, SECOND, CloudEnd, CloudEndContract, node_object
from skerry.testing.hollow import HollowNode, client_tls, connect
from skerry.testing.site import until
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import join

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]


class GoHub:
    """cloudcore as the suite sees it."""

    def __init__(self, api: KubeApi, cloud: GoCloud, directory: Path, ca: certificates.Credential) -> None:
        self.api = api
        self._cloud = cloud
        self._directory = directory
        self._ca = ca

    def connect(self, node: str, *, acks: bool = True) -> AbstractAsyncContextManager[HollowNode]:
        name = join.common_name(node)
        credential = x509.issue_client(self._ca, name, organizations=(c.CERT_ORGANIZATION,))
        tls = client_tls(self._directory, credential, self._ca.cert_pem)
        return connect(f"wss://127.0.0.1:{self._cloud.hub}", node, tls, is_skerry=False, acks=acks)


async def authority(api: KubeApi) -> certificates.Credential:
    """cloudcore's own, from the Secret in which it keeps it."""
    data = (await api.get(SECRETS, "casecret", namespace="kubeedge"))["data"]
    return certificates.Credential(base64.b64decode(data["cadata"]), base64.b64decode(data["cakeydata"]))


class TestGoCloudcore(CloudEndContract):
    @pytest.fixture
    async def end(self, tmp_path: Path) -> AsyncIterator[CloudEnd]:
        files = await pki.prepare(tmp_path / "pki", hosts=("127.0.0.1",), certs=LocalCertifier())
        core = ApiCore(
            database=tmp_path / "api.db", token_key=files.token_key, synchronous="NORMAL", crds=crd_manifests()
        )
        await core.start()
        api = LocalKubeApi(core, user=User("test", (MASTERS,)))
        await api.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
        server = ApiServer(core)
        port = await server.listen(
            "127.0.0.1", 0, cert_file=files.cert, key_file=files.key, client_ca_file=files.ca_cert
        )
        kubeconfig = tmp_path / "kubeconfig"
        pki.write_kubeconfig(kubeconfig, files, server=f"https://127.0.0.1:{port}")
        for node in (FIRST, SECOND):  # a Go hub serves nodes that it can find
            with contextlib.suppress(AlreadyExists):
                await api.create(NODES, node_object(node))
        cloud = GoCloud(tmp_path / "cloud", kubeconfig=kubeconfig)
        await cloud.process.start()
        try:
            await until(lambda: has_token(cloud, api), within_s=60)
            yield GoHub(api, cloud, tmp_path / "cloud", await authority(api))
        finally:
            await cloud.process.stop()
            await server.aclose()
            await core.aclose()
