"""The address of a node whose interface gets another one, in a network namespace."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from skerry.edge.node.address import NodeAddress

_NODE = """
import asyncio, subprocess, sys
from contextlib import AsyncExitStack
from pathlib import Path
from skerry.api.gvk import NODES, PODS
from skerry.testing.site import Site, until

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def leave_from(address):
    # Cloud and agent are one machine here, so the route to the cloud says which address the node leaves from.
    ip("addr", "add", f"{address}/24", "dev", "net0")
    ip("route", "replace", "table", "local", "local", "10.9.0.1", "dev", "net0", "src", address)

class Near(Site):
    async def _put_proxies(self, stack):
        pass  # they would be on loopback, which is no node's address

async def main(data):
    ip("link", "set", "lo", "up")
    ip("link", "add", "net0", "type", "bridge")
    ip("link", "set", "net0", "up")
    ip("addr", "add", "10.9.0.1/24", "dev", "net0")
    leave_from("10.9.0.5")
    async with AsyncExitStack() as stack:
        named = {"SKERRY_CLOUD_ADVERTISE": "10.9.0.1"}
        at = Near(data, runtime="process", listen="10.9.0.1", environment=named)
        await at.start(stack)
        async def told(wanted):
            node = await at.api.get(NODES, at.node)
            found = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
            return "" if found == [wanted] else f"the node tells {found}"
        async def host(wanted):
            status = (await at.api.get(PODS, "web", namespace="default")).get("status") or {}
            found = (status.get("hostIP"), status.get("phase"))
            return "" if found == (wanted, "Running") else f"the pod tells {found}"
        container = {"name": "app", "image": "none", "command": ["/bin/sleep", "600"]}
        spec = {"nodeName": at.node, "terminationGracePeriodSeconds": 0, "containers": [container]}
        await at.api.create(PODS, {"metadata": {"name": "web"}, "spec": spec}, namespace="default")
        await until(lambda: told("10.9.0.5"), within_s=60)
        await until(lambda: host("10.9.0.5"), within_s=60)
        leave_from("10.9.0.77")
        await until(lambda: told("10.9.0.77"), within_s=60)
        await until(lambda: host("10.9.0.77"), within_s=90)
        await at.reset()
    print("told")

asyncio.run(main(Path(sys.argv[1])))
"""
_SCRIPT = """
import asyncio, subprocess
from skerry.edge.node.address import NodeAddress

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def main():
    ip("link", "add", "net0", "type", "bridge")
    ip("link", "set", "net0", "up")
    ip("addr", "add", "10.9.0.5/24", "dev", "net0")
    address = NodeAddress("", towards=lambda: ("10.9.0.1", 10000))
    said = [await address.now()]
    ip("addr", "del", "10.9.0.5/24", "dev", "net0")
    said.append(await address.now())
    ip("addr", "add", "10.9.0.77/24", "dev", "net0")
    said.append(await address.now())
    print(*said)

asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and ip")
async def test_another_address_is_told_and_none_is_not() -> None:
    command = ["unshare", "-n", sys.executable, "-c", _SCRIPT]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["10.9.0.5", "10.9.0.5", "10.9.0.77"], done.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and ip")
async def test_the_cloud_is_told_of_another_address(tmp_path: Path) -> None:
    command = ["unshare", "-n", sys.executable, "-c", _NODE, str(tmp_path)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.stdout.split()[-1:] == ["told"], done.stderr[-3000:]


async def test_a_configured_address_holds() -> None:
    assert await NodeAddress("192.0.2.9", towards=lambda: ("127.0.0.1", 1)).now() == "192.0.2.9"
