"""The sample objects of ``skerry demo``: a Deployment that needs no image, a Modbus thermometer and its model."""

from __future__ import annotations

from skerry.api.gvk import Object

HELLO = "hello"
THERMOMETER = "thermometer"
PROPERTIES = 3
"""Of the thermometer; each poll of the device gives a reading of all of them."""


def hello_deployment(*, replicas: int = 1, image: str = "busybox") -> Object:
    """A Deployment that writes a line a second, with a shell that every Linux has."""
    script = 'n=0; while true; do n=$((n+1)); echo "hello $n from $POD_NAME on $NODE_NAME"; sleep 1; done'
    container = {
        "name": "hello",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", script],
        "env": [_from_field("POD_NAME", "metadata.name"), _from_field("NODE_NAME", "spec.nodeName")],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": HELLO, "namespace": "default", "labels": {"app": HELLO}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": HELLO}},
            "template": {
                "metadata": {"labels": {"app": HELLO}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    }


def thermometer_model() -> Object:
    """Model of the simulated thermometer: a temperature, a counter of measurements, a set point."""
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceModel",
        "metadata": {"name": THERMOMETER, "namespace": "default"},
        "spec": {
            "protocol": "modbus",
            "properties": [
                _property("temperature", "FLOAT", "ReadOnly", unit="Cel"),
                _property("sequence", "INT", "ReadOnly"),
                _property("setpoint", "FLOAT", "ReadWrite", unit="Cel", minimum="5", maximum="30"),
            ],
        },
    }


def thermometer(node: str, *, host: str, port: int, cycle_ms: int = 500) -> Object:
    """The simulated thermometer at ``host:port``, bound to ``node``."""
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": THERMOMETER, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "deviceModelRef": {"name": THERMOMETER},
            "protocol": {"protocolName": "modbus", "configData": {"host": host, "port": port, "unitId": 1}},
            "properties": [
                _instance("temperature", {"table": "holding", "address": 0, "kind": "int16", "scale": 0.1}, cycle_ms),
                _instance("sequence", {"table": "holding", "address": 1, "kind": "uint16"}, cycle_ms),
                _instance("setpoint", {"table": "holding", "address": 10, "kind": "int16", "scale": 0.1}, cycle_ms),
            ],
        },
    }


def _from_field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _property(name: str, kind: str, access: str, **more: str) -> Object:
    return {"name": name, "type": kind, "accessMode": access, **more}


def _instance(name: str, visitor: Object, cycle_ms: int) -> Object:
    return {
        "name": name,
        "visitors": {"protocolName": "modbus", "configData": visitor},
        "collectCycle": cycle_ms,
        "reportCycle": cycle_ms,
        "reportToCloud": True,
    }
