"""Which fields of a PodSpec this node acts on: one table for refusals, Events and documentation. Pure.

Paths begin with ``spec``, ``container`` (of all three lists of containers) or ``volume``; ``[]`` marks a list. An entry
stands for everything below it that has no entry of its own. ``tests/unit/edge/pods/test_support.py`` walks the whole
schema: a field without an entry fails it, so that none is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from skerry.api.gvk import Object
from skerry.base.values import Struct

LISTS = ("initContainers", "containers", "ephemeralContainers")


class Support(StrEnum):
    YES = "supported"
    NO = "refused"
    TOLD = "not enforced"
    ELSEWHERE = "not applicable"


class Entry(Struct, frozen=True):
    """One field.

    Args:
        cri, process: what each runtime makes of it. ``TOLD`` fields are accepted, and an Event ``NotEnforced`` says so.
        note: why, or how.
        harmless: values that ask for nothing, so that they are never refused nor told.
    """

    path: str
    cri: Support
    process: Support
    note: str = ""
    harmless: tuple[Any, ...] = ()


_YES, _NO, _TOLD, _NA = Support.YES, Support.NO, Support.TOLD, Support.ELSEWHERE
_ALLOWED = "process runtime: only with `allowPrivileged` in the node's configuration"
_IDS = "process runtime: only with `allowPrivileged`, and no id of another pod; each pod has a user id of its own"
_CLOUD = "decided in the cloud before a pod comes to a node"

_SPEC = (
    Entry("spec.volumes[]", _YES, _YES, "see Volumes"),
    Entry("spec.containers[]", _YES, _YES, "see Containers"),
    Entry("spec.initContainers[]", _YES, _YES, "see Containers; `restartPolicy: Always` makes a sidecar"),
    Entry("spec.ephemeralContainers[]", _YES, _YES, "see Containers; started once, never restarted"),
    Entry("spec.restartPolicy", _YES, _YES, "back-off 10 s, doubling to 5 min, reset after 10 min"),
    Entry("spec.terminationGracePeriodSeconds", _YES, _YES),
    Entry("spec.activeDeadlineSeconds", _YES, _YES, "kept over restarts of the agent"),
    Entry("spec.dnsPolicy", _YES, _YES,
          "ClusterFirst needs `clusterDns` in the node's configuration, else the node's; see `resolvConf`"),
    Entry("spec.dnsConfig", _YES, _YES, "at most 3 servers and 32 search names; more are cut, and told"),
    Entry("spec.nodeSelector", _YES, _YES, "decided in the cloud, and looked at again by the node: NodeAffinity"),
    Entry("spec.serviceAccountName", _YES, _YES, "tokens are renewed at 80 % of their life, and kept while offline"),
    Entry("spec.serviceAccount", _NA, _NA, "old name of serviceAccountName, filled by the API server"),
    Entry("spec.automountServiceAccountToken", _NA, _NA, "acted on by the API server, which adds the volume"),
    Entry("spec.nodeName", _YES, _YES),
    Entry("spec.hostNetwork", _YES, _YES, "process runtime: always so; asking for it needs `allowPrivileged`"),
    Entry("spec.hostPID", _YES, _YES, _ALLOWED),
    Entry("spec.hostIPC", _YES, _YES, _ALLOWED),
    Entry("spec.hostUsers", _NO, _NO, "user name spaces are not set up", (True,)),
    Entry("spec.shareProcessNamespace", _YES, _YES, "process runtime: processes of a node see each other always"),
    Entry("spec.securityContext", _YES, _YES),
    Entry("spec.securityContext.seLinuxOptions", _YES, _NO, "volumes are not relabelled"),
    Entry("spec.securityContext.seLinuxChangePolicy", _NO, _NO, "volumes are not relabelled"),
    Entry("spec.securityContext.windowsOptions", _NO, _NO, "Linux nodes only"),
    Entry("spec.securityContext.runAsUser", _YES, _YES, _IDS),
    Entry("spec.securityContext.runAsGroup", _YES, _YES, _IDS),
    Entry("spec.securityContext.runAsNonRoot", _YES, _YES, "process runtime: always so"),
    Entry("spec.securityContext.supplementalGroups[]", _YES, _YES, _IDS),
    Entry("spec.securityContext.supplementalGroupsPolicy", _NO, _NO, "engines older than containerd 2.0 ignore it",
          ("Merge",)),
    Entry("spec.securityContext.fsGroup", _YES, _YES, _IDS),
    Entry("spec.securityContext.fsGroupChangePolicy", _YES, _YES),
    Entry("spec.securityContext.sysctls[]", _YES, _NO,
          "only those that Kubernetes calls safe; process runtime: the kernel's settings are the node's"),
    Entry("spec.securityContext.seccompProfile", _YES, _TOLD, "files of `Localhost` lie in `/var/lib/skerry/seccomp`; "
          "process runtime: a filter of its own, whatever is asked, see [confinement](../explain/confinement.md)"),
    Entry("spec.securityContext.appArmorProfile", _YES, _TOLD, "CRI: refused where the kernel has none"),
    Entry("spec.imagePullSecrets[]", _YES, _NA, "process runtime: images are labels"),
    Entry("spec.hostname", _YES, _YES),
    Entry("spec.subdomain", _YES, _YES),
    Entry("spec.setHostnameAsFQDN", _YES, _YES, "refused beyond 64 characters"),
    Entry("spec.hostnameOverride", _YES, _YES),
    Entry("spec.hostAliases[]", _YES, _YES),
    Entry("spec.enableServiceLinks", _NA, _NA, "Services have no address that works on an edge; see decision 32"),
    Entry("spec.readinessGates[]", _YES, _YES),
    Entry("spec.runtimeClassName", _YES, _NO,
          "the handler that the RuntimeClass names, or this node's `runtimeHandlers`, which come first; kept for when "
          "the cloud is away; a class that does not exist holds the pod: FailedCreatePodSandBox. A Go cloud gives no "
          "classes to its nodes: the handler of that name then; process runtime: there are no handlers"),
    Entry("spec.affinity", _NA, _NA, _CLOUD),
    Entry("spec.affinity.nodeAffinity", _YES, _YES,
          "decided in the cloud; what is required is looked at again by the node: NodeAffinity"),
    Entry("spec.schedulerName", _NA, _NA, _CLOUD),
    Entry("spec.tolerations[]", _NA, _NA, _CLOUD),
    Entry("spec.priorityClassName", _NA, _NA, _CLOUD),
    Entry("spec.priority", _YES, _YES, "lower ones are evicted first; system ones never; these shut down last"),
    Entry("spec.preemptionPolicy", _NA, _NA, _CLOUD),
    Entry("spec.overhead", _YES, _YES, "of the RuntimeClass: counted by the node, and added to the pod's own group"),
    Entry("spec.topologySpreadConstraints[]", _NA, _NA, _CLOUD),
    Entry("spec.schedulingGates[]", _NA, _NA, _CLOUD),
    Entry("spec.schedulingGroup", _NA, _NA, _CLOUD),
    Entry("spec.os", _YES, _YES, "linux only"),
    Entry("spec.os.name", _NO, _NO, "Linux nodes only: the pod fails with PodOSNotSupported", ("linux",)),
    Entry("spec.resourceClaims[]", _NO, _NO, "dynamic resource allocation needs drivers that this node does not run"),
    Entry("spec.resources", _NO, _NO, "set resources of the containers"),
)  # fmt: skip

_CONTAINER = (
    Entry("container.name", _YES, _YES),
    Entry("container.image", _YES, _YES, "process runtime: a label"),
    Entry("container.imagePullPolicy", _YES, _NA, "process runtime: images are labels"),
    Entry("container.command[]", _YES, _YES, "process runtime: required"),
    Entry("container.args[]", _YES, _YES),
    Entry("container.workingDir", _YES, _YES),
    Entry("container.ports[]", _YES, _YES, "process runtime: pods use the node's ports, whatever is declared"),
    Entry("container.ports[].hostPort", _YES, _YES, "process runtime: must be the containerPort"),
    Entry("container.env[]", _YES, _YES),
    Entry("container.env[].valueFrom.fileKeyRef", _NO, _NO, "use a ConfigMap or Secret"),
    Entry("container.envFrom[]", _YES, _YES),
    Entry("container.resources", _YES, _YES),
    Entry("container.resources.limits", _YES, _YES,
          "devices of plugins: see `devicePlugins`; process runtime: by control groups where the agent is root; else "
          "memory of data, and CPU is not enforced, and told; `ephemeral-storage`: writable layer and logs of each "
          "container and emptyDirs of the pod, measured each minute, beyond it the pod is Evicted"),
    Entry("container.resources.requests", _YES, _YES, "process runtime: weight of CPU, where it has control groups"),
    Entry("container.resources.claims[]", _NO, _NO, "dynamic resource allocation needs drivers"),
    Entry("container.resizePolicy[]", _NA, _NA, "a resize is answered with the condition PodResizePending, Infeasible"),
    Entry("container.restartPolicy", _YES, _YES),
    Entry("container.restartPolicyRules[]", _YES, _YES),
    Entry("container.restartPolicyRules[].action", _NO, _NO, "only `Restart`", ("Restart",)),
    Entry("container.volumeMounts[]", _YES, _YES),
    Entry("container.volumeMounts[].readOnly", _YES, _YES,
          "process runtime without mount namespaces: volumes are links, and what the agent's user may write, pods may"),
    Entry("container.volumeMounts[].mountPropagation", _YES, _NO, "process runtime: views are private", ("None",)),
    Entry("container.volumeMounts[].recursiveReadOnly", _NO, _NO, "needs an engine and a kernel that many nodes lack",
          ("Disabled", "IfPossible")),
    Entry("container.volumeDevices[]", _NO, _NO, "raw block devices: use a file system volume"),
    Entry("container.livenessProbe", _YES, _YES),
    Entry("container.readinessProbe", _YES, _YES),
    Entry("container.startupProbe", _YES, _YES),
    Entry("container.lifecycle.postStart", _YES, _YES),
    Entry("container.lifecycle.postStart.tcpSocket", _NO, _NO, "Kubernetes never ran it: use exec or httpGet"),
    Entry("container.lifecycle.preStop", _YES, _YES),
    Entry("container.lifecycle.preStop.tcpSocket", _NO, _NO, "Kubernetes never ran it: use exec or httpGet"),
    Entry("container.lifecycle.stopSignal", _NO, _NO, "older engines ignore it: set it in the image"),
    Entry("container.lifecycle", _YES, _YES),
    Entry("container.terminationMessagePath", _YES, _YES),
    Entry("container.terminationMessagePolicy", _YES, _YES),
    Entry("container.securityContext", _YES, _YES),
    Entry("container.securityContext.capabilities.add[]", _YES, _NO, "process runtime: pods have none"),
    Entry("container.securityContext.capabilities.drop[]", _YES, _YES, "process runtime: pods have none"),
    Entry("container.securityContext.privileged", _YES, _YES, _ALLOWED),
    Entry("container.securityContext.seLinuxOptions", _YES, _NO, "volumes are not relabelled"),
    Entry("container.securityContext.windowsOptions", _NO, _NO, "Linux nodes only"),
    Entry("container.securityContext.runAsUser", _YES, _YES, _IDS),
    Entry("container.securityContext.runAsGroup", _YES, _YES, _IDS),
    Entry("container.securityContext.runAsNonRoot", _YES, _YES, "process runtime: always so"),
    Entry("container.securityContext.readOnlyRootFilesystem", _YES, _TOLD,
          "process runtime: a pod's user may write where the node lets everybody write"),
    Entry("container.securityContext.allowPrivilegeEscalation", _YES, _TOLD,
          "process runtime: processes never get more rights than they begin with"),
    Entry("container.securityContext.procMount", _NO, _NO, "kernel files stay masked", ("Default",)),
    Entry("container.securityContext.seccompProfile", _YES, _TOLD, "as of the pod"),
    Entry("container.securityContext.appArmorProfile", _YES, _TOLD, "CRI: refused where the kernel has none"),
    Entry("container.stdin", _YES, _TOLD, "process runtime: the input is empty"),
    Entry("container.stdinOnce", _YES, _TOLD, "process runtime: the input is empty"),
    Entry("container.tty", _YES, _TOLD, "process runtime: there is no terminal"),
    Entry("container.targetContainerName", _YES, _YES, "process runtime: processes of a node see each other always"),
)  # fmt: skip

_MOUNT = "`FailedMount`: needs a driver that this node does not have"
_VOLUME = (
    Entry("volume.name", _YES, _YES),
    Entry("volume.emptyDir", _YES, _YES, "`sizeLimit` of a disk is measured each minute: beyond it the pod is Evicted"),
    Entry("volume.emptyDir.medium", _YES, _YES, "Memory needs root; huge pages are a `FailedMount`"),
    Entry("volume.hostPath", _YES, _YES, _ALLOWED),
    Entry("volume.configMap", _YES, _YES, "live, in one step; not through `subPath`"),
    Entry("volume.secret", _YES, _YES, "live, in one step; not through `subPath`"),
    Entry("volume.downwardAPI", _YES, _YES, "live"),
    Entry("volume.projected", _YES, _YES, "live"),
    Entry("volume.projected.sources[].clusterTrustBundle", _NO, _NO, "`FailedMount`"),
    Entry("volume.projected.sources[].podCertificate", _NO, _NO, "`FailedMount`"),
    Entry("volume.persistentVolumeClaim", _YES, _YES, "volumes of kind local and hostPath, and the class node-local"),
    Entry("volume.ephemeral", _YES, _YES, "as persistentVolumeClaim"),
    Entry("volume.image", _NO, _NO, "`FailedMount`: copy the files in an init container"),
    Entry("volume.gitRepo", _NO, _NO, "`FailedMount`: run git in an init container"),
    *(
        Entry(f"volume.{kind}", _NO, _NO, _MOUNT)
        for kind in (
            "gcePersistentDisk", "awsElasticBlockStore", "nfs", "iscsi", "glusterfs", "rbd", "flexVolume", "cinder",
            "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk",
            "portworxVolume", "scaleIO", "storageos", "csi",
        )
    ),
)  # fmt: skip

ENTRIES = _SPEC + _CONTAINER + _VOLUME

SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
    }
)  # fmt: skip


def entry_of(path: str) -> Entry | None:
    """The entry that a field falls under: its own, else that of the nearest field above."""
    by_path = {entry.path: entry for entry in ENTRIES}
    while path:
        for spelling in (path, f"{path}[]", path.removesuffix("[]")):
            if spelling in by_path:
                return by_path[spelling]
        path = path.rpartition(".")[0]
    return None


def refusal(pod: Object, *, is_process: bool) -> str:
    """Why this node does not run a pod: the first field that it would have to ignore; empty when there is none.

    Volumes are judged when they are mounted.
    """
    spec = pod.get("spec") or {}
    for place, entry in _found(spec, _NO, is_process=is_process):
        return f"{place} is not supported on this node: {_why(entry, is_process=is_process)}"
    return _sysctl_refusal(spec) or (_port_refusal(spec) if is_process else "")


def not_enforced(pod: Object, *, is_process: bool, limits_cpu: bool) -> list[str]:
    """Fields that are accepted, but not enforced by this node; texts for Events.

    Args:
        limits_cpu: whether the node can keep limits of CPU.
    """
    found = _found(pod.get("spec") or {}, _TOLD, is_process=is_process)
    texts = [f"{place} is not enforced on this node: {_why(entry, is_process=is_process)}" for place, entry in found]
    return texts + ([] if limits_cpu else _shared_cpu(pod.get("spec") or {}))


def _found(spec: Mapping[str, Any], wanted: Support, *, is_process: bool) -> Iterator[tuple[str, Entry]]:
    for entry in ENTRIES:
        if (entry.process if is_process else entry.cri) is not wanted:
            continue
        root, *parts = entry.path.split(".")
        if root == "spec" and _asks(spec, parts, entry.harmless):
            yield entry.path.replace("[]", ""), entry
        elif root == "container":
            for kind in LISTS:
                for container in spec.get(kind) or []:
                    if _asks(container, parts, entry.harmless):
                        field = ".".join(parts).replace("[]", "")
                        yield f'{field} of container "{container.get("name")}"', entry


def _why(entry: Entry, *, is_process: bool) -> str:
    """What the entry notes of this runtime."""
    _, mark, own = entry.note.partition("process runtime: ")
    return own if is_process and mark else entry.note


def _asks(value: Any, parts: list[str], harmless: tuple[Any, ...]) -> bool:
    """Whether there is a value at the end of the path that asks for something."""
    if not parts:
        return (value not in (None, "", False, [], {}) and value not in harmless) or (
            value is False and harmless == (True,)
        )
    if not isinstance(value, Mapping):
        return False
    name = parts[0].removesuffix("[]")
    inner = value.get(name)
    if parts[0].endswith("[]") and isinstance(inner, list):
        return any(_asks(item, parts[1:], harmless) for item in inner)
    return _asks(inner, parts[1:], harmless)


def _shared_cpu(spec: Mapping[str, Any]) -> list[str]:
    return [
        f'resources.limits.cpu of container "{container.get("name")}" is not enforced on this node: '
        "its agent may not make control groups, so processes share its CPU as they come"
        for kind in LISTS
        for container in spec.get(kind) or []
        if ((container.get("resources") or {}).get("limits") or {}).get("cpu")
    ]


def _sysctl_refusal(spec: Mapping[str, Any]) -> str:
    for sysctl in (spec.get("securityContext") or {}).get("sysctls") or []:
        name = str(sysctl.get("name", "") if isinstance(sysctl, Mapping) else "").replace("/", ".")
        if name not in SAFE_SYSCTLS:
            return f'SysctlForbidden: forbidden sysctl: "{name}" not allowlisted'
        if (name.startswith("net.") and spec.get("hostNetwork")) or (
            name.startswith("kernel.") and spec.get("hostIPC")
        ):
            return f'SysctlForbidden: sysctl "{name}" would change the node itself, whose name space the pod shares'
    return ""


def _port_refusal(spec: Mapping[str, Any]) -> str:
    for kind in LISTS:
        for container in spec.get(kind) or []:
            for port in container.get("ports") or []:
                host_port = port.get("hostPort")
                if host_port and host_port != port.get("containerPort"):
                    return f"hostPort {host_port} must be the containerPort: processes use the node's ports as they are"
    return ""
