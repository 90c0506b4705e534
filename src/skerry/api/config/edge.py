"""The file kind ``EdgeConfig`` (``config.skerry.dev/v1alpha1``): settings of ``skerry edge run``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from skerry.base.conf import setting
from skerry.base.obs.levels import FORMS, LEVELS

API_VERSION = "config.skerry.dev/v1alpha1"
KIND = "EdgeConfig"
ENVIRONMENT_PREFIX = "SKERRY_EDGE_"


@dataclass(frozen=True)
class EdgeConfig:
    """Settings of the edge agent; each is also an environment variable. The join writes node, hub and tunnel."""

    data: Path = setting(Path("/var/lib/skerry/edge"), "directory of database, keys and run.json")
    runtime: str = setting("auto", "how pods run: auto, cri or process", among=("auto", "cri", "process"))
    store_key: str = setting(
        "file",
        "what keeps the key of stored Secrets and tokens: file, host (systemd) or tpm2",
        among=("file", "host", "tpm2"),
    )
    cri_socket: str = setting("", "socket of the container engine; empty looks in the usual places")
    labels: dict[str, str] = setting({}, "further labels of the node")
    node_ip: str = setting("", "address that the node reports; empty asks the routing table")
    cluster_dns: tuple[str, ...] = setting((), "DNS servers of pods with ClusterFirst; empty: the node's own")
    resolv_conf: str = setting(
        "", "resolver file for pods; empty: /etc/resolv.conf, or systemd-resolved's where that names only this machine"
    )
    cluster_domain: str = setting("cluster.local", "domain of Services in the names that pods look up")
    api_server: str = setting("", "host:port of the API server that pods are told; empty: as the cloud tells")
    runtime_handlers: dict[str, str] = setting(
        {}, "the engine's handler by RuntimeClass, instead of the one that the class names"
    )
    allow_privileged: bool = setting(False, "let pods of the process runtime use hostPath and host namespaces")
    stop_pods: bool = setting(False, "end the pods when the agent is stopped")
    taints: tuple[str, ...] = setting((), "taints of a new node, each key=value:Effect")
    static_pods: str = setting("", "directory of manifests to run without a cloud; empty: static-pods in data")
    system_reserved: dict[str, str] = setting({}, "kept for the system, as cpu=100m,memory=128Mi")
    eviction_hard: dict[str, str] = setting({}, "pods go below these, as memory.available=100Mi; each is 5% by default")
    eviction_settle_s: float = setting(
        300.0, "seconds for which a shortage must be over before its pressure ends", at_least=0
    )
    max_pods: int = setting(110, "pods that the node takes at most", at_least=1)
    pod_pids_limit: int = setting(0, "processes that each pod may have at most; 0: as many as the node has", at_least=0)
    registry_credentials: str = setting("", "docker config.json with registry passwords; empty: registry.json in data")
    registry_mirrors: dict[str, str] = setting({}, "registry host = place to ask first, as docker.io=mirror.local:5000")
    image_pull_bytes_per_s: int = setting(
        0,
        "bytes a second that pulls of images may take together, where the engine uses imagePullProxy; 0: no cap",
        at_least=0,
    )
    image_pull_proxy: str = setting("127.0.0.1:3128", "where the engine's proxy for capped pulls listens")
    image_gc_high_percent: int = setting(
        85, "use of the images' disk at which unused images are removed", at_least=0, at_most=100
    )
    image_gc_low_percent: int = setting(
        80, "use of the images' disk down to which they are removed", at_least=0, at_most=100
    )
    disk_budget_bytes: int = setting(
        0, "what store and container logs may take together; 0: a tenth of the disk", at_least=0
    )
    container_log_max_bytes: int = setting(10485760, "size at which a container's log file is rotated", at_least=4096)
    container_log_max_files: int = setting(
        5, "log files kept for each container, with the newest; at least 2", at_least=2
    )
    kubelet_port: int = setting(
        0, "port of the local kubelet interface on 127.0.0.1; 0 switches it off", at_least=0, at_most=65535
    )
    device_plugins: str = setting(
        "", "directory of device plugins' sockets, usually /var/lib/kubelet/device-plugins; empty: none are served"
    )
    shutdown_grace_s: int = setting(
        0, "seconds that a shutdown of the machine waits for pods to end; 0: it does not", at_least=0
    )
    shutdown_grace_critical_s: int = setting(0, "the last of these seconds, for pods of system priority", at_least=0)
    system_bus: str = setting("/run/dbus/system_bus_socket", "socket of the D-Bus on which systemd-logind is")
    devices: bool = setting(True, "serve devices: twins, mappers and the bus; off is not even loaded")
    bus: bool = setting(True, "carry device topics to the broker that mqtt names")
    tunnel: bool = setting(True, "let the cloud reach this node, for kubectl logs and kubectl top")
    mqtt: str = setting("", "MQTT broker for device topics, host:port; empty switches the bus off")
    dmi_socket: str = setting("", "socket for device mappers; empty puts dmi.sock into the data directory")
    log_level: str = setting("info", "debug, info, warning or error", among=LEVELS)
    log_format: str = setting("auto", "text, json, or auto (text on a terminal)", among=FORMS)
