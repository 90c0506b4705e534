"""The pod duty on a real store and outbox, with an engine of choice and a cloud that only takes what is left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import NotFound
from skerry.base import json
from skerry.base.aio.clock import Clock, SystemClock
from skerry.edge.images.keeper import ImageKeeper
from skerry.edge.images.ledger import ImageLedger
from skerry.edge.pods.classes import RuntimeClasses
from skerry.edge.pods.dns import NodeDns
from skerry.edge.pods.events import PodEvents
from skerry.edge.pods.roster import Admit, Observer, Roster
from skerry.edge.pods.status import NodeView
from skerry.edge.pods.worker import Tools
from skerry.edge.store.db import open_database
from skerry.edge.store.objects import EdgeObjects
from skerry.edge.store.outbox import EdgeOutbox
from skerry.edge.store.rowcodec import SealingCodec
from skerry.runtime.mounting import unmount_below
from skerry.runtime.ports import ImageStore
from skerry.runtime.volumes import Volumes
from skerry.testing.contracts.pod_runtime import Adapter
from skerry.wire.kubeedge import route

NODE = "edge-1"


class Sources:
    """ConfigMaps, Secrets and the like from the store only; tokens are counted texts."""

    def __init__(self, objects: EdgeObjects) -> None:
        self._objects = objects
        self.forgotten: list[str] = []

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        found = self._objects.get(route.build(namespace, kind, name))
        if found is None:
            raise NotFound(f'{kind} "{name}" not found')
        return found

    fresh = get


class Tokens:
    """One token per account."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def get(self, namespace: str, service_account: str, **options: Any) -> str:
        return f"token-of-{namespace}-{service_account}"

    async def forget(self, pod_uid: str) -> None:
        self.forgotten.append(pod_uid)


class Desk:
    """One agent's pod duty; ``open`` again on the same directory for a restart."""

    def __init__(
        self,
        directory: Path,
        runtime: Adapter,
        images: ImageStore,
        *,
        clock: Clock | None = None,
        dns: NodeDns | None = None,
        api_server: tuple[str, int] | None = None,
        measure_s: float = 50.0,
        admit: Admit | None = None,
        carried: Callable[[], int] | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.runtime = runtime
        self.is_offline = False
        self.database = open_database(directory)
        self.objects = EdgeObjects(self.database, codec=SealingCodec(bytes(32)), clock=self.clock)
        self.outbox = EdgeOutbox(self.database, clock=self.clock)
        self.tokens = Tokens()
        observer = Observer(runtime)
        tools = Tools(
            runtime=runtime,
            io=runtime,
            images=ImageKeeper(
                images,
                ledger=ImageLedger(self.objects, directory=directory, clock=self.clock),
                credentials=directory / "registry.json",
                is_offline=lambda: self.is_offline,
                clock=self.clock,
                carried=carried,
            ),
            objects=self.objects,
            volumes=Volumes(Sources(self.objects), self.tokens),
            tokens=self.tokens,
            outbox=self.outbox,
            events=PodEvents(self.outbox, node=NODE, clock=self.clock),
            clock=self.clock,
            node=lambda: NodeView("192.0.2.1", "fake"),
            directory=directory / "pods",
            log_directory=directory / "pod-logs",
            observe=observer.pod,
            classes=RuntimeClasses(Sources(self.objects)),
            dns=lambda: dns or NodeDns(),
            api_server=lambda: api_server,
            measure_s=measure_s,
        )
        self.roster = Roster(NODE, objects=self.objects, observer=observer, tools=tools, admit=admit)

    async def close(self) -> None:
        await self.roster.aclose()
        await self.runtime.aclose()
        self.database.close()
        unmount_below(self.directory)

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until ``condition`` gives something true; the test's own limit ends the wait."""
        while not (found := condition()):
            await SystemClock().sleep(0.02)
        return found

    def status(self, name: str = "web") -> dict[str, Any]:
        """The newest status that waits for the cloud; empty when none does."""
        patches = [entry for entry in self.outbox.entries() if entry.key == f"default/podpatch/{name}"]
        return dict(json.loads(patches[-1].envelope.content)["status"]) if patches else {}

    def state(self, name: str = "web", index: int = 0) -> dict[str, Any]:
        """State of a container, without nulls."""
        containers = self.status(name).get("containerStatuses") or [{"state": {}}]
        return {key: value for key, value in containers[index]["state"].items() if value}

    def events(self) -> list[str]:
        """Reasons of the events, in order."""
        return [e.envelope.content["reason"] for e in self.outbox.entries() if "/event/" in e.key]

    def asked_to_delete(self, name: str = "web") -> dict[str, Any]:
        found = [entry for entry in self.outbox.entries() if entry.key == f"default/pod/{name}"]
        return dict(found[-1].envelope.content) if found else {}


def pod(script: str = "sleep 300", *, name: str = "web", uid: str = "u1", **spec: Any) -> Object:
    container = {"name": "app", "image": "img", "command": ["/bin/sh", "-c", script], **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": "1"},
        "spec": {"nodeName": NODE, "restartPolicy": "Always", "containers": [container], **spec},
    }


def deleted(found: Object, *, grace_s: int = 5) -> Object:
    metadata = found["metadata"] | {
        "resourceVersion": "2",
        "deletionTimestamp": "2099-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": grace_s,
    }
    return found | {"metadata": metadata}
