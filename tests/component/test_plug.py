"""The plug is pulled, on a real container engine: nothing restarts, nothing runs twice, and all is caught up with.

Who ran how often is taken from the engine (container ids, attempts, start times) and from what each container itself
wrote at its start.
"""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.parts import BUSYBOX_IMAGE, Containerd, shared_containerd

from skerry.api.gvk import CONFIGMAPS, DEPLOYMENTS, PODS, SECRETS, Object
from skerry.kube.ports import KubeApi
from skerry.runtime.cri.client import CriClient
from skerry.runtime.cri.engine import CriRuntime
from skerry.runtime.ports import ContainerState, ObservedContainer
from skerry.sdk.client import Client
from skerry.testing.contracts.pod_runtime import end_pods
from skerry.testing.site import Site, pod_state, site, until

pytestmark = pytest.mark.xdist_group("containerd")

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
SCRIPT = """
trap 'exit 0' TERM
echo "$ROUND" >> /starts/all
echo "hello from $POD_NAME"
while true; do sleep 1; done
"""
Run = tuple[str, str, int, float]
"""(pod, container id, attempt, start time)"""


def deployment(name: str, *, replicas: int, round_: str) -> Object:
    container = {
        "name": "app",
        "image": BUSYBOX_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", SCRIPT],
        "env": [
            {"name": "ROUND", "value": round_},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "volumeMounts": [
            {"name": "settings", "mountPath": "/settings"},
            {"name": "keys", "mountPath": "/keys"},
            {"name": "starts", "mountPath": "/starts"},
        ],
    }
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys"}},
        {"name": "starts", "emptyDir": {}},
    ]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 3, "containers": [container], "volumes": volumes},
            },
        },
    }


class Plug:
    """A site on containerd, and what the engine and the containers say."""

    def __init__(self, at: Site, engine: CriRuntime, *, steady: int, rolled: int) -> None:
        self.site = at
        self.engine = engine
        self.steady = steady
        self.rolled = rolled

    def record(self, name: str, seconds: float) -> None:
        """Keep a measured time beside the logs."""
        with (self.site.data / "times.txt").open("a") as file:
            file.write(f"{name} {seconds:.2f}\n")

    @property
    def api(self) -> KubeApi:
        return self.site.api

    async def deploy(self) -> float:
        await self.api.create(
            CONFIGMAPS, {"metadata": {"name": "settings"}, "data": {"word": "one"}}, namespace="default"
        )
        secret = {"metadata": {"name": "keys"}, "data": {"key": base64.b64encode(b"first").decode()}}
        await self.api.create(SECRETS, secret, namespace="default")
        for name, replicas in (("steady", self.steady), ("rolled", self.rolled)):
            obj = deployment(name, replicas=replicas, round_="1")
            await self.api.create(DEPLOYMENTS, obj, namespace="default")
        return await until(lambda: self.is_right("one", "first", "1"), within_s=30 + 3 * (self.steady + self.rolled))

    async def change_everything(self) -> None:
        await self.api.patch(CONFIGMAPS, "settings", {"data": {"word": "two"}}, namespace="default")
        key = base64.b64encode(b"second").decode()
        await self.api.patch(SECRETS, "keys", {"data": {"key": key}}, namespace="default")
        template = deployment("rolled", replicas=self.rolled, round_="2")["spec"]["template"]
        await self.api.patch(DEPLOYMENTS, "rolled", {"spec": {"template": template}}, namespace="default")

    async def runs(self) -> set[Run]:
        """Every container that the engine has for this node, ended ones too."""
        return {
            (pod.name, container.id, container.attempt, container.started_at_s)
            for pod in (await self.engine.observe()).values()
            for container in pod.containers
        }

    async def running(self) -> dict[str, ObservedContainer]:
        """Running containers by pod name; a pod with two would fail here."""
        found: dict[str, ObservedContainer] = {}
        for pod in (await self.engine.observe()).values():
            for container in pod.containers:
                if container.state is ContainerState.RUNNING:
                    assert pod.name not in found, f"{pod.name} runs twice"
                    found[pod.name] = container
        return found

    async def read(self, container: ObservedContainer, *paths: str) -> list[str]:
        """Files as the container sees them."""
        script = 'for path; do cat "$path" && echo "|" || exit 1; done'
        command = ["/bin/sh", "-c", script, "sh", *paths]
        code, out = await self.engine.exec_sync(container.id, command, timeout_s=5)
        assert code == 0, f"{paths}: {out!r}"
        return [part.strip() for part in out.decode().split("|")[:-1]]

    async def starts(self) -> dict[str, str]:
        """What each running pod's containers wrote at their starts."""
        return {pod: (await self.read(c, "/starts/all"))[0] for pod, c in (await self.running()).items()}

    async def is_right(self, word: str, key: str, round_: str) -> str:
        """What is not yet as the cloud wants it, seen from inside of the containers and in the cloud."""
        for name, replicas in (("steady", self.steady), ("rolled", self.rolled)):
            found = await self.api.list(PODS, namespace="default", label_selector=f"app={name}")
            if len(found.items) != replicas:
                return f"{len(found.items)} of {replicas} pods of {name} in the cloud"
            if unready := [pod_state(pod) for pod in found.items if not is_ready(pod)]:
                return f"not ready: {unready}"
        running = await self.running()
        if len(running) != self.steady + self.rolled:
            return f"{len(running)} containers run"
        for pod, container in running.items():
            *seen, starts, token = await self.read(container, "/settings/word", "/keys/key", "/starts/all", TOKEN)
            if seen != [word, key]:
                return f"{pod} sees {seen}"
            if starts.split()[-1] != (round_ if pod.startswith("rolled") else "1"):
                return f"{pod} is of round {starts.split()[-1]}"
            if not token:
                return f"{pod} has no token"
        return ""


def is_ready(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp") or pod.get("status", {}).get("phase") != "Running":
        return False
    return all(item["ready"] for item in pod["status"]["containerStatuses"])


@asynccontextmanager
async def plug(
    data: Path, containerd: Containerd, *, steady: int, rolled: int, by_environment: bool = False
) -> AsyncIterator[Plug]:
    named = {"environment": {"SKERRY_EDGE_CRI_SOCKET": str(containerd.socket)}}
    async with site(data, runtime="cri", **(named if by_environment else {"cri_socket": containerd.socket})) as at:
        assert at.joined()["criSocket"] == str(containerd.socket)
        engine = CriRuntime(CriClient(containerd.socket), node_uid=at.joined()["nodeUid"], list_interval_s=0)
        try:
            yield Plug(at, engine, steady=steady, rolled=rolled)
        finally:
            await at.agent.stop()
            try:
                await end_pods(engine)
            finally:
                await engine.aclose()


async def the_whole_story(p: Plug, *, silently: bool, outage_s: float) -> None:
    p.record("deployed_s", await p.deploy())
    before = await p.runs()
    assert len(before) == p.steady + p.rolled
    assert {attempt for _, _, attempt, _ in before} == {0}

    # The link is cut, the cloud changes everything, the agent is killed and started again, still offline.
    p.site.cut(silently=silently)
    await p.change_everything()
    await p.site.agent.kill()
    assert await p.runs() == before
    started_s = time.monotonic()
    await p.site.agent.start()
    p.record("agent_restart_s", time.monotonic() - started_s)
    await asyncio.sleep(3)  # nothing may happen now: there is nothing to wait for
    assert await p.runs() == before
    assert set((await p.starts()).values()) == {"1"}

    # A container dies while offline: exactly this one comes back.
    victim = next(run for run in sorted(before) if run[0].startswith("steady"))
    await p.engine.stop_container(victim[1], grace_s=0)

    async def is_back() -> str:
        container = (await p.running()).get(victim[0])
        return "" if container and container.attempt == 1 else f"{victim[0]} does not run again"

    p.record("container_back_s", await until(is_back, within_s=15))
    grown = await p.runs()
    assert before <= grown
    assert [(pod, attempt) for pod, _, attempt, _ in grown - before] == [(victim[0], 1)]

    # The cloud is killed: nothing restarts.
    await p.site.cloud.kill()
    await asyncio.sleep(outage_s)
    assert await p.runs() == grown
    starts = await p.starts()
    assert starts.pop(victim[0]) == "1\n1"
    assert set(starts.values()) == {"1"}

    # Both come back.
    restored_s = time.monotonic()
    p.site.mend()
    await p.site.cloud.start()
    p.record("cloud_start_s", time.monotonic() - restored_s)
    await until(lambda: p.is_right("two", "second", "2"), within_s=30)
    p.record("right_again_s", time.monotonic() - restored_s)
    assert time.monotonic() - restored_s < 10
    after = await p.runs()
    assert {run for run in after if run[0].startswith("steady")} == {
        run for run in grown if run[0].startswith("steady")
    }
    rolled = [run for run in after if run[0].startswith("rolled")]
    assert len(rolled) == p.rolled
    assert not {run[0] for run in rolled} & {run[0] for run in before}
    assert {attempt for _, _, attempt, _ in rolled} == {0}
    starts = await p.starts()
    assert starts.pop(victim[0]) == "1\n1"
    assert sorted(starts.values()) == ["1"] * (p.steady - 1) + ["2"] * p.rolled
    pods = await p.api.list(PODS, namespace="default")
    restarts = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods.items}
    assert restarts.pop(victim[0]) == 1
    assert set(restarts.values()) == {0}
    # The tunnel is back too: the log of a container on the engine.
    client = Client(p.site.transport)

    async def has_log() -> str:
        text = b"".join([piece async for piece in client.logs(victim[0])]).decode()
        return "" if text == f"hello from {victim[0]}\n" else f"the log is {text!r}"

    p.record("log_s", await until(has_log, within_s=10))
    await p.site.reset()
    assert await p.runs() == set()


@pytest.mark.timeout(150)
@pytest.mark.parametrize("silently", [False, True], ids=["reset", "silent"])
async def test_the_plug_is_pulled(tmp_path: Path, request: pytest.FixtureRequest, silently: bool) -> None:
    containerd = shared_containerd(request.config)
    async with plug(tmp_path, containerd, steady=2, rolled=1) as p:
        await the_whole_story(p, silently=silently, outage_s=5)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_the_plug_is_pulled_for_a_minute(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    containerd = shared_containerd(request.config)
    async with plug(tmp_path, containerd, steady=17, rolled=3) as p:
        await the_whole_story(p, silently=False, outage_s=60)


@pytest.mark.timeout(120)
async def test_an_agent_killed_while_it_starts_pods_starts_none_twice(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with plug(tmp_path, shared_containerd(request.config), steady=5, rolled=3) as p:
        deploying = asyncio.ensure_future(p.deploy())
        for after_s in (0.05, 0.15, 0.25, 0.1, 0.3, 0.2, 0.05, 0.4):
            await asyncio.sleep(after_s)  # somewhere in the middle of its work
            await p.site.agent.kill()
            await p.site.agent.start()
        await deploying
        assert set((await p.starts()).values()) == {"1"}
        # The engine gives up a start whose caller is gone: an attempt that never ran may stand before the one that did.
        ran = [pod for pod, _, _, started_at_s in await p.runs() if started_at_s]
        assert len(ran) == 8
        assert set(ran) == set(await p.running())


@pytest.mark.timeout(120)
async def test_pods_survive_a_restart_of_engine_and_agent(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    containerd = shared_containerd(request.config)
    async with plug(tmp_path, containerd, steady=2, rolled=1, by_environment=True) as p:
        await p.deploy()
        before = await p.runs()
        await asyncio.to_thread(containerd.kill)
        try:
            await p.site.agent.kill()
            await p.site.agent.start()
            await p.change_everything()
        finally:
            await asyncio.to_thread(containerd.start)
        await until(lambda: p.is_right("two", "second", "2"), within_s=30)
        steady = {run for run in before if run[0].startswith("steady")}
        assert steady == {run for run in await p.runs() if run[0].startswith("steady")}
        assert sorted((await p.starts()).values()) == ["1", "1", "2"]
        # Each of the two agents says once per pod that the engine is away, however often it looks.
        text = (tmp_path / "logs/edge.log").read_text()
        away = [line for line in text.splitlines() if "pod.retry" in line and "is it running?" in line]
        said = Counter(line.partition("name=")[2].split()[0] for line in away)
        assert said
        assert max(said.values()) <= 2
