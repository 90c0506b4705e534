"""Some agents in one process: ``python -m tests.component.chaos.agentproc DIRECTORY PORT NODE…``.

Link, store, inbox, outbox and drain are the product's. In the place of pods stands a duty that reports on each pod: a
status that grows with every change it sees, and the end of a pod that is to go. What the store applied is noted in
``DIRECTORY/agents/NODE/applied.log``, what was reported in ``left.log``.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from skerry.api.gvk import Object
from skerry.base import json
from skerry.base.aio.clock import SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.obs.log import setup
from skerry.edge.link.dial import DialledLink
from skerry.edge.link.enrol import CertificateFiles
from skerry.edge.link.session import Liveness
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import Change, EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec
from skerry.edge.sync.drain import Drain
from skerry.edge.sync.holdings import Holdings
from skerry.edge.sync.inbox import Inbox
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope

CODEC = SealingCodec(bytes(32))
TOLD = "--- that is all\n"


class ReportingAgent:
    """One node."""

    def __init__(self, directory: Path, node: str, port: int) -> None:
        home = directory / "agents" / node
        home.mkdir(parents=True, exist_ok=True)
        clock = SystemClock()
        self._applied: IO[bytes] = (home / "applied.log").open("ab", buffering=0)
        self._left: IO[bytes] = (home / "left.log").open("ab", buffering=0)
        database = open_database(home)
        self._objects = EdgeObjects(database, codec=CODEC, clock=clock)
        self._outbox = EdgeOutbox(database, clock=clock)
        self._link = DialledLink(
            [("127.0.0.1", port)], node=node, files=CertificateFiles(directory / "nodes" / node), clock=clock,
            liveness=Liveness(ping_every_s=0.5, silence_s=1.5), greeter=Holdings(self._objects),
        )  # fmt: skip
        self._link.on_envelope(Inbox(self._objects, link=self._link, handlers={}).take)
        self._drain = Drain(self._outbox, self._link, clock=clock, answer_within_s=2.0)
        self._changes: asyncio.Queue[Object] = asyncio.Queue()
        self._objects.subscribe(self._changed)

    def start(self, supervisor: Supervisor) -> None:
        """Run; what was stored before and is not reported for certain is reported again."""
        for pod in self._objects.list(c.TYPE_POD).values():
            self._changes.put_nowait(pod)
        supervisor.keep("link", self._link.run)
        supervisor.keep("outbox", self._outbox.run)
        supervisor.keep("drain", self._drain.run)
        supervisor.keep("report", self._report)

    def _changed(self, change: Change) -> None:
        obj = change.new or change.old or {}
        meta = obj.get("metadata") or {}
        note = [change.key, meta.get("uid"), meta.get("resourceVersion"), "put" if change.new else "delete"]
        self._applied.write(json.dumps(note) + b"\n")
        if change.type == c.TYPE_POD and change.new is not None:
            self._changes.put_nowait(change.new)

    async def _report(self) -> None:
        while True:
            pod = await self._changes.get()
            meta = pod["metadata"]
            number = str(time.time_ns())
            name, uid = f"{meta['namespace']}/podpatch/{meta['name']}", meta["uid"]
            is_ending = "deletionTimestamp" in meta
            status = {"phase": "Succeeded" if is_ending else "Running", "message": number}
            patch = json.dumps({"metadata": {"uid": uid}, "status": status}).decode()
            await self._leave(name, c.OP_PATCH, patch)
            self._left.write(json.dumps([uid, number]) + b"\n")
            if is_ending:
                options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
                await self._leave(f"{meta['namespace']}/pod/{meta['name']}", c.OP_DELETE, options)

    async def _leave(self, resource: str, operation: str, content: object) -> None:
        envelope = Envelope("", c.SOURCE_EDGED, c.GROUP_META, operation, resource, content)
        await self._outbox.leave(resource, envelope)


async def main(directory: Path, port: int, nodes: Sequence[str]) -> None:
    """Run until killed."""
    async with Supervisor("agents") as supervisor:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell_tasks)
        for node in nodes:
            ReportingAgent(directory, node, port).start(supervisor)
        sys.stdout.buffer.write(b"{}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def tell_tasks() -> None:
    """On stderr: where each thread of this process is, and what each task waits for, innermost call last."""
    faulthandler.dump_traceback(all_threads=True)
    for task in asyncio.all_tasks():
        sys.stderr.write(f"--- {task.get_name()}: {' > '.join(_calls(task.get_coro()))}\n")
    sys.stderr.write(TOLD)
    sys.stderr.flush()


def _calls(waiting: Any) -> list[str]:
    calls = []
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            calls.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return calls


if __name__ == "__main__":
    setup(form="text")
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
