"""The checks before a join, against a real join server; nothing is changed by them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry import __version__
from skerry.edge.link.checks import Check, CheckFailed, JoinChecks
from skerry.testing.fakekube import FakeKubeApi
from skerry.testing.hubkit import CloudKit, cloud
from skerry.testing.netproxy import net_proxy


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[CloudKit]:
    async with cloud(FakeKubeApi(), tmp_path / "cloud") as kit:
        yield kit


async def found() -> str:
    return "process"


async def missing() -> str:
    raise CheckFailed("no container engine found", hint="install containerd")


async def run(kit: CloudKit, data: Path, *, token: str = "", host: str = "127.0.0.1", port: int = 0, probe=found):  # type: ignore[no-untyped-def]
    text = token or (await kit.tokens.create(node="edge-1"))[1]
    told: list[Check] = []
    port = port or int(kit.join_url.rsplit(":", 1)[1])
    checks = JoinChecks(host, port, token=text, node="", data=data, probe_runtime=probe, tell=told.append)
    passed = await checks.run()
    assert told == checks.checks
    return passed, {check.name: check for check in told}, checks


async def test_a_good_join_passes_every_check(kit: CloudKit, tmp_path: Path) -> None:
    passed, checks, runner = await run(kit, tmp_path / "data")
    assert passed, checks
    assert (runner.node, runner.runtime) == ("edge-1", "process")
    assert checks["join server"].detail == f"Skerry {__version__}"
    assert "free" in checks["node name"].detail
    assert list(tmp_path.joinpath("data").iterdir()) == []


async def test_a_token_of_another_cloud_is_found_before_it_is_sent(kit: CloudKit, tmp_path: Path) -> None:
    text = (await kit.tokens.create(node="edge-1"))[1]
    passed, checks, _ = await run(kit, tmp_path / "data", token="0" * 64 + text[64:])
    assert not passed
    assert "another hash" in checks["authority and TLS"].detail
    assert "join server" not in checks
    assert checks["runtime"].is_ok


async def test_an_address_that_the_certificate_does_not_name_is_found(kit: CloudKit, tmp_path: Path) -> None:
    async with net_proxy("127.0.0.1", int(kit.join_url.rsplit(":", 1)[1]), bind="127.0.0.2") as proxy:
        passed, checks, _ = await run(kit, tmp_path / "data", host="127.0.0.2", port=proxy.port)
    assert not passed
    assert 'not for "127.0.0.2"' in checks["join server"].detail
    assert "advertise" in checks["join server"].remedy


async def test_this_machine_is_checked_even_without_a_cloud(kit: CloudKit, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    passed, checks, _ = await run(kit, blocked / "data", host="name.invalid", probe=missing)
    assert not passed
    failed = {name: check.remedy for name, check in checks.items() if not check.is_ok}
    assert set(failed) == {"name resolution", "data directory", "runtime"}
    assert all(failed.values())
