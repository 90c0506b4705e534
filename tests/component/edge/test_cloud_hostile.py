"""A whole agent against a cloud that leaves parts out: nothing of it ends the session, a duty, or another object.

Every message that the cloud may send, each with one place missing, null, empty or of another type; then a pod must
still run, a configuration still arrive, and the log must not show a fault of ours.
"""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.component.edge.test_pods_hostile import FULL, SPEC, broken, places

from skerry.api.config.edge import EdgeConfig
from skerry.app.edge import EdgeAgent
from skerry.base import certificates, json
from skerry.edge.link.enrol import CertificateFiles
from skerry.testing.hollow import stamp
from skerry.testing.scripthub import ScriptedHub, scripted_hub
from skerry.testing.site import until
from skerry.wire.kubeedge import constants as c
from skerry.wire.kubeedge.envelope import Envelope, encode

pytestmark = pytest.mark.timeout(150)
NODE = "edge-1"
HOWS = ("missing", "null", "text", "list", "object")
MOST = 40
"""Of one kind of message; which of them, is drawn by lot with a fixed seed."""


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "5"} | more


def pod(name: str) -> dict[str, Any]:
    shell = {"name": "app", "image": "none", "command": [shutil.which("sh"), "-c", "sleep 600"]}
    spec = {"nodeName": NODE, "terminationGracePeriodSeconds": 1, "containers": [shell]}
    return {"kind": "Pod", "metadata": meta(name), "spec": spec}


def full_pod() -> dict[str, Any]:
    found = pod("bad")
    found["spec"] |= SPEC
    found["spec"]["containers"] = [found["spec"]["containers"][0] | FULL]
    labels = {"labels": {"a": "b"}, "annotations": {"c": "d"}, "ownerReferences": [{"kind": "Job", "name": "j"}]}
    found["metadata"] |= labels
    found["status"] = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
    return found


DEVICE = {
    "kind": "Device", "metadata": meta("lamp"),
    "spec": {
        "deviceModelRef": {"name": "light"}, "nodeName": NODE,
        "protocol": {"protocolName": "modbus", "configData": {"host": "127.0.0.1", "port": 1}},
        "properties": [{"name": "on", "desired": {"value": "1", "metadata": {"timestamp": "1"}},
                        "visitors": {"protocolName": "modbus", "configData": {"register": 1}}}],
    },
}  # fmt: skip
MODEL = {
    "kind": "DeviceModel",
    "metadata": meta("light"),
    "spec": {"properties": [{"name": "on", "type": "INT", "accessMode": "ReadWrite", "minimum": "0"}]},
}
MEMBER = {"id": "default/lamp", "name": "lamp", "attributes": {"a": {"value": "1", "optional": True, "metadata": {}}},
          "twin": {"on": {"expected": {"value": "1", "metadata": {"timestamp": 1}}, "optional": True,
                          "metadata": {"type": "int"}}}}  # fmt: skip
MESSAGES: dict[str, tuple[str, str, str, Any]] = {
    "pod": (c.GROUP_RESOURCE, "insert", "default/pod/bad", full_pod()),
    "configmap": (c.GROUP_RESOURCE, "update", "default/configmap/c", {"metadata": meta("c"), "data": {"k": "v"}}),
    "secret": (c.GROUP_RESOURCE, "insert", "default/secret/s", {"metadata": meta("s"), "data": {"k": "dg=="}}),
    "deletion": (c.GROUP_RESOURCE, "delete", "default/configmap/c", {"metadata": meta("c")}),
    "node": (
        c.GROUP_RESOURCE, "update", f"default/node/{NODE}",
        {"metadata": meta(NODE, labels={"a": "b"}), "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
         "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
    ),
    "device": (c.GROUP_RESOURCE, "insert", "default/device/lamp", DEVICE),
    "model": (c.GROUP_RESOURCE, "insert", "default/devicemodel/light", MODEL),
    "membership": (
        c.GROUP_TWIN, "update", "membership",
        {"event_id": "", "timestamp": 1, "added_devices": [MEMBER], "removed_devices": [{"id": "default/x"}]},
    ),
    "members": (
        c.GROUP_TWIN, "update", "membership/detail",
        {"event_id": "", "timestamp": 1, "devices": [MEMBER]},
    ),
    "twin": (
        c.GROUP_TWIN, "update", "device/default/lamp/twin/cloud_updated",
        {"event_id": "", "timestamp": 1, "twin": MEMBER["twin"]},
    ),
    "cloud": (
        c.GROUP_HUB, "update", c.RESOURCE_CLOUD,
        {"hubs": [["127.0.0.1", 1]], "joins": [["127.0.0.1", 1]], "tunnels": [], "api_port": 6443, "renew": False},
    ),
}  # fmt: skip


class Whole:
    """The agent and the hub that it dials."""

    def __init__(self, hub: ScriptedHub, agent: EdgeAgent) -> None:
        self.hub = hub
        self.agent = agent

    async def send(self, kind: str, content: Any) -> None:
        group, operation, resource, _ = MESSAGES[kind]
        made_id, made_ms = stamp()
        envelope = Envelope(
            made_id, c.SOURCE_EDGE_CONTROLLER, group, operation, resource, content, timestamp_ms=made_ms
        )
        await self.hub.send_raw(encode(envelope))

    async def serves(self, name: str) -> None:
        """A configuration arrives and a pod runs."""
        await self.hub.deliver("insert", f"default/configmap/{name}", {"metadata": meta(name), "data": {"k": "v"}})
        await self.hub.deliver("insert", f"default/pod/{name}", pod(name))

        async def look() -> str:
            found = {each["metadata"]["name"]: each for each in self.agent.pods.node_pods.pods()}
            stored = self.agent.objects.get(f"default/configmap/{name}")
            phase = (found.get(name, {}).get("status") or {}).get("phase")
            return "" if stored and phase == "Running" else f"{name}: {phase}, configuration {stored}"

        await until(look, within_s=60)


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the agent's log says of exceptions that nobody expected; one within the worker of the pod is its own."""
    found = [record.getMessage() for record in caplog.records if record.exc_info and record.name.startswith("skerry")]
    return [name for name in found if name != "pod.failed"]


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[Whole]:
    async with scripted_hub(tmp_path / "hub") as hub, AsyncExitStack() as stack:
        data = tmp_path / "edge"
        files = CertificateFiles(data / "certs")
        files.directory.mkdir(parents=True)
        files.ca.write_bytes(hub.ca.cert_pem)
        certificates.save(hub.credential(NODE), files.cert, files.key)
        place = ["127.0.0.1", hub.port]
        joined = {"node": NODE, "nodeUid": "u-1", "hubs": [place], "joins": [place], "tunnels": [place]}
        (data / "node.json").write_bytes(json.dumps(joined))
        agent = EdgeAgent(EdgeConfig(data=data, runtime="process", tunnel=False), joined)
        await agent.start(stack)
        await hub.until(lambda: hub.sessions > 0, timeout_s=60)
        try:
            yield Whole(hub, agent)
        finally:
            await agent.pods.stop_all()


@pytest.mark.parametrize(
    "kinds",
    [
        ("pod",),
        ("configmap", "secret", "deletion", "node", "cloud"),
        ("device", "model", "membership", "members", "twin"),
    ],
    ids=("pod", "objects", "devices"),
)
async def test_a_message_with_any_part_missing_harms_nothing_else(
    kinds: tuple[str, ...], whole: Whole, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(23)
    for kind in kinds:
        content = MESSAGES[kind][3]
        cases = [(place, how) for place in places(content) for how in HOWS]
        contents = [broken(content, *case) for case in chance.sample(cases, min(MOST, len(cases)))]
        for number, found in enumerate([content, None, "", [], {}, 7, True, "{", *contents]):
            sent = copy.deepcopy(found)
            if kind == "pod" and isinstance(sent, dict) and isinstance(sent.get("metadata"), dict):
                sent["metadata"]["uid"] = sent["metadata"].get("uid") and f"bad-{number}"
            await whole.send(kind, sent)
    await whole.serves("good")
    assert whole.hub.sessions == 1, "the session ended"
    assert faults(caplog) == []


async def test_frames_with_any_part_missing_end_a_session_at_most(
    whole: Whole, caplog: pytest.LogCaptureFixture
) -> None:
    frame = {
        "header": {"msg_id": "m", "timestamp": 1, "sync": True, "resourceversion": "5", "parent_msg_id": ""},
        "route": {"source": "edgecontroller", "group": "resource", "operation": "insert",
                  "resource": "default/configmap/c"},
        "content": {"metadata": meta("c"), "data": {"k": "v"}},
    }  # fmt: skip
    cases = [(place, how) for place in places(frame) for how in HOWS]
    for place, how in random.Random(23).sample(cases, 12):
        await whole.hub.send_raw(json.dumps(broken(frame, place, how)))
        sessions = whole.hub.sessions
        probe = await whole.hub.deliver("update", "default/configmap/probe", {"metadata": meta("probe"), "data": {}})
        await whole.hub.until(
            lambda p=probe, s=sessions: p in whole.hub.acks or whole.hub.sessions > s,
            timeout_s=60,  # type: ignore[misc]
        )
    await whole.serves("good")
    assert faults(caplog) == []


@pytest.mark.parametrize("metadata", [None, "text", [], {"uid": 7}, {"labels": "x"}, {"name": ["web"]}])
async def test_what_does_not_look_like_an_object_is_neither_stored_nor_ends_the_session(
    metadata: Any, whole: Whole, caplog: pytest.LogCaptureFixture
) -> None:
    sent = [await whole.hub.deliver("insert", f"default/{kind}/odd", pod("odd") | {"metadata": metadata})
            for kind in ("pod", "configmap", "device")]  # fmt: skip
    await whole.hub.until(lambda: {*whole.hub.acks, *whole.hub.refusals} >= set(sent), timeout_s=60)
    assert (metadata is None) == (sent[0] in whole.hub.acks)
    assert (metadata is None) == (whole.agent.objects.get("default/configmap/odd") is not None)
    await whole.serves("good")
    assert whole.hub.sessions == 1 and faults(caplog) == []
