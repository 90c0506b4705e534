"""Whether the agent's memory grows over time: pods come, change and go, programs die, the link is cut and mended.

Agents with ten pods each, by runtime, on the system's interpreter where it is of this version; every second one of
these happens: a pod is replaced, a configuration changes, a program is killed, the link is cut, a log is followed, a
command is executed (with the kubectl that is found). ``SKERRY_SOAK_MINUTES`` says how long, 30 by default. Memory is
VmRSS in MiB, taken every ten seconds: ``first`` with the pods just started, ``at_10_min`` and ``at_30_min`` (after a
third of the time, and at its end) as medians of a minute, ``rested`` two minutes after the last pod has gone,
``pods_30`` after that with thirty new ones. ``slope_mib_per_hour`` is the least-squares line without the first third.

containerd needs root and the Debian packages; without, the reason stands in the place of its numbers.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.component.kubectls import KUBECTLS
from tests.parts import BUSYBOX_IMAGE, Containerd, PartMissing, own_containerd

from skerry.api.gvk import CONFIGMAPS, PODS, Object
from skerry.kube.requests import Request
from skerry.testing.interpreters import as_installed, system_python, told
from skerry.testing.site import Site, rss_mib, site, until

_PODS, _MANY, _SEED, _LOOK_S, _STEP_S, _REST_S = 10, 30, 5, 10.0, 1.0, 120.0
_MINUTE_S = 60.0
_SCRIPT = "trap 'exit 0' TERM; while true; do echo tick; sleep 0.5; done"


def run() -> dict[str, Any]:
    """The numbers."""
    minutes = float(os.environ.get("SKERRY_SOAK_MINUTES", "30"))
    with tempfile.TemporaryDirectory(prefix="skb-") as folder:
        return asyncio.run(_run(Path(folder), minutes * 60))


async def _run(folder: Path, for_s: float) -> dict[str, Any]:
    python = system_python(folder / "python").get("system", sys.executable)
    runtimes = ("process", "containerd")
    found = await asyncio.gather(*(measured(folder / name, name, python, for_s=for_s) for name in runtimes))
    return {
        "minutes": round(for_s / 60, 1),
        **dict(zip((f"{r}, {told(python)}" for r in runtimes), found, strict=True)),
    }


async def measured(data: Path, runtime: str, python: str, *, for_s: float) -> dict[str, Any] | str:
    """One agent's numbers."""
    async with AsyncExitStack() as stack:
        try:
            engine = await stack.enter_async_context(own_containerd()) if runtime == "containerd" else None
        except PartMissing as exc:
            return f"not measured: {exc}"
        at = await stack.enter_async_context(_site(data, engine, python))
        return await _soak(Churn(at, engine), for_s)


@asynccontextmanager
async def _site(data: Path, engine: Containerd | None, python: str) -> AsyncIterator[Site]:
    environment = await asyncio.to_thread(as_installed, python, data.parent / "compiled")
    socket, kind = (engine.socket, "cri") if engine is not None else (None, "process")
    async with site(data, runtime=kind, cri_socket=socket, environment=environment, agent_python=python) as at:
        yield at
        await at.reset()


async def _soak(churn: Churn, for_s: float) -> dict[str, Any]:
    pid = churn.at.agent.pid
    await churn.begin(_PODS)
    taken: list[tuple[float, float]] = []
    begun_s = time.monotonic()
    while (now_s := time.monotonic() - begun_s) < for_s:
        if not taken or now_s - taken[-1][0] >= _LOOK_S:
            taken.append((now_s, rss_mib(pid)))
        await churn.act()
        await asyncio.sleep(_STEP_S)
    await churn.end()
    await asyncio.sleep(_REST_S)
    rested = rss_mib(pid)
    made, done = churn.made, dict(churn.done)
    await churn.begin(_MANY)
    await asyncio.sleep(_REST_S / 4)
    many = rss_mib(pid)
    await churn.end()
    settled = [(second, size) for second, size in taken if second >= for_s / 3]
    line = statistics.linear_regression(*zip(*settled, strict=True))
    return {
        "rss_mib": {
            "first": taken[0][1], "at_10_min": _around(taken, for_s / 3), "at_30_min": _around(taken, for_s),
            "rested": rested, "pods_30": many,
        },
        "slope_mib_per_hour": round(line.slope * 3600, 2),
        "pods_made": made,
        "actions": done,
        "load_1m": os.getloadavg()[0],
    }  # fmt: skip


def _around(taken: list[tuple[float, float]], second: float) -> float:
    """Median of the minute before ``second``."""
    return statistics.median([size for at, size in taken if second - _MINUTE_S <= at <= second] or [taken[-1][1]])


class Churn:
    """What happens to the pods of a site."""

    def __init__(self, at: Site, engine: Containerd | None) -> None:
        self.at = at
        self._engine = engine
        self._dice = random.Random(_SEED)
        self._names: list[str] = []
        self._serial = 0
        self._kubectl = str(max(KUBECTLS.items(), default=("", ""))[1])
        self.made = 0
        self.done: Counter[str] = Counter()

    async def begin(self, count: int) -> None:
        if not self._serial:
            configmap = {"metadata": {"name": "conf"}, "data": {"n": "0"}}
            await self.at.api.create(CONFIGMAPS, configmap, namespace="default")
        for _ in range(count):
            await self._make()
        await until(self._complaint, within_s=300)

    async def act(self) -> None:
        actions = {
            "replace": (5, self._replace), "edit": (3, self._edit), "kill": (3, self._kill), "cut": (1, self._cut),
            "follow": (2, self._follow), "exec": (2, self._exec),
        }  # fmt: skip
        [name] = self._dice.choices(list(actions), [weight for weight, _ in actions.values()])
        self.done[name] += 1
        await actions[name][1]()

    async def end(self) -> None:
        await until(self._complaint, within_s=600)
        for name in self._names:
            await self.at.api.delete(PODS, name, namespace="default")
        self._names.clear()
        await until(self.at.no_pods, within_s=300)

    async def _make(self) -> None:
        self.made += 1
        name = f"pod-{self.made}"
        await self.at.api.create(PODS, self._pod(name), namespace="default")
        self._names.append(name)

    async def _replace(self) -> None:
        old = self._names.pop(self._dice.randrange(len(self._names)))
        await self.at.api.delete(PODS, old, namespace="default")
        await self._make()

    async def _edit(self) -> None:
        self._serial += 1
        await self.at.api.patch(CONFIGMAPS, "conf", {"data": {"n": str(self._serial)}}, namespace="default")

    async def _kill(self) -> None:
        if self._engine is not None:
            listed = await asyncio.to_thread(self._engine.ctr, "tasks", "ls")
            pids = [int(line.split()[1]) for line in listed.splitlines()[1:]]
        else:
            states = (self.at.edge_data / "process").glob("*/*/state.json")
            pids = [int(state.read_text().partition('"pid": ')[2].partition(",")[0] or 0) for state in states]
        ours = [pid for pid in pids if pid and _SCRIPT.encode() in _command_line(pid)]
        if ours:
            os.kill(self._dice.choice(ours), signal.SIGKILL)

    async def _cut(self) -> None:
        self.at.cut()
        await asyncio.sleep(1)
        self.at.mend()

    async def _follow(self) -> None:
        """Read a log for two seconds; of a pod that has just come there may be none yet."""
        path = f"/api/v1/namespaces/default/pods/{self._dice.choice(self._names)}/log"
        request = Request("GET", path, query=(("follow", "true"),))

        async def read() -> None:
            async with self.at.transport.stream(request) as answer:
                async for _ in answer.chunks():
                    pass

        try:
            async with asyncio.timeout(2):
                await read()
        except TimeoutError:
            return

    async def _exec(self) -> None:
        """Run a command; of a pod that has just come or is restarting it fails."""
        if not self._kubectl:
            return
        command = [self._kubectl, "exec", self._dice.choice(self._names), "--", "sh", "-c", "echo done"]
        environment = os.environ | {"KUBECONFIG": self.at.cloud.ready["kubeconfig"], "HOME": str(self.at.data)}
        quiet = subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=quiet, stderr=quiet)
        await process.wait()

    async def _complaint(self) -> str:
        pods = {p["metadata"]["name"]: p for p in (await self.at.api.list(PODS, namespace="default")).items}
        wrong = sorted(set(pods) ^ set(self._names))
        wrong += [name for name, pod in pods.items() if (pod.get("status") or {}).get("phase") != "Running"]
        return f"{wrong} are not as desired" if wrong else ""

    def _pod(self, name: str) -> Object:
        shell, image = (shutil.which("sh"), "none") if self._engine is None else ("/bin/sh", BUSYBOX_IMAGE)
        container = {
            "name": "app", "image": image, "imagePullPolicy": "IfNotPresent", "command": [shell, "-c", _SCRIPT],
            "volumeMounts": [{"name": "conf", "mountPath": "/conf"}],
            "readinessProbe": {"exec": {"command": [shell, "-c", "true"]}, "periodSeconds": 10},
        }  # fmt: skip
        spec = {
            "nodeName": Site.node, "terminationGracePeriodSeconds": 1, "containers": [container],
            "volumes": [{"name": "conf", "configMap": {"name": "conf"}}],
        }  # fmt: skip
        return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""
