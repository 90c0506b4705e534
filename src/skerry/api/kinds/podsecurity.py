"""The Pod Security Standards: what a pod of level ``baseline`` or ``restricted`` may not ask for. Pure.

Checks are those of the newest policy version, except where an older one was named and knew a check not yet; what a
version allowed less (sysctls, user namespaces) follows the version too.

Source: kubernetes pod-security-admission/{policy,api} (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from skerry.api.field import FieldError, invalid
from skerry.base.values import Struct

PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
LEVELS = ("privileged", "baseline", "restricted")
LATEST = 1 << 30

_VERSION = re.compile(r"v1\.(0|[1-9][0-9]{0,4})\Z", re.ASCII)
_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
_SYSCTLS = (
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
)
_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


class LevelVersion(Struct, frozen=True):
    """A level in a version: the minor number, or ``LATEST``."""

    level: str = "privileged"
    minor: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"


class Policy(Struct, frozen=True):
    """What a namespace says, by mode."""

    enforce: LevelVersion = LevelVersion()
    audit: LevelVersion = LevelVersion()
    warn: LevelVersion = LevelVersion()

    @property
    def is_open(self) -> bool:
        """Whether no mode asks for anything."""
        return all(each.level == "privileged" for each in (self.enforce, self.audit, self.warn))


class Violation(Struct, frozen=True):
    """One check that failed: a short reason, and the detail that names containers and values."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


def policy_of(labels: Mapping[str, str]) -> tuple[Policy, list[FieldError]]:
    """The policy in a namespace's labels; a label that cannot be read counts as ``restricted`` and is reported."""
    errors: list[FieldError] = []
    modes: dict[str, LevelVersion] = {}
    stated: dict[str, bool] = {}
    for mode in MODES:
        level, version = labels.get(PREFIX + mode), labels.get(f"{PREFIX}{mode}-version")
        stated[mode] = level in LEVELS
        if level is not None and level not in LEVELS:
            errors.append(_label_error(mode, level, f"must be one of {', '.join(LEVELS)}"))
        minor = LATEST
        if version is not None and version != "latest":
            match = _VERSION.match(version)
            if match is None:
                errors.append(_label_error(f"{mode}-version", version, 'must be "latest" or "v1.x"'))
            else:
                minor = int(match[1])
        modes[mode] = LevelVersion("privileged" if level is None else level if level in LEVELS else "restricted", minor)
    if stated["enforce"] and f"{PREFIX}warn" not in labels:  # who enforces is warned about workloads too
        warned = modes["enforce"]
        has_version = f"{PREFIX}warn-version" in labels
        modes["warn"] = LevelVersion(warned.level, modes["warn"].minor if has_version else warned.minor)
    return Policy(modes["enforce"], modes["audit"], modes["warn"]), errors


def violations(wanted: LevelVersion, meta: Mapping[str, Any], spec: Mapping[str, Any]) -> list[Violation]:
    """Every check of a level that a pod fails, baseline checks first."""
    if wanted.level == "privileged":
        return []
    is_restricted = wanted.level == "restricted"
    pod = _Pod(meta, spec, wanted.minor)
    found: list[Violation] = []
    for check, since, replaced_since in _BASELINE:
        if wanted.minor >= since and not (is_restricted and wanted.minor >= replaced_since):
            found += check(pod)
    if is_restricted:
        for check, since in _RESTRICTED:
            if wanted.minor >= since:
                found += check(pod)
    return found


class _Pod:
    """A pod's parts as checks read them."""

    def __init__(self, meta: Mapping[str, Any], spec: Mapping[str, Any], minor: int) -> None:
        self.annotations: Mapping[str, str] = meta.get("annotations") or {}
        self.spec = spec
        self.minor = minor
        self.security: Mapping[str, Any] = spec.get("securityContext") or {}
        lists = ("initContainers", "containers", "ephemeralContainers")
        self.containers = [container for name in lists for container in spec.get(name) or ()]

    @property
    def is_windows(self) -> bool:
        return self.minor >= 25 and bool((self.spec.get("os") or {}).get("name") == "windows")

    @property
    def has_own_users(self) -> bool:
        """Pods with a user namespace of their own are judged more kindly."""
        return self.minor >= 35 and self.spec.get("hostUsers") is False

    def names(self, is_bad: Callable[[Mapping[str, Any]], bool]) -> list[str]:
        """Containers that a rule finds."""
        return [str(c.get("name", "")) for c in self.containers if is_bad(c)]


Check = Callable[[_Pod], Iterator[Violation]]


def _label_error(name: str, value: str, detail: str) -> FieldError:
    return invalid(f"metadata.labels[{PREFIX}{name}]", value, detail)


def _secure(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return container.get("securityContext") or {}


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _containers(names: list[str]) -> str:
    return f"{_plural('container', len(names))} {_quoted(names)}"


def _uses(count: int) -> str:
    return "uses" if count == 1 else "use"


def _setters(pod_is_bad: bool, names: list[str]) -> str:
    return " and ".join((["pod"] if pod_is_bad else []) + ([_containers(names)] if names else []))


def _app_armor(pod: _Pod) -> Iterator[Violation]:
    def kind(where: Mapping[str, Any]) -> str:
        return str((where.get("appArmorProfile") or {}).get("type", "RuntimeDefault"))

    good = ("RuntimeDefault", "Localhost")
    names = pod.names(lambda c: kind(_secure(c)) not in good)
    pod_is_bad = kind(pod.security) not in good
    values = sorted({kind(w) for w in (pod.security, *map(_secure, pod.containers)) if kind(w) not in good})
    notes = sorted(
        f'{key}="{value}"'
        for key, value in pod.annotations.items()
        if key.startswith(_APPARMOR) and value and value != "runtime/default" and not value.startswith("localhost/")
    )
    setters = _setters(pod_is_bad, names)
    if notes:
        setters = " and ".join([*([setters] if setters else []), _plural("annotation", len(notes))])
    if setters:
        bad = [*values, *notes]
        yield Violation(
            f"forbidden AppArmor {_plural('profile', len(bad))}",
            f"{setters} must not set AppArmor profile type to {_quoted(bad)}",
        )


def _capabilities(pod: _Pod) -> Iterator[Violation]:
    def bad(container: Mapping[str, Any]) -> set[str]:
        return set((_secure(container).get("capabilities") or {}).get("add") or ()) - _CAPABILITIES

    names = pod.names(lambda c: bool(bad(c)))
    if names:
        added = sorted(set().union(*map(bad, pod.containers)))
        yield Violation(
            "non-default capabilities",
            f"{_containers(names)} must not include {_quoted(added)} in securityContext.capabilities.add",
        )


def _host_namespaces(pod: _Pod) -> Iterator[Violation]:
    shared = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(name)]
    if shared:
        yield Violation("host namespaces", ", ".join(shared))


def _host_paths(pod: _Pod) -> Iterator[Violation]:
    names = [str(v.get("name", "")) for v in pod.spec.get("volumes") or () if v.get("hostPath") is not None]
    if names:
        yield Violation("hostPath volumes", f"{_plural('volume', len(names))} {_quoted(names)}")


def _host_ports(pod: _Pod) -> Iterator[Violation]:
    def taken(container: Mapping[str, Any]) -> set[int]:
        return {int(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}

    names = pod.names(lambda c: bool(taken(c)))
    if names:
        ports = sorted(str(port) for port in set().union(*map(taken, pod.containers)))
        yield Violation(
            "hostPort",
            f"{_containers(names)} {_uses(len(names))} {_plural('hostPort', len(ports))} {', '.join(ports)}",
        )


def _hosts(pod: _Pod) -> Iterator[Violation]:
    def hosts(container: Mapping[str, Any]) -> set[str]:
        handlers = [container.get(f"{name}Probe") for name in ("liveness", "readiness", "startup")]
        handlers += (container.get("lifecycle") or {}).values()
        actions = [(h or {}).get(name) or {} for h in handlers for name in ("httpGet", "tcpSocket")]
        return {str(action["host"]) for action in actions if action.get("host")}

    names = sorted(pod.names(lambda c: bool(hosts(c))))
    if names:
        found = sorted(set().union(*map(hosts, pod.containers)))
        yield Violation(
            "probe or lifecycle host",
            f"{_containers(names)} {_uses(len(names))} "
            f"{_plural('probe or lifecycle host', len(found))} {_quoted(found)}",
        )


def _privileged(pod: _Pod) -> Iterator[Violation]:
    names = pod.names(lambda c: bool(_secure(c).get("privileged")))
    if names:
        yield Violation("privileged", f"{_containers(names)} must not set securityContext.privileged=true")


def _proc_mount(pod: _Pod) -> Iterator[Violation]:
    if pod.has_own_users:
        return
    names = pod.names(lambda c: (_secure(c).get("procMount") or "Default") != "Default")
    if names:
        kinds = sorted({str(_secure(c).get("procMount") or "Default") for c in pod.containers} - {"Default"})
        yield Violation("procMount", f"{_containers(names)} must not set securityContext.procMount to {_quoted(kinds)}")


def _se_linux(pod: _Pod) -> Iterator[Violation]:
    good = {"", "container_t", "container_init_t", "container_kvm_t"}
    if pod.minor >= 31:
        good.add("container_engine_t")

    def options(where: Mapping[str, Any]) -> Mapping[str, Any]:
        return where.get("seLinuxOptions") or {}

    def is_bad(where: Mapping[str, Any]) -> bool:
        o = options(where)
        return (o.get("type") or "") not in good or bool(o.get("user") or o.get("role"))

    names = pod.names(lambda c: is_bad(_secure(c)))
    setters = _setters(is_bad(pod.security), names)
    if not setters:
        return
    every = [options(where) for where in (pod.security, *map(_secure, pod.containers))]
    kinds = sorted({str(o.get("type") or "") for o in every} - good)
    data = [f"{_plural('type', len(kinds))} {_quoted(kinds)}"] if kinds else []
    data += [f"{name} may not be set" for name in ("user", "role") if any(o.get(name) for o in every)]
    yield Violation("seLinuxOptions", f"{setters} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}")


def _profile(where: Mapping[str, Any]) -> str | None:
    profile = where.get("seccompProfile")
    return None if profile is None else str(profile.get("type", ""))


def _seccomp(pod: _Pod) -> Iterator[Violation]:
    good = (None, "RuntimeDefault", "Localhost")
    names = pod.names(lambda c: _profile(_secure(c)) not in good)
    setters = _setters(_profile(pod.security) not in good, names)
    if setters:
        every = (pod.security, *map(_secure, pod.containers))
        values = sorted({str(_profile(where)) for where in every if _profile(where) not in good})
        yield Violation(
            "seccompProfile", f"{setters} must not set securityContext.seccompProfile.type to {_quoted(values)}"
        )


def _sysctls(pod: _Pod) -> Iterator[Violation]:
    good = {name for since, name in _SYSCTLS if pod.minor >= since}
    bad = [str(item.get("name", "")) for item in pod.security.get("sysctls") or () if item.get("name") not in good]
    if bad:
        yield Violation("forbidden sysctls", ", ".join(bad))


def _host_process(pod: _Pod) -> Iterator[Violation]:
    def is_bad(where: Mapping[str, Any]) -> bool:
        return bool((where.get("windowsOptions") or {}).get("hostProcess"))

    setters = _setters(is_bad(pod.security), pod.names(lambda c: is_bad(_secure(c))))
    if setters:
        yield Violation("hostProcess", f"{setters} must not set securityContext.windowsOptions.hostProcess=true")


def _escalation(pod: _Pod) -> Iterator[Violation]:
    if pod.is_windows:
        return
    names = pod.names(lambda c: _secure(c).get("allowPrivilegeEscalation") is not False)
    if names:
        yield Violation(
            "allowPrivilegeEscalation != false",
            f"{_containers(names)} must set securityContext.allowPrivilegeEscalation=false",
        )


def _drops(pod: _Pod) -> Iterator[Violation]:
    if pod.is_windows:
        return

    def capabilities(container: Mapping[str, Any], name: str) -> set[str]:
        return set((_secure(container).get("capabilities") or {}).get(name) or ())

    keeping = pod.names(lambda c: "ALL" not in capabilities(c, "drop"))
    adding = pod.names(lambda c: bool(capabilities(c, "add") - {"NET_BIND_SERVICE"}))
    texts = []
    if keeping:
        texts.append(f'{_containers(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        added = sorted(set().union(*(capabilities(c, "add") for c in pod.containers)) - {"NET_BIND_SERVICE"})
        texts.append(f"{_containers(adding)} must not include {_quoted(added)} in securityContext.capabilities.add")
    if texts:
        yield Violation("unrestricted capabilities", "; ".join(texts))


def _proc_mount_always(pod: _Pod) -> Iterator[Violation]:
    plain = _Pod({}, {**pod.spec, "hostUsers": None}, pod.minor)
    yield from _proc_mount(plain)


def _volumes(pod: _Pod) -> Iterator[Violation]:
    bad: list[str] = []
    kinds: set[str] = set()
    for volume in pod.spec.get("volumes") or ():
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        if not set(sources) & _VOLUMES:
            bad.append(str(volume.get("name", "")))
            kinds.add(sources[0] if sources else "unknown")
    if bad:
        yield Violation(
            "restricted volume types",
            f"{_plural('volume', len(bad))} {_quoted(bad)} {_uses(len(bad))} "
            f"{_plural('restricted volume type', len(kinds))} {_quoted(sorted(kinds))}",
        )


def _non_root(pod: _Pod) -> Iterator[Violation]:
    if pod.has_own_users:
        return
    states = [(str(c.get("name", "")), _secure(c).get("runAsNonRoot")) for c in pod.containers]
    of_pod = pod.security.get("runAsNonRoot")
    setters = _setters(of_pod is False, [name for name, state in states if state is False])
    silent = [name for name, state in states if state is None] if of_pod is not True else []
    if setters:
        yield Violation("runAsNonRoot != true", f"{setters} must not set securityContext.runAsNonRoot=false")
    elif silent:
        yield Violation(
            "runAsNonRoot != true", f"pod or {_containers(silent)} must set securityContext.runAsNonRoot=true"
        )


def _root_user(pod: _Pod) -> Iterator[Violation]:
    if pod.has_own_users:
        return
    setters = _setters(pod.security.get("runAsUser") == 0, pod.names(lambda c: _secure(c).get("runAsUser") == 0))
    if setters:
        yield Violation("runAsUser=0", f"{setters} must not set runAsUser=0")


def _seccomp_required(pod: _Pod) -> Iterator[Violation]:
    if pod.is_windows:
        return
    good = ("RuntimeDefault", "Localhost")
    of_pod = _profile(pod.security)
    names = pod.names(lambda c: _profile(_secure(c)) not in (None, *good))
    setters = _setters(of_pod not in (None, *good), names)
    silent = pod.names(lambda c: _profile(_secure(c)) is None) if of_pod not in good else []
    if setters:
        every = (pod.security, *map(_secure, pod.containers))
        values = sorted({str(_profile(where)) for where in every if _profile(where) not in (None, *good)})
        yield Violation(
            "seccompProfile", f"{setters} must not set securityContext.seccompProfile.type to {_quoted(values)}"
        )
    elif silent:
        yield Violation(
            "seccompProfile",
            f"pod or {_containers(silent)} must set securityContext.seccompProfile.type to "
            '"RuntimeDefault" or "Localhost"',
        )


_NEVER = LATEST + 1
_BASELINE: tuple[tuple[Check, int, int], ...] = (
    (_app_armor, 0, _NEVER),
    (_capabilities, 0, 22),
    (_host_namespaces, 0, _NEVER),
    (_host_paths, 0, 0),
    (_host_ports, 0, _NEVER),
    (_hosts, 34, _NEVER),
    (_privileged, 0, _NEVER),
    (_proc_mount, 0, 35),
    (_se_linux, 0, _NEVER),
    (_seccomp, 19, 19),
    (_sysctls, 0, _NEVER),
    (_host_process, 0, _NEVER),
)
"""Check, first version, and the first version in which a check of ``restricted`` takes its place there."""

_RESTRICTED: tuple[tuple[Check, int], ...] = (
    (_escalation, 8),
    (_drops, 22),
    (_proc_mount_always, 35),
    (_volumes, 0),
    (_non_root, 0),
    (_root_user, 23),
    (_seccomp_required, 19),
)
