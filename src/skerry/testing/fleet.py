"""Many hollow nodes in processes of their own: ``python -m skerry.testing.fleet URL FOLDER FIRST LAST LINK SOURCE``.

A node dials again whenever its link ends, keeps what it holds over that, and registers itself. Links: ``skerry``
(features agreed on, leases folded) or ``plain`` (KubeEdge wire; each node renews its Lease every 10 s and sends a
keepalive every 15 s). A fleet takes one word a line on stdin and answers with one line of JSON; ``Fleet`` is the other
end. Certificates come from ``FOLDER``: ``ca.crt``, ``NUMBER.crt``, ``NUMBER.key``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from skerry.base import certificates, json, x509
from skerry.base.aio.supervise import Supervisor
from skerry.testing.hollow import HollowNode, Refusal, connect
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge import join, peers
from skerry.wire.kubeedge.envelope import Envelope

FIRST_DIALS_AT_ONCE = 32
"""Of one process; when nodes come back after an outage there is no such limit."""
LEASE_NAMESPACE = "kube-node-lease"
REGISTER_S = 60.0
_LINE_BYTES = 64 * 1024 * 1024


def node_name(number: int) -> str:
    """The name of the node of this number."""
    return f"edge-{number}"


def issue(ca: certificates.Credential, folder: Path, first: int, last: int) -> None:
    """Write the certificates of the nodes ``first`` to ``last - 1``."""
    for number in range(first, last):
        name = join.common_name(node_name(number))
        made = x509.issue_client(ca, name, organizations=(c.CERT_ORGANIZATION,))
        certificates.save(made, folder / f"{number}.crt", folder / f"{number}.key")


class Fleet:
    """A process of hollow nodes.

    Args:
        url: of the hub.
        folder: with certificates.
        first, last: numbers of the nodes; ``last`` is not one of them.
        link: ``skerry`` or ``plain``.
        source: local address that they dial from; a hub limits connections per address.
    """

    def __init__(self, url: str, folder: Path, first: int, last: int, *, link: str, source: str) -> None:
        self._order = [url, str(folder), str(first), str(last), link, source]
        self._log_file = folder / f"fleet-{first}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; the nodes begin to connect."""
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "skerry.testing.fleet", *self._order,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, limit=_LINE_BYTES,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running().pid

    async def connected(self) -> None:
        """Wait until every node has connected and registered once."""
        await self._told("connected")

    async def ask(self, what: str) -> Any:
        """Ask all nodes of the process.

        Args:
            what: ``lost``: links that ended since the last such question. ``up``: nodes with a registered link now.
                ``notes``: how many objects of all nodes bear which ``n`` in their labels or data, as ``type=n``.
                ``held``: node → resource path → that ``n``. ``arrived``: pod → when its node first held it, Unix
                seconds.
        """
        stdin = self._running().stdin
        assert stdin is not None
        stdin.write(what.encode() + b"\n")
        await stdin.drain()
        return await self._told(what)

    async def stop(self) -> None:
        """End it and all its nodes."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "not started"
        return self._process

    async def _told(self, what: str) -> Any:
        stdout = self._running().stdout
        assert stdout is not None
        while True:
            line = await stdout.readline()
            if not line:
                raise RuntimeError("a fleet of hollow nodes ended")
            found = json.loads(line)
            if what in found:
                return found[what]


class _Nodes:
    """The hollow nodes of one process."""

    def __init__(self, url: str, folder: Path, *, link: str, source: str) -> None:
        self._url, self._folder, self._link, self._source = url, folder, link, source
        self._features = peers.FEATURES if link == "skerry" else frozenset()
        self._gate = asyncio.Semaphore(FIRST_DIALS_AT_ONCE)
        self._came: set[int] = set()
        self._changed = asyncio.Event()
        self._up: set[int] = set()
        self._lost = 0
        self._arrived: dict[str, float] = {}
        self._held: dict[str, dict[str, Any]] = {}

    async def run(self, first: int, last: int) -> None:
        async with Supervisor("fleet") as supervisor:
            for number in range(first, last):
                supervisor.detach("node", self._node(number))
            while len(self._came) < last - first:
                self._changed.clear()
                await self._changed.wait()
            _tell({"connected": len(self._came)})
            await self._serve()

    async def _serve(self) -> None:
        answers: dict[str, Callable[[], Any]] = {
            "lost": self._take_lost, "up": lambda: len(self._up), "arrived": lambda: self._arrived, "held": self._notes,
            "notes": self._note_counts,
        }  # fmt: skip
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            what = line.decode().strip()
            _tell({what: answers[what]()})

    def _take_lost(self) -> int:
        lost, self._lost = self._lost, 0
        return lost

    def _note_counts(self) -> dict[str, int]:
        objects = ((path, obj) for held in self._held.values() for path, obj in held.items())
        return Counter(f"{path.split('/')[1]}={_note_of(obj)}" for path, obj in objects)

    def _notes(self) -> dict[str, dict[str, str]]:
        return {node: {path: _note_of(obj) for path, obj in held.items()} for node, held in self._held.items()}

    async def _node(self, number: int) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.load_verify_locations(self._folder / "ca.crt")
        tls.load_cert_chain(self._folder / f"{number}.crt", self._folder / f"{number}.key")
        while True:
            try:
                await self._link_once(number, tls)
            except (OSError, TimeoutError, Refusal, aiohttp.ClientError) as exc:
                sys.stderr.write(f"{node_name(number)}: {type(exc).__name__}: {exc}\n"[:300])
            if number in self._up:
                self._up.discard(number)
                self._lost += 1
            await asyncio.sleep(random.uniform(0.2, 1.0))

    async def _link_once(self, number: int, tls: ssl.SSLContext) -> None:
        """Connect and register, then live until the link ends."""
        name, is_skerry = node_name(number), self._link == "skerry"
        held = self._held.setdefault(name, {})
        gate = self._gate if number not in self._came else contextlib.nullcontext()
        async with contextlib.AsyncExitStack() as stack:
            async with gate:
                link = connect(
                    self._url, name, tls, is_skerry=is_skerry, features=self._features, source=self._source,
                    headers={c.HEADER_STORE: "-"} if is_skerry else {},
                )  # fmt: skip
                node = await stack.enter_async_context(link)
                node.objects = held
                node.on_applied = self._applied
                if is_skerry:
                    await node.send(_holdings(held))
                await node.request("insert", f"null/node/{name}", _node_object(name), timeout_s=REGISTER_S)
            self._up.add(number)
            self._came.add(number)
            self._changed.set()
            await self._live(node, name)

    async def _live(self, node: HollowNode, name: str) -> None:
        if self._link == "skerry":
            await node.ended.wait()
            return
        async with Supervisor(name) as supervisor:
            supervisor.detach("keep-alive", node.keep_alive())
            await self._renew_lease(node, name)

    async def _renew_lease(self, node: HollowNode, name: str) -> None:
        """As a node does on KubeEdge's wire, until its link ends."""
        path, lease = f"{LEASE_NAMESPACE}/lease/{name}", _lease(name)
        await asyncio.sleep(random.uniform(0, 10))
        found = await node.request("insert", path, lease, timeout_s=REGISTER_S)
        while not node.ended.is_set():
            lease = (found.object if found.is_ok and found.object else lease) | {"spec": _lease(name)["spec"]}
            found = await node.request("update", path, lease, timeout_s=REGISTER_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await node.ended.wait()

    def _applied(self, obj: dict[str, Any]) -> None:
        if obj.get("kind") == "Pod":
            self._arrived.setdefault(obj["metadata"]["name"], time.time())


def _holdings(held: dict[str, dict[str, Any]]) -> Envelope:
    """The first message of an agent of ours: what it holds."""
    content = {path: [o["metadata"]["uid"], o["metadata"].get("resourceVersion", "")] for path, o in held.items()}
    return Envelope("", c.SOURCE_EDGED, c.GROUP_RESOURCE, c.OP_REPORT, c.RESOURCE_HOLDINGS, content)


def _note_of(obj: dict[str, Any]) -> str:
    return str((obj["metadata"].get("labels") or {}).get("n") or (obj.get("data") or {}).get("n") or "")


def _lease(name: str) -> dict[str, Any]:
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
    return {"metadata": {"name": name, "namespace": LEASE_NAMESPACE}, "spec": spec}


def _node_object(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "node-role.kubernetes.io/edge": ""}
    condition = {"type": "Ready", "status": "True", "reason": "EdgeReady", "message": ""}
    status = {"conditions": [condition], "capacity": {"cpu": "2", "memory": "1Gi", "pods": "110"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(message) + b"\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Run until killed."""
    import uvloop

    url, folder, first, last, link, source = arguments
    uvloop.run(_Nodes(url, Path(folder), link=link, source=source).run(int(first), int(last)))


if __name__ == "__main__":
    main(sys.argv[1:])
