"""``LocalKubeApi`` passes the contract of ``KubeApi``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.apiserver.auth.authn import MASTERS, User
from skerry.apiserver.core import ApiCore
from skerry.apiserver.local import LocalKubeApi
from skerry.kube.ports import KubeApi
from skerry.testing.contracts.kube_api import KubeApiContract


class TestLocalKubeApi(KubeApiContract):
    @pytest.fixture
    async def api(self, tmp_path: Path) -> AsyncIterator[KubeApi]:
        core = ApiCore(database=tmp_path / "api.db", token_key=tmp_path / "sa.key", synchronous="NORMAL")
        await core.start()
        yield LocalKubeApi(core, user=User("test", (MASTERS,)))
        await core.aclose()
