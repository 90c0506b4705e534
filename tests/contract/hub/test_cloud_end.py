"""Our hub passes the contract of a cloud, on the fake cluster and on the embedded API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from skerry.api.gvk import SERVICEACCOUNTS
from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.cloud.hub.listener import HubLimits
from skerry.kube.ports import KubeApi
from skerry.testing.contracts.cloud_end import CloudEnd, StrictCloudContract
from skerry.testing.fakekube import FakeKubeApi
from skerry.testing.hollow import HollowNode, connect
from skerry.testing.hubkit import CloudKit, cloud


class Kit:
    """Our hub as the suite sees it; nodes come as a Go edge would, without our header."""

    def __init__(self, kit: CloudKit) -> None:
        self.api = kit.api
        self._kit = kit

    def connect(self, node: str, *, acks: bool = True) -> AbstractAsyncContextManager[HollowNode]:
        tls = self._kit.tls(self._kit.node_credential(node))
        return connect(self._kit.hub_url, node, tls, is_skerry=False, acks=acks)


class TestHub(StrictCloudContract):
    @pytest.fixture(params=["fake", "embedded"])
    async def api(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KubeApi]:
        if request.param == "fake":
            yield FakeKubeApi()
            return
        core = ApiCore(database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="NORMAL")
        await core.start()
        local = LocalKubeApi(core, user=User("cloud", (MASTERS,)))
        await local.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
        yield local
        await core.aclose()

    @pytest.fixture
    async def end(self, api: KubeApi, tmp_path: Path) -> AsyncIterator[CloudEnd]:
        async with cloud(api, tmp_path / "cloud", hub_limits=HubLimits(retransmit_first_s=0.2)) as kit:
            yield Kit(kit)
