"""Environments."""

import base64

import pytest
from tests.unit.edge.pods.cases import pod

from skerry.edge.pods.env import ConfigMissing, command_line, environment, object_keys
from skerry.runtime.downward import NodeFacts

FACTS = NodeFacts("192.0.2.1", ("10.0.0.5",), {"cpu": "4"})
CONFIG = {"data": {"A": "1", "B": "2"}}
SECRET = {"kind": "Secret", "data": {"password": base64.b64encode(b"hush").decode()}}
OBJECTS = {("configmap", "c"): CONFIG, ("secret", "s"): SECRET, ("configmap", "gone"): None}


def test_all_sources() -> None:
    container = {
        "name": "app",
        "resources": {"limits": {"memory": "64Mi"}},
        "envFrom": [{"prefix": "C_", "configMapRef": {"name": "c"}}],
        "env": [
            {"name": "PLAIN", "value": "x $(C_A) $(NONE) $$(C_A)"},
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "B"}}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "OPT", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "x", "optional": True}}},
        ],
    }
    assert object_keys(container) == {("configmap", "c"), ("secret", "s"), ("configmap", "gone")}
    found = dict(environment(pod(), container, OBJECTS, FACTS))
    assert found == {
        "C_A": "1",
        "C_B": "2",
        "PLAIN": "x 1 $(NONE) $(C_A)",
        "KEY": "2",
        "PASSWORD": "hush",
        "POD": "web",
        "IP": "10.0.0.5",
        "MEM": "64",
        "CPU": "4",
    }


@pytest.mark.parametrize(
    "origin",
    [
        {"configMapKeyRef": {"name": "gone", "key": "x"}},
        {"configMapKeyRef": {"name": "c", "key": "x"}},
        {"secretKeyRef": {"name": "s", "key": "x"}},
    ],
)
def test_missing_references_are_named(origin: dict[str, dict[str, str]]) -> None:
    container = {"name": "app", "env": [{"name": "X", "valueFrom": origin}]}
    with pytest.raises(ConfigMissing) as caught:
        environment(pod(), container, OBJECTS, FACTS)
    assert caught.value.reason == "CreateContainerConfigError"
    assert next(iter(origin.values()))["name"] in str(caught.value)


def test_resources_may_be_those_of_another_container() -> None:
    wanted = pod()
    wanted["spec"]["containers"].append({"name": "side", "resources": {"limits": {"memory": "33Mi"}}})

    def asked(name: str) -> list[tuple[str, str]]:
        origin = {"resourceFieldRef": {"containerName": name, "resource": "limits.memory", "divisor": "1Mi"}}
        container = {"name": "app", "env": [{"name": "X", "valueFrom": origin}]}
        return environment(wanted, container, {}, NodeFacts(allocatable={"memory": "64Mi"}))

    assert (asked("side"), asked("app"), asked("")) == ([("X", "33")], [("X", "64")], [("X", "64")])
    with pytest.raises(ConfigMissing, match="names container 'none'"):
        asked("none")


def test_command_line_is_expanded() -> None:
    container = {"command": ["run", "$(A)"], "args": ["$(B)", "$$(A)"]}
    assert command_line(container, {"A": "1", "B": "2"}) == (["run", "1"], ["2", "$(A)"])
