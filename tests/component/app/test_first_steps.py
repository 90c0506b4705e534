"""Joining and starting that fail: what is said, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from skerry.api.gvk import NAMESPACES
from skerry.app.children import Child, process_environment
from skerry.kube import kubeconfig as credentials
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.testing.site import Site

pytestmark = pytest.mark.timeout(120)

_LIMIT_S = 60


def skerry(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "skerry.cli.main", *arguments], capture_output=True, text=True, timeout=_LIMIT_S,
        check=False,
    )  # fmt: skip


async def test_a_token_that_is_used_up_fails_the_check_and_the_join_and_leaves_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, runtime="process")
    try:
        await site.cloud.start()
        cloud = str(tmp_path / "cloud")
        token = await site.told("token", "create", "--node", "edge-1", "--data", cloud)
        assert "127.0.0.1 is reached from this machine only" in token["warning"]
        assert token["join"]["address"] == site.cloud.ready["endpoints"]["join"].partition("://")[2]
        given = await site.told("token", "create", "--address", "[2001:db8::1]:30002", "--data", cloud)
        assert given["warning"] == ""
        assert "skerry join [2001:db8::1]:30002 --token" in given["command"]

        await site.told("token", "revoke", token["id"], "--data", cloud)
        data = tmp_path / "edge"
        join = ["join", token["join"]["address"], "--token", token["token"], "--data", str(data), "--no-service"]
        join += ["--runtime", "process", "-o", "json"]
        for more in (["--check-only"], []):
            refused = await asyncio.to_thread(skerry, *join, *more)
            assert refused.returncode == 3, refused.stderr
            failed = [check for check in json.loads(refused.stdout)["checks"] if not check["ok"]]
            assert [check["check"] for check in failed] == ["token use"]
            assert "revoked" in refused.stderr and "what to do" in refused.stderr
            assert not data.exists()
        fresh = await site.told("token", "create", "--node", "edge-2", "--data", cloud)
        words = ["join", fresh["join"]["address"], "--token", fresh["token"], "--data", str(data), "--no-service"]
        joined = await asyncio.to_thread(skerry, *words, "--runtime", "process")
        assert joined.returncode == 0, joined.stderr
        assert (data / "node.json").exists()
    finally:
        await site.close()


async def test_a_join_that_fails_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    site = Site(tmp_path, runtime="process")
    try:
        await site.cloud.start()
        token = await site.told("token", "create", "--node", "edge-1", "--data", str(tmp_path / "cloud"))
        data = tmp_path / "edge"
        (data / "edge.yaml").mkdir(parents=True)  # in the way of the configuration, the last but one step
        join = ["join", token["join"]["address"], "--token", token["token"], "--data", str(data), "--no-service"]
        failed = await asyncio.to_thread(skerry, *join, "--runtime", "process")
        assert failed.returncode == 1
        assert "edge.yaml" in failed.stderr and "Errno" not in failed.stderr and "Traceback" not in failed.stderr
        assert [path.name for path in data.iterdir()] == ["edge.yaml"]
        (data / "edge.yaml").rmdir()
        joined = await asyncio.to_thread(
            skerry, *join, "--runtime", "process"
        )  # the token is the node's until it has connected
        assert joined.returncode == 0, joined.stderr
    finally:
        await site.close()


def test_a_taken_port_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        data = tmp_path / "cloud"
        failed = skerry("cloud", "run", "--data", str(data), "--listen", "127.0.0.1", "--ports", str(min(port, 65_000)))
    assert failed.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in failed.stderr
    assert "another program uses port" in failed.stderr
    assert not data.exists()


async def test_status_sees_a_cloud_and_an_agent_that_run_by_themselves(tmp_path: Path) -> None:
    site = Site(tmp_path, runtime="process")
    async with AsyncExitStack() as stack:
        await site.start(stack)
        cloud, edge = tmp_path / "cloud", tmp_path / "edge"
        found = await asyncio.to_thread(skerry, "status", "--data", str(cloud), "-o", "json")
        assert found.returncode == 0, found.stderr
        facts = json.loads(found.stdout)
        assert facts["running"] is True
        assert facts["pids"] == {"cloud": site.cloud.ready["pids"]["cloud"]}
        assert facts["endpoints"]["hub"] == site.cloud.ready["endpoints"]["hub"]
        text = await asyncio.to_thread(skerry, "status", "--data", str(edge))
        assert f"The agent of node {site.node} serves" in text.stdout
        await site.agent.stop()
        gone = await asyncio.to_thread(skerry, "status", "--data", str(edge))
        assert gone.returncode == 1
        assert f"nothing runs from {edge}" in gone.stdout


@pytest.mark.parametrize("listen", ["127.0.0.2", "::1"])
async def test_a_cloud_is_reached_by_tls_at_the_address_that_it_listens_on(tmp_path: Path, listen: str) -> None:
    if listen == "::1" and not Path("/proc/sys/net/ipv6").exists():
        listen = "127.0.0.3"
    words = ["cloud", "run", "--data", str(tmp_path / "cloud"), "--listen", listen, "--ports", "any", "-o", "json"]
    cloud = Child("cloud", words, log_file=tmp_path / "cloud.log", environment=process_environment())
    ready = await cloud.start()
    transport = HttpTransport(credentials.find(Path(ready["kubeconfig"])))
    try:
        assert listen in ready["endpoints"]["api"]
        assert (await HttpKubeApi(transport).get(NAMESPACES, "default"))["metadata"]["name"] == "default"
    finally:
        await transport.aclose()
        await cloud.stop()
