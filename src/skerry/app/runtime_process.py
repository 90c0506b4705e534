"""Opens the runtime that runs pods as processes of this machine, without a container engine."""

from __future__ import annotations

import os

from skerry.api.config.edge import EdgeConfig
from skerry.app.runtimes import OpenRuntime
from skerry.base.aio.clock import SystemClock
from skerry.base.obs.log import get_log
from skerry.edge.node.machine import cpu_count, memory
from skerry.runtime.cgroups import Cgroups, GroupLimits, group_name
from skerry.runtime.podlimits import cpu_shares
from skerry.runtime.process.engine import ProcessRuntime
from skerry.runtime.process.images import ProcessImages
from skerry.runtime.process.settings import ProcessSettings

log = get_log(__name__)


def open_process(config: EdgeConfig, node_uid: str) -> OpenRuntime:
    """Pods as processes of this machine, in control groups where the agent may make them."""
    allowed = config.allow_privileged
    settings = ProcessSettings(
        node_ip=config.node_ip, allow_host_paths=allowed, allow_host_namespaces=allowed, allow_privileged=allowed,
        log_limit_bytes=config.container_log_max_bytes, log_keep_count=config.container_log_max_files,
        process_count=config.pod_pids_limit, machine_memory_bytes=memory()["MemTotal"],
    )  # fmt: skip
    clock = SystemClock()
    groups = Cgroups(group_name(node_uid), clock=clock)
    keeps = groups.controllers() if groups.is_writable() else frozenset[str]()
    if config.pod_pids_limit and "pids" not in keeps:
        log.warning("process.pids_not_limited", hint="podPidsLimit needs an agent that may make control groups: root")
    if keeps:
        groups.make("", GroupLimits(cpu_shares=cpu_shares(cpu_count() * 1000) if "cpu" in keeps else 0))
    runtime = ProcessRuntime(config.data / "process", settings=settings, groups=groups if keeps else None, clock=clock)
    notes = {"skerry.dev/runtime": "process", "skerry.dev/runtime-user": "root" if os.geteuid() == 0 else "user"}
    return OpenRuntime("process", runtime, runtime, ProcessImages(), notes=notes, keeps=keeps)
