"""KubeEdge's ``edgecore.yaml`` (v1alpha2) as input: key by key what it is with us.

Source: kubeedge staging/src/github.com/kubeedge/api/apis/componentconfig/edgecore/v1alpha2 (v1.23).
"""

from __future__ import annotations

import re
from typing import Any

from skerry.api.config.foreign import Rule
from skerry.api.quantity import parse_quantity

KIND = "EdgeCore"
API_GROUP = "edgecore.config.kubeedge.io"

DEFAULT_SOCKET = "/run/containerd/containerd.sock"
DEFAULT_DMI_SOCKET = "/etc/kubeedge/dmi.sock"
STATIC_PODS = "/etc/kubeedge/manifests"
KUBELET_ROOT = "/var/lib/kubelet"

_RESOLV_CONF = "/etc/resolv.conf"

_AT_JOIN = "certificates and addresses come from the join"
_BOUNDED = "queues, rates and time limits are bounded and set by the agent itself"
_CHANNELS = "there are no channels between modules to be sized"
_NO_COUNTERPART = "a setting of the kubelet without a counterpart"
_KUBELET = "modules.edged.tailoredKubeletConfig."

_KUBELET_DEFAULTS = {
    "cgroupsPerQOS": True,
    "configMapAndSecretChangeDetectionStrategy": "Get",
    "containerLogMaxWorkers": 1,
    "containerLogMonitorInterval": "10s",
    "contentType": "application/json",
    "cpuCFSQuota": True,
    "cpuCFSQuotaPeriod": "100ms",
    "cpuManagerPolicy": "none",
    "cpuManagerReconcilePeriod": "10s",
    "crashLoopBackOff": {},
    "enableControllerAttachDetach": True,
    "enableDebugFlagsHandler": True,
    "enableDebuggingHandlers": True,
    "enableProfilingHandler": True,
    "enableSystemLogHandler": True,
    "enforceNodeAllocatable": ["pods"],
    "eventBurst": 100,
    "eventRecordQPS": 50,
    "failCgroupV1": False,
    "failSwapOn": False,
    "fileCheckFrequency": "20s",
    "hairpinMode": "promiscuous-bridge",
    "imageMaximumGCAge": "0s",
    "imageMinimumGCAge": "2m0s",
    "iptablesDropBit": 15,
    "iptablesMasqueradeBit": 14,
    "localStorageCapacityIsolation": True,
    "makeIPTablesUtilChains": True,
    "maxOpenFiles": 1000000,
    "memoryManagerPolicy": "None",
    "memorySwap": {},
    "memoryThrottlingFactor": 0.9,
    "nodeLeaseDurationSeconds": 40,
    "nodeStatusMaxImages": 0,
    "nodeStatusReportFrequency": "5m0s",
    "nodeStatusUpdateFrequency": "10s",
    "oomScoreAdj": -999,
    "podLogsDir": "/var/log/pods",
    "registerNode": True,
    "registryBurst": 10,
    "registryPullQPS": 5,
    "runtimeRequestTimeout": "2m0s",
    "seccompDefault": False,
    "serializeImagePulls": True,
    "staticPodPath": STATIC_PODS,
    "streamingConnectionIdleTimeout": "4h0m0s",
    "syncFrequency": "1m0s",
    "topologyManagerPolicy": "none",
    "topologyManagerScope": "container",
    "volumePluginDir": "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/",
    "volumeStatsAggPeriod": "1m0s",
}
"""Settings of the kubelet inside edgecore that have no counterpart; saying the default again asks for nothing."""


_PART = re.compile(r"(\d+)([hms])")
_DURATION = re.compile(r"(\d+[hms])+")
_UNITS = {"h": 3600, "m": 60, "s": 1}


def _socket(value: Any) -> str:
    text = str(value)
    if not text.startswith(("unix://", "/")):
        raise ValueError("a socket path or unix:// address is wanted")
    return text.removeprefix("unix://")


def _texts(value: Any) -> dict[str, str]:
    return {str(name): str(amount) for name, amount in value.items()}


def _bytes(value: Any) -> int:
    return parse_quantity(value).value


def _broker(value: Any) -> str:
    scheme, mark, rest = str(value).partition("://")
    if not mark or scheme not in ("tcp", "mqtt") or not rest.rpartition(":")[2].isdigit():
        raise ValueError("tcp://HOST:PORT is wanted")
    return rest


def _resolver(value: Any) -> str:
    """The usual place leaves it to the agent, which knows where systemd-resolved has another one."""
    return "" if value == _RESOLV_CONF else str(value)


def _count(value: Any) -> int:
    """-1 stands for any number there, 0 here."""
    return max(0, int(value))


def _seconds(value: Any) -> int:
    text = str(value)
    if not _DURATION.fullmatch(text):
        raise ValueError("a duration such as 30s or 1m30s is wanted")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _dmi(value: Any) -> str:
    text = str(value)
    return f"{text.rstrip('/')}/dmi.sock" if not text.endswith(".sock") else text


RULES = (
    Rule("apiVersion", why="checked"),
    Rule("kind", why="checked"),
    Rule("edgecoreVersion", "", why="written by tools"),
    Rule("database.dataSource", "/var/lib/kubeedge/edgecore.db", fact="database"),
    Rule("database.*", why="the store is SQLite in the data directory"),
    Rule("featureGates.*", why="no gates; what is there works"),
    Rule("modules.edgeHub.enable", True, lacks=True, why="the link cannot be switched off: stop the agent instead"),
    Rule("modules.edgeHub.websocket.enable", True, why="the link is WebSocket"),
    Rule("modules.edgeHub.websocket.server", fact="hub"),
    Rule("modules.edgeHub.websocket.*", why=_BOUNDED),
    Rule("modules.edgeHub.quic.enable", False, lacks=True, why="QUIC is not served; use WebSocket"),
    Rule("modules.edgeHub.quic.*", why="QUIC is not used"),
    Rule("modules.edgeHub.httpServer", fact="join"),
    Rule("modules.edgeHub.token", "", fact="token"),
    Rule("modules.edgeHub.heartbeat", 15, why=_BOUNDED),
    Rule("modules.edgeHub.messageQPS", 30, why=_BOUNDED),
    Rule("modules.edgeHub.messageBurst", 60, why=_BOUNDED),
    Rule("modules.edgeHub.projectID", "e632aba927ea4ac2b575ec1603d56f10", fact="project"),
    Rule("modules.edgeHub.tlsCaFile", "/etc/kubeedge/ca/rootCA.crt", fact="caFile"),
    Rule("modules.edgeHub.tlsCertFile", "/etc/kubeedge/certs/server.crt", fact="certFile"),
    Rule("modules.edgeHub.tlsPrivateKeyFile", "/etc/kubeedge/certs/server.key", fact="keyFile"),
    Rule("modules.edgeHub.rotateCertificates", True, why="certificates are always renewed in time"),
    Rule("modules.edged.enable", True, lacks=True, why="pods cannot be switched off"),
    Rule("modules.edged.hostnameOverride", fact="node"),
    Rule("modules.edged.nodeIP", "", to="nodeIp"),
    Rule("modules.edged.customInterfaceName", "", lacks=True, why="set nodeIp"),
    Rule("modules.edged.nodeLabels", {}, to="labels", take=dict),
    Rule("modules.edged.registerNodeNamespace", "default", why="nodes have no namespace"),
    Rule("modules.edged.registerSchedulable", True, lacks=True, why="cordon the node: kubectl cordon NAME"),
    Rule("modules.edged.reportEvent", False, why="events of pods are always reported, bounded"),
    Rule("modules.edged.podSandboxImage", "kubeedge/pause:3.6", why="the container engine's own setting counts"),
    Rule("modules.edged.rootDirectory", KUBELET_ROOT, why="everything lies in the data directory"),
    Rule("modules.edged.minimumGCAge", "0s", why="the last ended container of each is kept for logs --previous"),
    Rule("modules.edged.maxPerPodContainerCount", 1, why="the last ended container of each is kept"),
    Rule("modules.edged.maxContainerCount", -1, why="the last ended container of each is kept"),
    Rule("modules.edged.runtimeCgroups", "", why="the engine has its own"),
    Rule("modules.edged.seccompDefault", False, lacks=True, why="set seccompProfile in the pods"),
    Rule("modules.edged.experimentalMounterPath", "", why="not used"),
    Rule("modules.edged.experimentalNodeAllocatableIgnoreEvictionThreshold", False, why="not used"),
    Rule("modules.edged.windowsService", False, why="Windows is not supported"),
    Rule("modules.edged.windowsPriorityClass", why="Windows is not supported"),
    Rule(_KUBELET + "containerRuntimeEndpoint", "unix:///run/containerd/containerd.sock", to="criSocket", take=_socket),
    Rule(_KUBELET + "imageServiceEndpoint", "unix:///run/containerd/containerd.sock", why="criSocket serves both"),
    Rule(_KUBELET + "cgroupDriver", "cgroupfs", why="the engine's own setting counts"),
    Rule(_KUBELET + "resolvConf", _RESOLV_CONF, to="resolvConf", take=_resolver),
    Rule(_KUBELET + "clusterDNS", [], to="clusterDns", take=list),
    Rule(_KUBELET + "clusterDomain", "cluster.local", to="clusterDomain", take=str),
    Rule(_KUBELET + "evictionHard", {}, to="evictionHard", take=_texts),
    Rule(_KUBELET + "evictionPressureTransitionPeriod", "5m0s", to="evictionSettleS", take=_seconds),
    Rule(_KUBELET + "systemReserved", {}, to="systemReserved", take=_texts),
    Rule(_KUBELET + "imageGCHighThresholdPercent", 85, to="imageGcHighPercent", take=int),
    Rule(_KUBELET + "imageGCLowThresholdPercent", 80, to="imageGcLowPercent", take=int),
    Rule(_KUBELET + "containerLogMaxFiles", 5, to="containerLogMaxFiles", take=int),
    Rule(_KUBELET + "containerLogMaxSize", "10Mi", to="containerLogMaxBytes", take=_bytes),
    Rule(_KUBELET + "maxPods", 110, to="maxPods", take=int),
    Rule(_KUBELET + "podPidsLimit", -1, to="podPidsLimit", take=_count),
    Rule(_KUBELET + "readOnlyPort", 10350, to="kubeletPort", take=int),
    Rule(_KUBELET + "address", "127.0.0.1", why="it is 127.0.0.1 always"),
    Rule(_KUBELET + "logging.*", why="logs go to standard error; see logLevel and logFormat"),
    Rule(_KUBELET + "shutdownGracePeriod", "0s", to="shutdownGraceS", take=_seconds),
    Rule(_KUBELET + "shutdownGracePeriodCriticalPods", "0s", to="shutdownGraceCriticalS", take=_seconds),
    *(Rule(_KUBELET + key, value, lacks=True, why=_NO_COUNTERPART) for key, value in _KUBELET_DEFAULTS.items()),
    Rule(_KUBELET + "*", lacks=True, why=_NO_COUNTERPART),
    Rule("modules.eventBus.enable", True, to="bus", take=bool),
    Rule("modules.eventBus.mqttMode", 2, lacks=True, why="there is no broker inside; run mosquitto and set mqtt"),
    Rule("modules.eventBus.mqttServerExternal", to="mqtt", take=_broker),
    Rule("modules.eventBus.mqttServerInternal", "tcp://127.0.0.1:1884", why="there is no broker inside"),
    Rule("modules.eventBus.mqttUsername", "", lacks=True, why="let the agent in without a password, from loopback"),
    Rule("modules.eventBus.mqttPassword", "", lacks=True, why="let the agent in without a password, from loopback"),
    Rule("modules.eventBus.eventBusTLS.enable", False, lacks=True, why="let the agent in without TLS, from loopback"),
    Rule("modules.eventBus.*", why=_BOUNDED),
    Rule("modules.metaManager.enable", True, why="the store is always there"),
    Rule("modules.metaManager.metaServer.enable", False, lacks=True, why="the local API is not there yet"),
    Rule("modules.metaManager.metaServer.*", why="the local API is not there yet"),
    Rule("modules.metaManager.*", why=_CHANNELS),
    Rule("modules.serviceBus.enable", False, lacks=True, why="the service bus is not there yet"),
    Rule("modules.serviceBus.*", why="the service bus is not there yet"),
    Rule("modules.deviceTwin.enable", True, to="devices", take=bool),
    Rule("modules.deviceTwin.dmiSockPath", "/etc/kubeedge/", to="dmiSocket", take=_dmi),
    Rule("modules.edgeStream.enable", False, why="the tunnel for logs is on, unless tunnel says false"),
    Rule("modules.edgeStream.server", "127.0.0.1:10004", fact="tunnel"),
    Rule("modules.edgeStream.*", why=_AT_JOIN),
    Rule("modules.taskManager.enable", False, lacks=True, why="node jobs are not there yet"),
    Rule("modules.dbTest.enable", False, why="a test of KubeEdge's"),
)


def default_of(key: str) -> Any:
    """KubeEdge's own value of a setting, by its dotted path.

    Raises:
        KeyError: there is no such setting here.
    """
    for rule in RULES:
        if rule.key == key:
            return rule.default
    raise KeyError(key)
