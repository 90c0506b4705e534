"""The checks before a join, against a real join server; nothing is changed by them."""

from __future__ import annotations

import asyncio
import sys
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


async def in_a_file() -> str:
    return "in a file"


async def missing() -> str:
    raise CheckFailed("no container engine found", hint="install containerd")


async def run(kit: CloudKit, data: Path, *, token: str = "", host: str = "127.0.0.1", port: int = 0, probe=found):  # type: ignore[no-untyped-def]
    text = token or (await kit.tokens.create(node="edge-1"))[1]
    told: list[Check] = []
    port = port or int(kit.join_url.rsplit(":", 1)[1])
    checks = JoinChecks(
        host, port, token=text, node="", data=data, probe_runtime=probe, probe_key=in_a_file, tell=told.append
    )
    passed = await checks.run()
    assert told == checks.checks
    return passed, {check.name: check for check in told}, checks


async def test_a_good_join_passes_every_check(kit: CloudKit, tmp_path: Path) -> None:
    passed, checks, runner = await run(kit, tmp_path / "data")
    assert passed, checks
    assert (runner.node, runner.runtime) == ("edge-1", "process")
    assert checks["join server"].detail == f"Skerry {__version__}"
    assert "free" in checks["node name"].detail
    assert not (tmp_path / "data").exists()


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


async def test_a_used_up_token_is_told_before_anything_is_done(kit: CloudKit, tmp_path: Path) -> None:
    token, text = await kit.tokens.create(node="edge-1")
    await kit.tokens.spend(token.id, "edge-1")
    passed, checks, _ = await run(kit, tmp_path / "data", token=text)
    assert not passed
    assert "used up" in checks["token use"].detail
    assert checks["token use"].remedy
    assert "version" not in checks


async def test_a_revoked_token_is_told_before_anything_is_done(kit: CloudKit, tmp_path: Path) -> None:
    token, text = await kit.tokens.create(node="edge-1")
    await kit.tokens.revoke(token.id)
    passed, checks, _ = await run(kit, tmp_path / "data", token=text)
    assert not passed
    assert "revoked" in checks["token use"].detail


async def test_the_check_uses_nothing_up(kit: CloudKit, tmp_path: Path) -> None:
    _, text = await kit.tokens.create(uses=1)
    for _ in range(2):
        passed, checks, _ = await run(kit, tmp_path / "data", token=text)
        assert passed, checks
    assert (await kit.tokens.list())[0].uses_left == 1


@pytest.mark.parametrize(("away", "fits"), [(0, True), (1, True), (2, True), (3, False)])
async def test_a_cloud_up_to_two_minor_versions_away_is_joined_and_another_refused_with_both_named(
    tmp_path: Path, away: int, fits: bool
) -> None:
    major, minor, *_ = __version__.split(".")
    theirs = f"{major}.{int(minor) + away}.0"
    async with cloud(FakeKubeApi(), tmp_path / "cloud", version=theirs) as kit:
        token = (await kit.tokens.create(node="edge-1"))[1]
        words = ["join", kit.join_url.rpartition("/")[2], "--token", token, "--runtime", "process", "--check-only"]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "skerry.cli.main", *words, "--data", str(tmp_path / "data"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, err = await child.communicate()
    assert child.returncode == (0 if fits else 3), err.decode()
    if not fits:
        assert __version__ in err.decode() and theirs in err.decode()
        assert f"install Skerry {theirs}" in err.decode()
    assert not (tmp_path / "data").exists()
