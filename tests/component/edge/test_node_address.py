"""The address of a node whose interface gets another one, in a network namespace."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys

import pytest

from skerry.edge.node.address import NodeAddress

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


async def test_a_configured_address_holds() -> None:
    assert await NodeAddress("192.0.2.9", towards=lambda: ("127.0.0.1", 1)).now() == "192.0.2.9"
