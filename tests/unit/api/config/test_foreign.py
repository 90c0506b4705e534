"""KubeEdge's configuration files as input: what is taken, what is told."""

from typing import Any

import pytest

from skerry.api.config import cloudcore, edgecore, foreign
from skerry.api.config.cloud import CloudConfig
from skerry.api.config.edge import EdgeConfig
from skerry.base import conf
from skerry.base.errors import ConfigError

EDGE = {
    "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
    "kind": "EdgeCore",
    "modules": {
        "edgeHub": {
            "enable": True,
            "httpServer": "https://cloud.example.com:10002",
            "token": "secret.token",
            "websocket": {"enable": True, "server": "cloud.example.com:10000", "readDeadline": 15},
        },
        "edged": {
            "hostnameOverride": "gate-1",
            "nodeIP": "192.0.2.7",
            "nodeLabels": {"site": "north", "example.com/line": "3"},
            "seccompDefault": True,
            "tailoredKubeletConfig": {
                "containerRuntimeEndpoint": "unix:///run/crio/crio.sock",
                "maxPods": 30,
                "eventBurst": 100,
                "resolvConf": "/run/systemd/resolve/resolv.conf",
                "evictionHard": {"memory.available": "200Mi"},
                "evictionPressureTransitionPeriod": "1m30s",
                "clusterDNS": ["169.254.96.16"],
                "containerLogMaxSize": "1Mi",
                "imageGCLowThresholdPercent": 70,
                "podPidsLimit": 100,
                "cpuManagerPolicy": "static",
            },
        },
        "eventBus": {"mqttMode": 2, "mqttServerExternal": "tcp://127.0.0.1:1883"},
        "deviceTwin": {"dmiSockPath": "/etc/kubeedge/"},
        "edgeHubb": {"enable": True},
    },
}
CLOUD = {
    "apiVersion": "cloudcore.config.kubeedge.io/v1alpha2",
    "kind": "CloudCore",
    "kubeAPIConfig": {"kubeConfig": "/root/.kube/config"},
    "modules": {
        "cloudHub": {
            "advertiseAddress": ["192.0.2.2", "192.0.2.3"],
            "tlsCAFile": "/etc/ke/ca.crt",
            "websocket": {"port": 30000},
        },
        "router": {"enable": True},
        "edgeController": {"load": {"queryNodeWorkers": 500}},
    },
}


def fates(found: foreign.Converted) -> dict[str, str]:
    return {line.key: line.fate for line in found.report}


def test_an_edge_file_becomes_settings_and_facts() -> None:
    found = foreign.convert(EDGE, edgecore.RULES, name="edgecore.yaml")
    assert found.settings == {
        "nodeIp": "192.0.2.7",
        "labels": {"site": "north", "example.com/line": "3"},
        "criSocket": "/run/crio/crio.sock",
        "mqtt": "127.0.0.1:1883",
        "evictionHard": {"memory.available": "200Mi"},
        "evictionSettleS": 90.0,
        "clusterDns": ["169.254.96.16"],
        "containerLogMaxBytes": 1 << 20,
        "imageGcLowPercent": 70,
        "podPidsLimit": 100,
        "maxPods": 30,
        "resolvConf": "/run/systemd/resolve/resolv.conf",
    }
    assert found.facts == {
        "hub": "cloud.example.com:10000",
        "join": "https://cloud.example.com:10002",
        "node": "gate-1",
        "token": "secret.token",
    }
    told = fates(found)
    assert told["modules.edged.seccompDefault"] == foreign.MISSING
    assert told["modules.edged.tailoredKubeletConfig.cpuManagerPolicy"] == foreign.MISSING
    assert told["modules.edged.tailoredKubeletConfig.evictionHard"] == foreign.TAKEN
    assert told["modules.edgeHubb.enable"] == foreign.UNKNOWN
    assert "modules.edged.tailoredKubeletConfig.eventBurst" not in told
    assert "secret.token" not in str(found.report)
    config = conf.build(EdgeConfig, file=found.settings, file_name="edge")
    assert config.labels["site"] == "north"
    assert (config.cluster_dns, config.eviction_settle_s) == (("169.254.96.16",), 90.0)


def test_a_cloud_file_becomes_settings_and_facts() -> None:
    found = foreign.convert(CLOUD, cloudcore.RULES, name="cloudcore.yaml")
    assert found.settings == {"kubeconfig": "/root/.kube/config", "advertise": ["192.0.2.2", "192.0.2.3"]}
    assert found.facts == {"caFile": "/etc/ke/ca.crt"}
    told = fates(found)
    assert told["modules.cloudHub.websocket.port"] == told["modules.router.enable"] == foreign.MISSING
    assert told["modules.edgeController.load.queryNodeWorkers"] == foreign.NEEDLESS
    assert conf.build(CloudConfig, file=found.settings).advertise == ("192.0.2.2", "192.0.2.3")


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("edged", "tailoredKubeletConfig", "containerRuntimeEndpoint"), "tcp://10.0.0.1:1", "unix://"),
        (("eventBus", "mqttServerExternal"), "broker", "tcp://HOST:PORT"),
        (("edged", "nodeLabels"), 7, "nodeLabels"),
    ],
)
def test_a_value_that_cannot_be_is_named(path: tuple[str, ...], value: Any, complaint: str) -> None:
    document: Any = value
    for name in reversed(path):
        document = {name: document}
    with pytest.raises(ConfigError) as failure:
        foreign.convert({"modules": document}, edgecore.RULES, name="edgecore.yaml")
    assert complaint in str(failure.value)
    assert ".".join(path) in str(failure.value)


@pytest.mark.parametrize(("table", "cls"), [(edgecore, EdgeConfig), (cloudcore, CloudConfig)])
def test_every_setting_that_a_table_names_is_one_of_ours(table: Any, cls: Any) -> None:
    ours = {conf.camel(name) for name in cls.__dataclass_fields__}
    assert {rule.to for rule in table.RULES if rule.to} <= ours
    assert all(rule.why for rule in table.RULES if rule.fate in (foreign.NEEDLESS, foreign.MISSING))
    keys = [rule.key for rule in table.RULES]
    assert len(keys) == len(set(keys))


def test_nesting_is_bounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"x": deep}
    assert len(foreign.convert(deep, edgecore.RULES, name="x").report) == 1
