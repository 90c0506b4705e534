"""What we ask of a CRI engine: SandboxSpec and ContainerSpec → PodSandboxConfig and ContainerConfig. Pure.

Source: kubelet pkg/kubelet/kuberuntime/{kuberuntime_sandbox,kuberuntime_container_linux,security_context}.go (1.32),
cri-api runtime/v1/api.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from skerry.api.quantity import milli_cpu, whole_units
from skerry.runtime.cgroups import LEAST_QUOTA_US, PERIOD_US, GroupLimits
from skerry.runtime.cri import kubelet
from skerry.runtime.podlimits import contained_limits, cpu_shares, oom_score_adj, overhead_limits
from skerry.runtime.ports import RUNTIME_HANDLER, ContainerSpec, EngineRefused, Mount, SandboxSpec

NODE_LABEL: Final = "skerry.dev/node"
POD_NAME, POD_NAMESPACE, POD_UID = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"
CONTAINER_NAME: Final = "io.kubernetes.container.name"
SPEC_HASH: Final = "skerry.dev/spec-hash"
IMAGE: Final = "skerry.dev/image"
LOG_PATH: Final = "skerry.dev/log-path"
OWN_ANNOTATIONS: Final = frozenset({SPEC_HASH, IMAGE, LOG_PATH})

_POD, _CONTAINER, _NODE, _TARGET = 0, 1, 2, 3
_PROTOCOLS: Final = {"TCP": 0, "UDP": 1, "SCTP": 2}
_PROPAGATIONS: Final = {"None": 0, "HostToContainer": 1, "Bidirectional": 2}
_PROFILES: Final = {"RuntimeDefault": 0, "Unconfined": 1, "Localhost": 2}

_MASKED_PATHS: Final = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_HUGE = "hugepages-"
_CAPABILITIES: Final = frozenset(
    {
        "ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
        "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
        "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
        "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
        "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
        "SYS_TTY_CONFIG", "WAKE_ALARM",
    }
)  # fmt: skip
SECCOMP_DIRECTORY: Final = "/var/lib/skerry/seccomp"
"""Where ``localhostProfile`` files of pods lie on the node."""

Object = Mapping[str, Any]


def sandbox_config(spec: SandboxSpec, *, node_uid: str, cgroup_parent: str = "") -> dict[str, Any]:
    """The PodSandboxConfig of a pod on the node ``node_uid``.

    Args:
        cgroup_parent: control group that everything of the pod is made in; empty leaves it to the engine.
    """
    pod = _spec_of(spec)
    is_host_network = bool(pod.get("hostNetwork"))
    config: dict[str, Any] = {
        "metadata": _sandbox_metadata(spec),
        "hostname": "" if is_host_network else spec.hostname,
        "log_directory": str(spec.log_directory),
        "labels": {**spec.labels, **_pod_labels(spec, node_uid)},
        "annotations": dict(spec.annotations),
        "linux": {
            "cgroup_parent": cgroup_parent,
            "security_context": _sandbox_security(pod),
            "overhead": _linux(overhead_limits(pod)),
            "resources": _linux(contained_limits(pod)),
            "sysctls": {item["name"]: item["value"] for item in _security(pod).get("sysctls") or []},
        },
    }
    if not is_host_network:
        config["port_mappings"] = _port_mappings(pod)
    if spec.dns_servers or spec.dns_searches or spec.dns_options:
        config["dns_config"] = {
            "servers": list(spec.dns_servers),
            "searches": list(spec.dns_searches),
            "options": list(spec.dns_options),
        }
    return config


def runtime_handler(spec: SandboxSpec) -> str:
    """The engine's handler (RuntimeClass), as the pod worker resolved it; empty is the engine's default."""
    return str(spec.annotations.get(RUNTIME_HANDLER, ""))


def container_config(
    spec: ContainerSpec,
    sandbox: SandboxSpec,
    *,
    node_uid: str,
    machine_memory_bytes: int,
    image_user: int | None = None,
    has_apparmor: bool = True,
    more_resources: Object | None = None,
) -> dict[str, Any]:
    """The ContainerConfig of a container.

    Args:
        machine_memory_bytes: for the share of ``oom_score_adj``.
        image_user: uid that the image names, where ``needs_image_user`` asked for it.
        has_apparmor: whether the kernel enforces AppArmor profiles.
        more_resources: what its control group is given beside its limits.

    Raises:
        EngineRefused: ``runAsNonRoot`` with a container that would run as root.
    """
    pod = _spec_of(sandbox)
    return {
        "metadata": {"name": spec.name, "attempt": spec.attempt},
        "image": {"image": spec.image_ref or spec.image, "user_specified_image": spec.image},
        "command": list(spec.command),
        "args": list(spec.args),
        "working_dir": spec.working_dir,
        "envs": [{"key": key, "value": value.encode()} for key, value in dict(spec.env).items()],
        "mounts": [_mount(mount) for mount in spec.mounts],
        "devices": [
            {"host_path": d.host_path, "container_path": d.container_path, "permissions": d.permissions}
            for d in spec.devices
        ],
        "CDI_devices": [{"name": name} for name in spec.cdi_names],
        "labels": {CONTAINER_NAME: spec.name, **_pod_labels(sandbox, node_uid)},
        "annotations": {
            **kubelet.labelling(spec.container, pod, attempt=spec.attempt),
            **spec.annotations,
            SPEC_HASH: spec.spec_hash,
            IMAGE: spec.image,
            LOG_PATH: str(sandbox.log_directory / spec.log_path),
        },
        "log_path": spec.log_path,
        "stdin": bool(spec.container.get("stdin")),
        "stdin_once": bool(spec.container.get("stdinOnce")),
        "tty": bool(spec.container.get("tty")),
        "linux": {
            "resources": {**_resources(spec.container, pod, machine_memory_bytes), **(more_resources or {})},
            "security_context": _container_security(spec, pod, image_user, has_apparmor=has_apparmor),
        },
    }


def memory_limit(container: Object) -> int:
    """In bytes; 0 for none."""
    return whole_units(_amounts(container, "limits").get("memory"))


def needs_image_user(spec: ContainerSpec, sandbox: SandboxSpec) -> bool:
    """Whether the answer depends on the user that the image names."""
    pod = _spec_of(sandbox)
    if _either(spec.container, pod, "runAsUser") is not None:
        return False
    return bool(_either(spec.container, pod, "runAsNonRoot")) or _either(spec.container, pod, "runAsGroup") is not None


def _sandbox_metadata(spec: SandboxSpec) -> dict[str, Any]:
    return {"name": spec.name, "uid": spec.uid, "namespace": spec.namespace, "attempt": spec.attempt}


def _pod_labels(spec: SandboxSpec, node_uid: str) -> dict[str, str]:
    return {POD_NAME: spec.name, POD_NAMESPACE: spec.namespace, POD_UID: spec.uid, NODE_LABEL: node_uid}


def _spec_of(spec: SandboxSpec) -> Object:
    found = spec.pod.get("spec")
    return found if isinstance(found, Mapping) else {}


def _security(part: Object) -> Object:
    """securityContext of a container or of a pod's spec."""
    found: Object = part.get("securityContext") or {}
    return found


def _either(container: Object, pod: Object, name: str) -> Any:
    """A security setting of the container, else of the pod."""
    found = _security(container).get(name)
    return found if found is not None else _security(pod).get(name)


def _namespaces(pod: Object) -> dict[str, Any]:
    pid = _POD if pod.get("shareProcessNamespace") else _CONTAINER
    return {
        "network": _NODE if pod.get("hostNetwork") else _POD,
        "pid": _NODE if pod.get("hostPID") else pid,
        "ipc": _NODE if pod.get("hostIPC") else _POD,
    }


def _sandbox_security(pod: Object) -> dict[str, Any]:
    security = _security(pod)
    context: dict[str, Any] = {
        "namespace_options": _namespaces(pod),
        "privileged": any(_is_privileged(container) for container in _all_containers(pod)),
        "supplemental_groups": _groups(security),
        "seccomp": _seccomp(security.get("seccompProfile"), default="RuntimeDefault"),
    }
    if (user := security.get("runAsUser")) is not None:
        context["run_as_user"] = {"value": user}
        if (group := security.get("runAsGroup")) is not None:
            context["run_as_group"] = {"value": group}
    if options := security.get("seLinuxOptions"):
        context["selinux_options"] = _selinux(options)
    return context


def _container_security(
    spec: ContainerSpec, pod: Object, image_user: int | None, *, has_apparmor: bool
) -> dict[str, Any]:
    own = _security(spec.container)
    is_privileged = _is_privileged(spec.container)
    capabilities: Object = own.get("capabilities") or {}
    namespaces = _namespaces(pod)
    if spec.target_id and namespaces["pid"] == _CONTAINER:
        namespaces |= {"pid": _TARGET, "target_id": spec.target_id}
    context: dict[str, Any] = {
        "namespace_options": namespaces,
        "privileged": is_privileged,
        "readonly_rootfs": bool(own.get("readOnlyRootFilesystem")),
        "no_new_privs": own.get("allowPrivilegeEscalation") is False,
        "supplemental_groups": _groups(_security(pod)),
        "capabilities": {
            "add_capabilities": _capabilities(capabilities.get("add") or ()),
            "drop_capabilities": _capabilities(capabilities.get("drop") or ()),
        },
        **_user(spec, pod, image_user),
    }
    if not is_privileged:
        context["masked_paths"], context["readonly_paths"] = list(_MASKED_PATHS), list(_READ_ONLY_PATHS)
        context["seccomp"] = _seccomp(_either(spec.container, pod, "seccompProfile"), default="Unconfined")
    if (profile := _either(spec.container, pod, "appArmorProfile")) is not None:
        if not has_apparmor and profile.get("type") != "Unconfined":
            raise EngineRefused(
                f"Cannot enforce AppArmor profile of container {spec.name}: AppArmor is not enabled on the host",
                reason="AppArmor",
            )
        context["apparmor"] = _profile(profile, default="RuntimeDefault")
    if options := _either(spec.container, pod, "seLinuxOptions"):
        context["selinux_options"] = _selinux(options)
    return context


def _user(spec: ContainerSpec, pod: Object, image_user: int | None) -> dict[str, Any]:
    user = _either(spec.container, pod, "runAsUser")
    group = _either(spec.container, pod, "runAsGroup")
    effective = user if user is not None else image_user
    if _either(spec.container, pod, "runAsNonRoot") and not effective:
        raise EngineRefused(
            f"container {spec.name} has runAsNonRoot, but it would run as root",
            hint="set securityContext.runAsUser to another number than 0, or use an image with a numeric USER",
        )
    found: dict[str, Any] = {}
    if user is not None or (group is not None and effective is not None):
        found["run_as_user"] = {"value": effective}
    if group is not None and "run_as_user" in found:
        found["run_as_group"] = {"value": group}
    return found


def _all_containers(pod: Object) -> list[Object]:
    return [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]


def _is_privileged(container: Object) -> bool:
    return bool(_security(container).get("privileged"))


def _groups(security: Object) -> list[int]:
    groups = list(security.get("supplementalGroups") or [])
    if (group := security.get("fsGroup")) is not None and group not in groups:
        groups.append(group)
    return groups


def _capabilities(names: Iterable[str]) -> list[str]:
    """Names as engines want them. containerd leaves out in silence what it does not know, so that is refused here."""
    found = [str(name).upper().removeprefix("CAP_") for name in names]
    if unknown := [name for name in found if name not in _CAPABILITIES]:
        raise EngineRefused(f"there is no capability {unknown[0]!r}", hint="names are those of capabilities(7)")
    return found


def _profile(profile: Object | None, *, default: str) -> dict[str, Any]:
    kind = (profile or {}).get("type") or default
    found: dict[str, Any] = {"profile_type": _PROFILES[kind]}
    if kind == "Localhost":
        found["localhost_ref"] = str((profile or {}).get("localhostProfile", ""))
    return found


def _seccomp(profile: Object | None, *, default: str) -> dict[str, Any]:
    """A profile of the node is a file below ``SECCOMP_DIRECTORY``."""
    found = _profile(profile, default=default)
    if name := found.get("localhost_ref"):
        if name.startswith("/") or ".." in name.split("/"):
            raise EngineRefused(f"seccomp profile {name!r} leaves {SECCOMP_DIRECTORY}")
        found["localhost_ref"] = f"{SECCOMP_DIRECTORY}/{name}"
    return found


def _selinux(options: Object) -> dict[str, Any]:
    return {name: options.get(name, "") for name in ("user", "role", "type", "level")}


def _port_mappings(pod: Object) -> list[dict[str, Any]]:
    return [
        {
            "protocol": _PROTOCOLS[port.get("protocol") or "TCP"],
            "container_port": port["containerPort"],
            "host_port": port["hostPort"],
            "host_ip": port.get("hostIP", ""),
        }
        for container in _all_containers(pod)
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "container_path": mount.container_path,
        "host_path": str(mount.host_path),
        "readonly": mount.read_only,
        "propagation": _PROPAGATIONS[mount.propagation],
    }


def _amounts(container: Object, kind: str) -> Object:
    return (container.get("resources") or {}).get(kind) or {}


def _linux(limits: GroupLimits) -> dict[str, Any]:
    """As LinuxContainerResources, without what is not limited."""
    fields = {
        "cpu_period": PERIOD_US if limits.cpu_milli else 0,
        "cpu_quota": max(LEAST_QUOTA_US, limits.cpu_milli * PERIOD_US // 1000) if limits.cpu_milli else 0,
        "cpu_shares": limits.cpu_shares,
        "memory_limit_in_bytes": limits.memory_bytes,
    }
    return {name: value for name, value in fields.items() if value}


def _resources(container: Object, pod: Object, machine_memory_bytes: int) -> dict[str, Any]:
    limits, requests = _amounts(container, "limits"), _amounts(container, "requests")
    cpu_limit = milli_cpu(limits.get("cpu"))
    cpu_request = milli_cpu(requests.get("cpu")) or cpu_limit
    resources: dict[str, Any] = {
        "cpu_shares": cpu_shares(cpu_request),
        "cpu_period": PERIOD_US,
        "memory_limit_in_bytes": memory_limit(container),
        "oom_score_adj": oom_score_adj(container, pod, machine_memory_bytes=machine_memory_bytes),
    }
    if huge := _huge_pages(limits):
        resources["hugepage_limits"] = huge
    if cpu_limit:
        resources["cpu_quota"] = max(LEAST_QUOTA_US, cpu_limit * PERIOD_US // 1000)
    return resources


def _huge_pages(limits: Object) -> list[dict[str, Any]]:
    """Sizes as the kernel names them: ``hugepages-2Mi`` is 2MB."""
    found = []
    for name, amount in limits.items():
        if name.startswith(_HUGE):
            size = name.removeprefix(_HUGE).replace("i", "") + "B"
            found.append({"page_size": size, "limit": whole_units(amount)})
    return found
