"""One target per decoder: any bytes give a value or one of the decoder's own errors, in bounded time and memory.

A target also checks what must hold of a value that was accepted: what is written again reads the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from skerry.api import jsonpath, patch, quantity, selectors
from skerry.api.gvk import PODS
from skerry.api.meta import parse_rfc3339
from skerry.api.status import ApiError
from skerry.apiserver import request_info
from skerry.apiserver.handlers import bodies
from skerry.base import json, yaml
from skerry.base.errors import SkerryError
from skerry.wire import modbus
from skerry.wire.errors import ProtocolError
from skerry.wire.kubeedge import answer, dmi, envelope, join, route, tunnel, tunnelmux, twin
from skerry.wire.kubeedge.session import CloudPeer, EdgePeer
from skerry.wire.kubelet import crilog
from skerry.wire.mqtt import codec as mqtt
from skerry.wire.mqtt import topics
from skerry.wire.mqtt.session import MqttClient
from skerry.wire.pb import kubernetes
from skerry.wire.pb.codec import CRI, DMI

Run = Callable[[bytes], None]
LIMIT_BYTES = 4096
"""Longest input that the fuzzer makes."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Args:
        run: raises only for a fault.
        seeds: inputs that are understood, to begin from.
    """

    run: Run
    seeds: Sequence[bytes] = ()


def text_of(data: bytes) -> str:
    return data.decode(errors="replace")


def json_of(data: bytes) -> Any:
    """A document, or None for what is none."""
    try:
        return json.loads(data)
    except json.JsonError:
        return None


def parts_of(data: bytes) -> list[bytes]:
    """A sequence of messages: cut at newlines, at most 32."""
    return data.split(b"\n")[:32]


def read_envelope(data: bytes) -> None:
    try:
        found = envelope.decode(data)
    except ProtocolError:
        return
    again = envelope.decode(envelope.encode(found))
    assert again == found, "an envelope changed on its way"
    try:
        answer.read(found)
    except ProtocolError:
        pass


def read_route(data: bytes) -> None:
    path = text_of(data)
    route.resource_type(path)
    try:
        found = route.parse(path)
    except ProtocolError:
        return
    assert route.parse(found.path) == found


def read_token(data: bytes) -> None:
    try:
        join.parse_token(text_of(data))
    except ProtocolError:
        pass


def read_certificate_request(data: bytes) -> None:
    lines = [line.partition(":") for line in text_of(data).splitlines()[:20]]
    headers = {name: value.strip() for name, _, value in lines}
    for read in (join.parse_request, lambda h: join.check_node_name(h.get("n", ""))):
        try:
            read(headers)
        except ProtocolError:
            pass


def _stamp() -> tuple[str, int]:
    return "11111111-2222-3333-4444-555555555555", 1


def run_cloud_peer(data: bytes) -> None:
    peer = CloudPeer(0.0, _stamp)
    peer.send_delivery(envelope.Envelope("d", "edgecontroller", "resource", "insert", "default/pod/a"))
    for number, part in enumerate(parts_of(data)):
        try:
            peer.receive_message(part)
        except ProtocolError:
            return
        peer.tick(float(number))
        peer.events()
        assert peer.outstanding_count <= 1
        assert len(peer.messages_to_send()) <= 4


def run_edge_peer(data: bytes) -> None:
    peer = EdgePeer(0.0, _stamp)
    for number, part in enumerate(parts_of(data)):
        try:
            peer.receive_message(part)
        except ProtocolError:
            return
        for event in peer.events():
            peer.send_ack(event.envelope)
        peer.tick(float(number))
        assert len(peer.messages_to_send()) <= 4


def read_twin(data: bytes) -> None:
    topic, _, body = data.partition(b"\n")
    for parse in (twin.parse_topic, twin.parse_resource):
        parse(text_of(topic))
    document = json_of(body)
    reads: tuple[Callable[[Any], Any], ...] = (
        twin.parse_twin_message, twin.parse_base, twin.parse_state_update, twin.parse_membership,
        twin.parse_membership_detail,
    )  # fmt: skip
    for read in reads:
        try:
            read(document)
        except ProtocolError:
            pass


def read_tunnel(data: bytes) -> None:
    try:
        frame = tunnel.decode(data)
    except ProtocolError:
        return
    assert tunnel.decode(tunnel.encode(frame)) == frame
    try:
        tunnel.decode_request(frame.data)
    except ProtocolError:
        pass


def run_tunnel_peer(data: bytes) -> None:
    peer = tunnelmux.TunnelPeer(window_bytes=1000)
    opened = peer.open(tunnel.FrameType.LOGS_CONNECT, tunnel.StreamRequest("/containerLogs/a/b/c"))
    for part in parts_of(data):
        try:
            peer.receive_message(part)
        except ProtocolError:
            return
        peer.events()
        peer.send_data(opened, b"x")


def read_dmi(data: bytes) -> None:
    for name, parse in (("MapperRegisterRequest", dmi.parse_mapper), ("ReportDeviceStatusRequest", dmi.parse_report)):
        try:
            parse(DMI.decode(name, data))  # type: ignore[operator]
        except SkerryError:
            pass
    for name in ("Device", "DeviceModel"):
        try:
            found = DMI.decode(name, data)
            dmi.device_object(found) if name == "Device" else dmi.model_object(found)
        except SkerryError:
            pass


def read_cri(data: bytes) -> None:
    for name in ("ListContainersResponse", "StatusResponse", "PodSandboxStatusResponse", "ListContainerStatsResponse"):
        try:
            found = CRI.decode(name, data)
        except ProtocolError:
            continue
        CRI.encode(name, found)


def read_protobuf(data: bytes) -> None:
    for body in (data, b"k8s\x00" + data):
        for read in (kubernetes.decode_object, kubernetes.decode_options):
            try:
                read(body)
            except ProtocolError:
                pass


def read_log_line(data: bytes) -> None:
    for line in data.split(b"\n")[:16]:
        try:
            crilog.decode(line)
        except ProtocolError:
            pass


def read_mqtt(data: bytes) -> None:
    decoder = mqtt.Decoder()
    try:
        for packet in decoder.feed(data):
            if not isinstance(packet, mqtt.Oversized):
                written = mqtt.encode(packet)
                again = list(mqtt.Decoder().feed(written))
                assert again == [packet], "a packet changed on its way"
    except ProtocolError:
        return


def run_mqtt_client(data: bytes) -> None:
    client = MqttClient(mqtt.Connect("fuzz", 60, True, None, None))
    for part in (b"\x20\x02\x00\x00", data):
        try:
            client.receive_data(part)
        except ProtocolError:
            return
        client.events()


def read_topic(data: bytes) -> None:
    pattern, _, topic = text_of(data).partition("\n")
    if topics.is_filter(pattern):
        topics.matches(pattern, topic)


def read_modbus(data: bytes) -> None:
    try:
        for frame in modbus.Decoder().feed(data):
            assert list(modbus.Decoder().feed(modbus.encode(frame))) == [frame]
            modbus.check_answer(modbus.read_request(3, 0, 1), frame.pdu)
    except (ProtocolError, modbus.ModbusRefused):
        pass


def read_yaml(data: bytes) -> None:
    try:
        found = yaml.load_all(data)
    except yaml.YamlError:
        return
    assert isinstance(found, list)


def read_selectors(data: bytes) -> None:
    text = text_of(data)
    for parse in (selectors.parse_labels, lambda t: selectors.parse_fields(t, PODS)):
        try:
            parse(text)
        except (ApiError, ValueError):
            pass


def read_quantity(data: bytes) -> None:
    text = text_of(data)
    try:
        found = quantity.parse_quantity(text)
    except ValueError:
        return
    assert quantity.parse_quantity(quantity.canonical(text)).nano == found.nano


def read_time(data: bytes) -> None:
    parse_rfc3339(text_of(data))


def read_jsonpath(data: bytes) -> None:
    try:
        path = jsonpath.parse_path(text_of(data))
    except ValueError:
        return
    jsonpath.find_values(path, {"status": {"a": [{"b": 1, "type": "x"}, 2], "c": None}, "spec": {"d": "e"}})


def apply_patch(data: bytes) -> None:
    document = json_of(data)
    target = {"a": {"b": [1, 2, {"c": 3}]}, "d": "e"}
    try:
        patch.json_patch(target, document)
    except (ApiError, ValueError):
        pass
    patch.merge_patch(target, document)
    assert target == {"a": {"b": [1, 2, {"c": 3}]}, "d": "e"}, "the patched object itself was changed"


def read_request(data: bytes) -> None:
    method, _, rest = text_of(data).partition(" ")
    path, _, query = rest.partition("?")
    try:
        info = request_info.parse(method, path, query)
        request_info.write_options(info, user_agent=path)
    except ApiError:
        pass


def read_body(data: bytes) -> None:
    kind, _, body = data.partition(b"\n")
    types = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", text_of(kind))
    for content_type in types:
        try:
            bodies.decode(body, content_type)
        except ApiError:
            pass
    for content_type in ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"):
        try:
            bodies.decode_patch(body, content_type, is_custom=False)
        except ApiError:
            pass


def _mqtt_seeds() -> list[bytes]:
    return [
        mqtt.encode(mqtt.Publish("a/b", b"hello", 1, False, False, 7)),
        mqtt.encode(mqtt.Connect("me", 60, True, "user", b"secret")),
        b"\x90\x03\x00\x01\x00", b"\x20\x02\x00\x00", b"\xd0\x00",
    ]  # fmt: skip


_DELIVERY = (
    b'{"header":{"msg_id":"a","timestamp":1,"resourceversion":"7"},"route":{"source":"edgecontroller","group":'
    b'"resource","operation":"insert","resource":"default/configmap/a"},"content":{"metadata":{"name":"a"}}}'
)
_ACK = (
    b'{"header":{"msg_id":"b","parent_msg_id":"d","timestamp":1},"route":{"source":"edgecontroller","group":'
    b'"resource","operation":"response","resource":"default/pod/a"},"content":"OK"}'
)
_TWIN = b'$hw/events/device/default/a/twin/update\n{"event_id":"","twin":{"t":{"actual":{"value":"1"}}}}'

TARGETS: dict[str, Target] = {
    "envelope": Target(read_envelope, (_DELIVERY, _ACK)),
    "route": Target(read_route, (b"node/e/default/pod/web", b"default/configmap/a", b"device/a/twin/edge_updated")),
    "token": Target(read_token, (b"a" * 64 + b".eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln",)),
    "certificate-request": Target(
        read_certificate_request, (b"NodeName: e\nAuthorization: Bearer x\nExtKeyUsages: [2]",)
    ),
    "cloud-peer": Target(run_cloud_peer, (_ACK, _DELIVERY + b"\n" + _ACK)),
    "edge-peer": Target(run_edge_peer, (_DELIVERY, _DELIVERY + b"\n" + _DELIVERY)),
    "twin": Target(read_twin, (_TWIN, b'$hw/events/node/e/membership/updated\n{"added_devices":[{"id":"a"}]}')),
    "tunnel": Target(read_tunnel, (b"\x01\x00{}", b"\x02\x02data")),
    "tunnel-peer": Target(run_tunnel_peer, (b"\x01\x02hello\n\x01\x03",)),
    "dmi": Target(read_dmi, (b"\n\x08\n\x01a\x12\x01b\x1a\x00",)),
    "cri": Target(read_cri, (b"\n\x10\n\x02id\x12\x02sb\x1a\x06\n\x01c\x10\x01",)),
    "protobuf": Target(read_protobuf, (b"\n\x0c\n\x02v1\x12\x06Secret\x12\x05\n\x03\n\x01a\x1a\x00\x22\x00",)),
    "log-line": Target(read_log_line, (b"2026-01-02T03:04:05.678901234Z stdout F hello", b"x")),
    "mqtt": Target(read_mqtt, tuple(_mqtt_seeds())),
    "mqtt-client": Target(run_mqtt_client, tuple(_mqtt_seeds())),
    "topic": Target(read_topic, (b"a/+/#\na/b/c", b"$hw/events/+\n$hw/events/x")),
    "modbus": Target(read_modbus, (b"\x00\x01\x00\x00\x00\x05\x01\x03\x02\x00\x07",)),
    "yaml": Target(read_yaml, (b"a: &x [1, 2]\nb: *x\n---\nkind: Pod\n", b"{a: 1, b: [2]}")),
    "selectors": Target(read_selectors, (b"a=b,c in (d,e),!f,g!=h", b"metadata.name=a,status.phase!=Running")),
    "quantity": Target(read_quantity, (b"100m", b"1.5Gi", b"12e6", b"0.1")),
    "time": Target(read_time, (b"2026-01-02T03:04:05Z", b"2026-01-02T03:04:05.678+02:00")),
    "jsonpath": Target(read_jsonpath, (b".status.a[?(@.type=='x')].b", b".spec.d")),
    "patch": Target(apply_patch, (b'[{"op":"add","path":"/a/b/-","value":1}]', b'{"a":null,"d":{"x":1}}')),
    "request": Target(
        read_request,
        (
            b"GET /api/v1/namespaces/a/pods?watch=1&labelSelector=a%3Db",
            b"PATCH /apis/apps/v1/x?dryRun=All&fieldManager=m",
        ),
    ),
    "body": Target(read_body, (b'application/json\n{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}',)),
}
