"""A kubelet without containers: reports its pods as running, ends them when they are deleted, answers on their ports.

Every pod gets an address of its own in 127.0.0.0/8; on each declared TCP port there an HTTP server answers the pod's
name, as the image ``agnhost serve-hostname`` does. What a container would *do* is not done, so a test that looks at
it cannot pass on such a node.
"""

# ruff: noqa: E501 - one request per line

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import itertools
from pathlib import Path
from typing import Any

from skerry.api.gvk import LEASES, NODES, PODS, Object
from skerry.api.status import AlreadyExists, ApiError, Gone, NotFound, Unavailable
from skerry.kube.http import HttpKubeApi, HttpTransport
from skerry.kube.kubeconfig import load

LEASE_EVERY_S = 10.0
ENDS_NOTE = "hollow.skerry.dev/ends"
"""A pod with this annotation ends at once, in the phase that it says."""
NO_IMAGES = ("webserver:404",)
"""Images that tests name because nobody has them."""


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class HollowKubelet:
    """One node."""

    def __init__(self, api: HttpKubeApi, name: str, *, index: int) -> None:
        self._api = api
        self._name = name
        self._addresses = (f"10.{100 + index}.{n // 250}.{1 + n % 250}" for n in itertools.count())
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._ips: dict[str, str] = {}
        self._done: dict[str, str] = {}

    async def run(self) -> None:
        """Register and work until cancelled."""
        await self._register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._follow())

    async def _register(self) -> None:
        node: Object = {
            "metadata": {"name": self._name, "labels": {"kubernetes.io/hostname": self._name, "kubernetes.io/os": "linux",
                                                        "kubernetes.io/arch": "amd64"}},
        }  # fmt: skip
        with contextlib.suppress(AlreadyExists):
            await self._api.create(NODES, node)
        capacity = {"cpu": "8", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"}
        conditions = [
            {"type": kind, "status": "True" if kind == "Ready" else "False", "reason": "Hollow", "message": "",
             "lastHeartbeatTime": now(), "lastTransitionTime": now()}
            for kind in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
        ]  # fmt: skip
        info = {"kubeletVersion": "v1.36.0", "osImage": "hollow", "kernelVersion": "0", "architecture": "amd64",
                "containerRuntimeVersion": "hollow://1", "operatingSystem": "linux", "machineID": "", "systemUUID": "",
                "bootID": "", "kubeProxyVersion": ""}  # fmt: skip
        status = {
            "status": {"capacity": capacity, "allocatable": capacity, "conditions": conditions, "nodeInfo": info,
                       "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": self._name}]}
        }  # fmt: skip
        await self._api.patch(NODES, self._name, status, subresource="status")
        found = await self._api.get(NODES, self._name)
        kept = [t for t in found.get("spec", {}).get("taints") or () if t["key"] != "node.kubernetes.io/not-ready"]
        await self._api.patch(NODES, self._name, {"spec": {"taints": kept}})

    async def _beat(self) -> None:
        lease = {
            "metadata": {"name": self._name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": self._name, "leaseDurationSeconds": 40},
        }
        while True:
            moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            lease["spec"]["renewTime"] = moment  # type: ignore[index]
            try:
                await self._api.patch(LEASES, self._name, {"spec": lease["spec"]}, namespace="kube-node-lease")
            except NotFound:
                await self._api.create(LEASES, lease)
            except ApiError:
                pass
            await asyncio.sleep(LEASE_EVERY_S)

    async def _follow(self) -> None:
        selector = f"spec.nodeName={self._name}"
        while True:
            try:
                found = await self._api.list(PODS, field_selector=selector)
                for pod in found.items:
                    await self._sync(pod)
                async for event in self._api.watch(
                    PODS, resource_version=found.resource_version, field_selector=selector
                ):
                    if event.type == "DELETED":
                        await self._close(event.object["metadata"]["uid"])
                    elif event.type != "BOOKMARK":
                        await self._sync(event.object)
            except (Gone, Unavailable):
                await asyncio.sleep(0.5)

    async def _sync(self, pod: Object) -> None:
        meta, uid = pod["metadata"], pod["metadata"]["uid"]
        place = {"namespace": meta["namespace"]}
        try:
            if meta.get("deletionTimestamp"):
                if meta.get("deletionGracePeriodSeconds") and meta.get("finalizers"):
                    await self._report(pod, self._ended(pod))
                await self._api.delete(PODS, meta["name"], grace_period_s=0, uid=uid, **place)
                await self._close(uid)
            elif any(container["image"] in NO_IMAGES for container in pod["spec"]["containers"]):
                await self._report(pod, _unpulled(pod))
            elif uid not in self._ips and (pod.get("status") or {}).get("phase") in (None, "", "Pending", "Running"):
                self._ips[uid] = next(self._addresses)
                await self._serve(pod, self._ips[uid])
                await self._report(pod, self._running(pod))
                if end := (meta.get("annotations") or {}).get(ENDS_NOTE):
                    await self._report(pod, self._ended(pod, phase=end))
        except ApiError:
            return

    async def _report(self, pod: Object, status: dict[str, Any]) -> None:
        meta = pod["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": status}
        await self._api.patch(
            PODS, meta["name"], patch, patch_type="strategic", namespace=meta["namespace"], subresource="status"
        )

    def _running(self, pod: Object) -> dict[str, Any]:
        spec, moment = pod["spec"], now()
        address = "127.0.0.1" if spec.get("hostNetwork") else self._ips[pod["metadata"]["uid"]]
        gates = [gate["conditionType"] for gate in spec.get("readinessGates") or ()]
        given = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or ()}
        ready = "True" if all(given.get(gate) == "True" for gate in gates) else "False"
        conditions = [
            {"type": kind, "status": ready if kind == "Ready" else "True", "lastTransitionTime": moment, "lastProbeTime": None}
            for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
        ]  # fmt: skip
        return {
            "phase": "Running", "hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}], "podIP": address,
            "podIPs": [{"ip": address}], "startTime": moment, "conditions": conditions,
            "containerStatuses": [_state(c, {"running": {"startedAt": moment}}, is_ready=True) for c in spec["containers"]],
            "initContainerStatuses": [
                _state(c, {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": moment, "finishedAt": moment}},
                       is_ready=True)
                for c in spec.get("initContainers") or ()
            ],
        }  # fmt: skip

    def _ended(self, pod: Object, *, phase: str = "Succeeded") -> dict[str, Any]:
        moment, code = now(), 0 if phase == "Succeeded" else 1
        reason = "Error" if code else "Completed"
        ended = {"terminated": {"exitCode": code, "reason": reason, "startedAt": moment, "finishedAt": moment}}
        unready = [
            {"type": kind, "status": "False", "lastTransitionTime": moment} for kind in ("Ready", "ContainersReady")
        ]
        return {
            "phase": phase,
            "conditions": unready,
            "containerStatuses": [_state(c, ended, is_ready=False) for c in pod["spec"]["containers"]],
        }

    async def _serve(self, pod: Object, address: str) -> None:
        name = pod["metadata"]["name"].encode()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await reader.readuntil(b"\r\n\r\n")
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(name)}\r\nConnection: close\r\n\r\n".encode()
                writer.write(head + name)
                await writer.drain()
            writer.close()

        servers = []
        for container in pod["spec"]["containers"]:
            for port in container.get("ports") or ():
                if port.get("protocol", "TCP") == "TCP":
                    with contextlib.suppress(OSError):
                        servers.append(await asyncio.start_server(answer, address, port["containerPort"]))
        self._servers[pod["metadata"]["uid"]] = servers

    async def _close(self, uid: str) -> None:
        for server in self._servers.pop(uid, ()):
            server.close()
        self._ips.pop(uid, None)


def _unpulled(pod: Object) -> dict[str, Any]:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "there is no such image"}}
    containers = pod["spec"]["containers"]
    return {"phase": "Pending", "containerStatuses": [_state(c, waiting, is_ready=False) for c in containers]}


def _state(container: dict[str, Any], state: dict[str, Any], *, is_ready: bool) -> dict[str, Any]:
    return {
        "name": container["name"], "image": container.get("image", ""), "imageID": container.get("image", ""),
        "ready": is_ready, "started": is_ready, "restartCount": 0, "state": state, "lastState": {},
        "containerID": f"hollow://{container['name']}",
    }  # fmt: skip


async def main() -> None:
    """Run nodes until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--nodes", type=int, default=2)
    options = parser.parse_args()
    transport = HttpTransport(load(options.kubeconfig), user_agent="kubelet")
    api = HttpKubeApi(transport)
    async with asyncio.TaskGroup() as group:
        for index in range(options.nodes):
            group.create_task(HollowKubelet(api, f"hollow-{index}", index=index).run())


if __name__ == "__main__":
    asyncio.run(main())
