"""A device plugin as vendors write them: its own process, registers, and again whenever kubelet.sock is another one.

Arguments: directory of the sockets, name of the resource, a file of JSON that is read again at every look:
``{"devices": {id: health}, "options": {}, "answer": {}, "prefer": [ids]}``, and a file for the calls that came.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server

from skerry.base.grpc import GrpcClient, GrpcError
from skerry.wire.pb.codec import DEVICE_PLUGIN

ENDPOINT = "vendor.sock"
_LOOK_S = 0.05


class _Codec(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return DEVICE_PLUGIN.encode(message_type, message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        return DEVICE_PLUGIN.decode(message_type, data)


class Plugin:
    def __init__(self, directory: Path, resource: str, wishes: Path, calls: Path) -> None:
        self.directory, self.resource, self._wishes, self._calls = directory, resource, wishes, calls

    def wish(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._wishes.read_text())
        return found

    def note(self, method: str, request: Any) -> None:
        with self._calls.open("a") as file:
            file.write(json.dumps([method, request]) + "\n")

    async def options(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(self.wish().get("options", {}))

    async def list_and_watch(self, stream: Any) -> None:
        await stream.recv_message()
        told = None
        while True:
            devices = self.wish()["devices"]
            if devices != told:
                told = devices
                await stream.send_message({"devices": [{"ID": k, "health": v} for k, v in devices.items()]})
            await asyncio.sleep(_LOOK_S)

    async def prefer(self, stream: Any) -> None:
        self.note("GetPreferredAllocation", await stream.recv_message())
        await stream.send_message({"container_responses": [{"deviceIDs": self.wish().get("prefer", [])}]})

    async def allocate(self, stream: Any) -> None:
        request = await stream.recv_message()
        self.note("Allocate", request)
        ids = ",".join(request["container_requests"][0]["devices_ids"])
        answer = self.wish().get("answer", {})
        await stream.send_message({"container_responses": [answer | {"envs": {"SENSORS": ids}}]})

    async def pre_start(self, stream: Any) -> None:
        self.note("PreStartContainer", await stream.recv_message())
        await stream.send_message({})

    def __mapping__(self) -> dict[str, Handler]:
        calls = {
            "GetDevicePluginOptions": self.options, "ListAndWatch": self.list_and_watch,
            "GetPreferredAllocation": self.prefer, "Allocate": self.allocate, "PreStartContainer": self.pre_start,
        }  # fmt: skip
        table = {}
        for name, call in calls.items():
            path = f"/v1beta1.DevicePlugin/{name}"
            request, response, kind = DEVICE_PLUGIN.methods[path]
            cardinality = Cardinality.UNARY_STREAM if kind else Cardinality.UNARY_UNARY
            table[path] = Handler(call, cardinality, request, response)  # type: ignore[arg-type]
        return table

    async def register(self) -> None:
        client = GrpcClient(self.directory / "kubelet.sock", DEVICE_PLUGIN)
        request = {"version": "v1beta1", "endpoint": ENDPOINT, "resource_name": self.resource}
        try:
            await client.call("/v1beta1.Registration/Register", request, timeout_s=5)
        finally:
            await client.aclose()


def _made(path: Path) -> int:
    try:
        return path.stat().st_ctime_ns  # an inode's number is used again
    except OSError:
        return 0


async def main(plugin: Plugin) -> None:
    registered_with = 0
    while True:
        now = _made(plugin.directory / "kubelet.sock")
        if now and now != registered_with:
            path = plugin.directory / ENDPOINT
            path.unlink(missing_ok=True)
            server = Server([plugin], codec=_Codec())  # type: ignore[list-item]
            await server.start(path=str(path))
            try:
                await plugin.register()
                registered_with = now
                while _made(plugin.directory / "kubelet.sock") == now:
                    await asyncio.sleep(_LOOK_S)
            except GrpcError as exc:
                sys.stderr.write(f"{exc}\n")
            server.close()
        await asyncio.sleep(_LOOK_S)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(main(Plugin(Path(arguments[0]), arguments[1], Path(arguments[2]), Path(arguments[3]))))
