"""Whether the agent's memory grows over time: pods come, change and go, programs die, the link is cut and mended.

An agent with the process runtime and ten pods; every second one of these happens. ``SKERRY_SOAK_MINUTES`` says how
long, 30 by default. The first third warms up; ``slope_mib_per_hour`` is the least-squares line through the resident
memory of the rest, taken every ten seconds, and ``pods_made`` how many pods it saw meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from skerry.api.gvk import CONFIGMAPS, PODS, Object
from skerry.app.edge_unit import AGENT_ENVIRONMENT
from skerry.testing.site import Site, rss_mib, site, until

_PODS, _SEED, _LOOK_S, _STEP_S = 10, 5, 10.0, 1.0
_SCRIPT = "trap 'exit 0' TERM; while true; do echo tick; sleep 0.5; done"


def run() -> dict[str, Any]:
    """The numbers."""
    minutes = float(os.environ.get("SKERRY_SOAK_MINUTES", "30"))
    with tempfile.TemporaryDirectory(prefix="skb-") as folder:
        return asyncio.run(_soak(Path(folder), minutes * 60))


async def _soak(data: Path, for_s: float) -> dict[str, Any]:
    async with site(data, runtime="process", environment=AGENT_ENVIRONMENT) as at:
        churn = Churn(at)
        await churn.begin()
        taken: list[tuple[float, float]] = []
        begun_s = time.monotonic()
        while (now_s := time.monotonic() - begun_s) < for_s:
            if not taken or now_s - taken[-1][0] >= _LOOK_S:
                taken.append((now_s, rss_mib(at.agent.pid)))
            await churn.act()
            await asyncio.sleep(_STEP_S)
        settled = [(second, size) for second, size in taken if second >= for_s / 3]
        line = statistics.linear_regression(*zip(*settled, strict=True))
        await churn.end()
        await at.reset()
        return {
            "minutes": round(for_s / 60, 1),
            "rss_mib": {"first": taken[0][1], "after_warming_up": settled[0][1], "last": taken[-1][1]},
            "slope_mib_per_hour": round(line.slope * 3600, 2),
            "pods_made": churn.made,
            "actions": dict(churn.done),
        }


class Churn:
    """What happens to the pods of a site."""

    def __init__(self, at: Site) -> None:
        self._at = at
        self._dice = random.Random(_SEED)
        self._names: list[str] = []
        self._serial = 0
        self.made = 0
        self.done: Counter[str] = Counter()

    async def begin(self) -> None:
        await self._at.api.create(CONFIGMAPS, {"metadata": {"name": "conf"}, "data": {"n": "0"}}, namespace="default")
        for _ in range(_PODS):
            await self._make()
        await until(self._complaint, within_s=120)

    async def act(self) -> None:
        actions = {"replace": self._replace, "edit": self._edit, "kill": self._kill, "cut": self._cut}
        [name] = self._dice.choices(list(actions), (5, 3, 3, 1))
        self.done[name] += 1
        await actions[name]()

    async def end(self) -> None:
        await until(self._complaint, within_s=600)
        for name in self._names:
            await self._at.api.delete(PODS, name, namespace="default")
        await until(self._at.no_pods, within_s=120)

    async def _make(self) -> None:
        self.made += 1
        name = f"pod-{self.made}"
        await self._at.api.create(PODS, _pod(name), namespace="default")
        self._names.append(name)

    async def _replace(self) -> None:
        old = self._names.pop(self._dice.randrange(len(self._names)))
        await self._at.api.delete(PODS, old, namespace="default")
        await self._make()

    async def _edit(self) -> None:
        self._serial += 1
        await self._at.api.patch(CONFIGMAPS, "conf", {"data": {"n": str(self._serial)}}, namespace="default")

    async def _kill(self) -> None:
        states = list((self._at.edge_data / "process").glob("*/*/state.json"))
        if states:
            text = self._dice.choice(states).read_text()
            pid = int(text.partition('"pid": ')[2].partition(",")[0] or 0)
            if pid and _SCRIPT.encode() in _command_line(pid):
                os.kill(pid, signal.SIGKILL)

    async def _cut(self) -> None:
        self._at.cut()
        await asyncio.sleep(1)
        self._at.mend()

    async def _complaint(self) -> str:
        pods = {p["metadata"]["name"]: p for p in (await self._at.api.list(PODS, namespace="default")).items}
        wrong = sorted(set(pods) ^ set(self._names))
        wrong += [name for name, pod in pods.items() if (pod.get("status") or {}).get("phase") != "Running"]
        return f"{wrong} are not as desired" if wrong else ""


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _pod(name: str) -> Object:
    container = {
        "name": "app", "image": "none", "command": [shutil.which("sh"), "-c", _SCRIPT],
        "volumeMounts": [{"name": "conf", "mountPath": "/conf"}],
    }  # fmt: skip
    spec = {
        "nodeName": Site.node, "terminationGracePeriodSeconds": 1, "containers": [container],
        "volumes": [{"name": "conf", "configMap": {"name": "conf"}}],
    }  # fmt: skip
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
