"""``HttpKubeApi`` passes the contract of ``KubeApi``, over TLS with a client certificate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.kube.served import served

from skerry.kube.http import HttpKubeApi
from skerry.kube.ports import KubeApi
from skerry.testing.contracts.kube_api import KubeApiContract


class TestHttpKubeApi(KubeApiContract):
    @pytest.fixture
    async def api(self, tmp_path: Path) -> AsyncIterator[KubeApi]:
        async with served(tmp_path) as transport:
            yield HttpKubeApi(transport)
