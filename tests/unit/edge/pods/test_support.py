"""Every field of the PodSpec is supported, refused, told or not the node's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from skerry.edge.pods.support import ENTRIES, LISTS, Support, entry_of, not_enforced, refusal
from skerry.wire.pb.kubernetes import fields_of
from skerry.wire.pb.kubernetes_table import TEXTS

ROOTS = {"container": ("core.v1.Container", "core.v1.EphemeralContainer"), "volume": ("core.v1.Volume",)}


def fields(message: str) -> Iterator[tuple[str, str, str]]:
    for name, kind, label, _ in fields_of(message).values():
        if name:
            yield name, kind, label
        else:  # embedded
            yield from fields(kind)


def walk(message: str, path: str) -> Iterator[str]:
    for name, kind, label in fields(message):
        at = f"{path}.{name}{'[]' if label == 'repeated' else ''}"
        yield at
        if kind in TEXTS and at not in ("spec.volumes[]", *(f"spec.{each}[]" for each in LISTS)):  # noqa: SIM102
            if not kind.startswith(("core.v1.PersistentVolumeClaim", "meta.v1", "resource.")):
                yield from walk(kind, at)


SCHEMA = sorted(
    {*walk("core.v1.PodSpec", "spec"), *(p for root, names in ROOTS.items() for n in names for p in walk(n, root))}
)


def test_the_schema_is_walked() -> None:
    assert len(SCHEMA) > 500 and "container.securityContext.procMount" in SCHEMA and "spec.hostUsers" in SCHEMA


def test_every_field_has_an_entry() -> None:
    assert [path for path in SCHEMA if entry_of(path) is None] == []


def test_every_entry_is_a_field() -> None:
    known = set(SCHEMA)
    assert [entry.path for entry in ENTRIES if entry.path not in known] == []
    assert len({entry.path for entry in ENTRIES}) == len(ENTRIES)


def test_who_refuses_says_why() -> None:
    assert [e.path for e in ENTRIES if Support.NO in (e.cri, e.process) and not e.note] == []


def pod(spec: dict[str, Any] | None = None, container: dict[str, Any] | None = None, kind: str = "containers") -> Any:
    containers = {kind: [{"name": "app", "image": "i", **(container or {})}]}
    return {"metadata": {"name": "web"}, "spec": containers | (spec or {})}


def value_at(path: str) -> tuple[str, Any]:
    """A pod part that asks for the field ``path``."""
    root, *parts = path.split(".")
    value: Any = {"name": "net.ipv4.tcp_syncookies"} if "sysctls" in path else "asked"
    for part in reversed(parts):
        name = part.removesuffix("[]")
        value = {name: [value] if part.endswith("[]") else value}
    return root, value


REFUSED = [e for e in ENTRIES if not e.path.startswith("volume.") and Support.NO in (e.cri, e.process)]


@pytest.mark.parametrize("entry", REFUSED, ids=lambda entry: entry.path)
def test_refused_fields_are_refused_and_harmless_values_are_not(entry: Any) -> None:
    root, value = value_at(entry.path)
    for kind in LISTS if root == "container" else ("containers",):
        found = pod(value) if root == "spec" else pod(container=value, kind=kind)
        for is_process, support in ((False, entry.cri), (True, entry.process)):
            text = refusal(found, is_process=is_process)
            assert bool(text) == (support is Support.NO), (kind, text)
            why = entry.note.rpartition("process runtime: ")[2] if is_process else entry.note
            assert support is not Support.NO or text.endswith(why)
    for harmless in entry.harmless:
        assert not refusal(_with(entry.path, harmless), is_process=False)


def _with(path: str, wanted: Any) -> Any:
    root, *parts = path.split(".")
    value = wanted
    for part in reversed(parts):
        name = part.removesuffix("[]")
        value = {name: [value] if part.endswith("[]") else value}
    return pod(value) if root == "spec" else pod(container=value)


def test_a_user_name_space_is_asked_for_by_false() -> None:
    assert "hostUsers" in refusal(pod({"hostUsers": False}), is_process=False)
    assert not refusal(pod({"hostUsers": True}), is_process=False)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "SysctlForbidden"),
        ({"securityContext": {"sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "1"}]}}, ""),
        (
            {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}},
            "would change the node",
        ),
    ],
)
def test_sysctls(spec: dict[str, Any], text: str) -> None:
    assert text in refusal(pod(spec), is_process=False) and (text or not refusal(pod(spec), is_process=False))


def test_ports_of_processes_are_the_nodes() -> None:
    assert "containerPort" in refusal(
        pod(container={"ports": [{"containerPort": 80, "hostPort": 8080}]}), is_process=True
    )
    assert not refusal(pod(container={"ports": [{"containerPort": 80, "hostPort": 80}]}), is_process=True)
    assert not refusal(pod(container={"ports": [{"containerPort": 80, "hostPort": 8080}]}), is_process=False)


def test_what_is_not_enforced_is_told() -> None:
    found = pod(container={"tty": True, "securityContext": {"readOnlyRootFilesystem": True}})
    assert (
        len(not_enforced(found, is_process=True, limits_cpu=False)) == 2
        and not_enforced(found, is_process=False, limits_cpu=True) == []
    )


def test_a_process_is_refused_in_words_about_processes() -> None:
    found = pod({"runtimeClassName": "vm"})
    assert refusal(found, is_process=True) == (
        "spec.runtimeClassName is not supported on this node: there are no handlers"
    )
    assert not refusal(found, is_process=False)


def test_a_plain_pod_is_neither_refused_nor_told() -> None:
    container = {
        "command": ["x"], "resources": {"limits": {"memory": "1Mi"}}, "livenessProbe": {"exec": {"command": ["x"]}},
        "securityContext": {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    spec = {"dnsPolicy": "ClusterFirst", "tolerations": [{"operator": "Exists"}], "securityContext": {}}
    for is_process in (False, True):
        assert refusal(pod(spec, container), is_process=is_process) == ""
        assert not_enforced(pod(spec, container), is_process=is_process, limits_cpu=True) == []


def test_a_cpu_limit_that_processes_do_not_get_is_told() -> None:
    container = {"name": "app", "command": ["x"], "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}}
    found = {"spec": {"containers": [container, {"name": "free", "command": ["x"]}]}}
    [told] = not_enforced(found, is_process=True, limits_cpu=False)
    assert 'resources.limits.cpu of container "app" is not enforced' in told
    assert not_enforced(found, is_process=False, limits_cpu=True) == []
