"""What the adapter asks an engine for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skerry.base.values import replace
from skerry.runtime.cri import spec
from skerry.runtime.ports import ContainerSpec, EngineRefused, Mount, SandboxSpec

GI = 1024**3


def sandbox(pod: dict[str, Any] | None = None, **changes: Any) -> SandboxSpec:
    base = SandboxSpec(
        namespace="shop",
        name="web",
        uid="u-1",
        attempt=2,
        hostname="web",
        log_directory=Path("/logs/shop_web_u-1"),
        pod={"spec": pod or {}},
        labels={"app": "web"},
        annotations={"skerry.dev/note": "x"},
    )
    return replace(base, **changes)


def container(part: dict[str, Any] | None = None, **changes: Any) -> ContainerSpec:
    base = ContainerSpec(
        name="c",
        attempt=1,
        image="web:1",
        image_ref="sha256:1",
        command=("run",),
        args=("-v",),
        env=(("A", "1"), ("A", "2")),
        mounts=(Mount(Path("/host"), "/in", read_only=True, propagation="HostToContainer"),),
        log_path="c/1.log",
        container=part or {},
        spec_hash="h",
    )
    return replace(base, **changes)


def config_of(part: dict[str, Any], pod: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    pod = pod if pod is not None else {"containers": [part]}
    return spec.container_config(container(part), sandbox(pod), node_uid="n-1", machine_memory_bytes=8 * GI, **more)


def test_sandbox_names_and_labels() -> None:
    config = spec.sandbox_config(sandbox(), node_uid="n-1")
    assert config["metadata"] == {"name": "web", "uid": "u-1", "namespace": "shop", "attempt": 2}
    assert config["labels"] == {
        "app": "web",
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "u-1",
        "skerry.dev/node": "n-1",
    }
    assert (config["hostname"], config["log_directory"]) == ("web", "/logs/shop_web_u-1")
    assert config["annotations"] == {"skerry.dev/note": "x"}
    assert "dns_config" not in config


def test_a_pod_cannot_take_our_labels() -> None:
    config = spec.sandbox_config(sandbox(labels={"skerry.dev/node": "other"}), node_uid="n-1")
    assert config["labels"]["skerry.dev/node"] == "n-1"


def test_dns_and_host_ports() -> None:
    pod = {
        "containers": [{"ports": [{"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "UDP"}]}]
    }
    config = spec.sandbox_config(sandbox(pod, dns_servers=["10.0.0.10"], dns_searches=["a.b"]), node_uid="n")
    assert config["port_mappings"] == [{"protocol": 1, "container_port": 53, "host_port": 5353, "host_ip": ""}]
    assert config["dns_config"] == {"servers": ["10.0.0.10"], "searches": ["a.b"], "options": []}


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ({}, (0, 1, 0)),
        ({"hostNetwork": True, "hostPID": True, "hostIPC": True}, (2, 2, 2)),
        ({"shareProcessNamespace": True}, (0, 0, 0)),
    ],
)
def test_namespaces(pod: dict[str, Any], expected: tuple[int, int, int]) -> None:
    options = spec.sandbox_config(sandbox(pod), node_uid="n")["linux"]["security_context"]["namespace_options"]
    assert (options["network"], options["pid"], options["ipc"]) == expected


def test_host_network_has_no_hostname_of_its_own_and_no_port_mappings() -> None:
    pod = {"hostNetwork": True, "containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}]}
    config = spec.sandbox_config(sandbox(pod), node_uid="n")
    assert config["hostname"] == ""
    assert "port_mappings" not in config


def test_container_basics() -> None:
    config = config_of({})
    assert config["metadata"] == {"name": "c", "attempt": 1}
    assert config["image"] == {"image": "sha256:1", "user_specified_image": "web:1"}
    assert config["envs"] == [{"key": "A", "value": b"2"}]
    assert config["mounts"] == [{"container_path": "/in", "host_path": "/host", "readonly": True, "propagation": 1}]
    assert config["annotations"]["skerry.dev/log-path"] == "/logs/shop_web_u-1/c/1.log"
    assert config["labels"]["io.kubernetes.container.name"] == "c"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {"cpu_shares": 2, "memory_limit_in_bytes": 0, "oom_score_adj": 1000}),
        (
            {"limits": {"cpu": "500m", "memory": "1Gi"}},
            {"cpu_shares": 512, "cpu_quota": 50_000, "memory_limit_in_bytes": GI, "oom_score_adj": -997},
        ),
        (
            {"requests": {"cpu": "1", "memory": "2Gi"}},
            {"cpu_shares": 1024, "memory_limit_in_bytes": 0, "oom_score_adj": 750},
        ),
        (
            {"requests": {"cpu": "1m"}, "limits": {"cpu": "1m"}},
            {"cpu_shares": 2, "cpu_quota": 1000, "memory_limit_in_bytes": 0, "oom_score_adj": 999},
        ),
    ],
)
def test_resources(resources: dict[str, Any], expected: dict[str, int]) -> None:
    assert config_of({"resources": resources})["linux"]["resources"] == {"cpu_period": 100_000, **expected}


def test_security_of_the_container_wins_over_that_of_the_pod() -> None:
    part = {"securityContext": {"runAsUser": 7, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}}
    pod = {"securityContext": {"runAsUser": 5, "runAsGroup": 6, "fsGroup": 9, "supplementalGroups": [8]}}
    context = config_of(part, pod)["linux"]["security_context"]
    assert context["run_as_user"] == {"value": 7}
    assert context["run_as_group"] == {"value": 6}
    assert context["supplemental_groups"] == [8, 9]
    assert context["no_new_privs"] is True and context["readonly_rootfs"] is True


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (None, {"profile_type": 1}),
        ({"type": "RuntimeDefault"}, {"profile_type": 0}),
        (
            {"type": "Localhost", "localhostProfile": "p.json"},
            {"profile_type": 2, "localhost_ref": "/var/lib/skerry/seccomp/p.json"},
        ),
    ],
)
def test_seccomp(profile: dict[str, str] | None, expected: dict[str, Any]) -> None:
    assert (
        config_of({"securityContext": {"seccompProfile": profile}})["linux"]["security_context"]["seccomp"] == expected
    )


def test_privileged_and_capabilities() -> None:
    part = {"securityContext": {"privileged": True, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}}
    context = config_of(part)["linux"]["security_context"]
    assert context["privileged"] is True and "seccomp" not in context
    assert context["capabilities"] == {"add_capabilities": ["NET_ADMIN"], "drop_capabilities": ["ALL"]}
    pod = {"containers": [part]}
    assert spec.sandbox_config(sandbox(pod), node_uid="n")["linux"]["security_context"]["privileged"] is True


def test_capabilities_are_known_by_both_of_their_names_and_others_are_refused() -> None:
    part = {"securityContext": {"capabilities": {"add": ["CAP_NET_ADMIN", "sys_time"]}}}
    found = config_of(part)["linux"]["security_context"]["capabilities"]
    assert found["add_capabilities"] == ["NET_ADMIN", "SYS_TIME"]
    with pytest.raises(EngineRefused, match="no capability 'NET_ADMN'"):
        config_of({"securityContext": {"capabilities": {"add": ["NET_ADMN"]}}})


@pytest.mark.parametrize(("user", "image_user", "is_refused"), [(0, None, True), (None, 0, True), (None, 65, False)])
def test_run_as_non_root(user: int | None, image_user: int | None, is_refused: bool) -> None:
    part = {"securityContext": {"runAsNonRoot": True, "runAsUser": user}}
    assert spec.needs_image_user(container(part), sandbox()) is (user is None)
    if is_refused:
        with pytest.raises(EngineRefused, match="runAsNonRoot"):
            config_of(part, image_user=image_user)
    else:
        assert "run_as_user" not in config_of(part, image_user=image_user)["linux"]["security_context"]


def test_a_group_alone_takes_the_users_number_from_the_image() -> None:
    part = {"securityContext": {"runAsGroup": 4}}
    assert spec.needs_image_user(container(part), sandbox())
    context = config_of(part, image_user=65)["linux"]["security_context"]
    assert (context["run_as_user"], context["run_as_group"]) == ({"value": 65}, {"value": 4})


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b"])
def test_a_seccomp_profile_cannot_leave_its_directory(name: str) -> None:
    profile = {"type": "Localhost", "localhostProfile": name}
    with pytest.raises(EngineRefused, match="leaves"):
        config_of({"securityContext": {"seccompProfile": profile}})


def test_a_container_has_more_resources_beside_its_limits() -> None:
    more = {"unified": {"memory.swap.max": "0"}}
    resources = config_of({"resources": {"limits": {"memory": "1Gi"}}}, more_resources=more)["linux"]["resources"]
    assert (resources["memory_limit_in_bytes"], resources["unified"]) == (GI, {"memory.swap.max": "0"})


def test_huge_pages_are_named_as_the_kernel_does() -> None:
    resources = config_of({"resources": {"limits": {"hugepages-2Mi": "4Mi"}}})["linux"]["resources"]
    assert resources["hugepage_limits"] == [{"page_size": "2MB", "limit": 4 * 1024 * 1024}]


def test_kernel_paths_are_masked_unless_privileged() -> None:
    plain = config_of({})["linux"]["security_context"]
    assert "/proc/kcore" in plain["masked_paths"] and "/proc/sys" in plain["readonly_paths"]
    assert "masked_paths" not in config_of({"securityContext": {"privileged": True}})["linux"]["security_context"]


def test_apparmor_needs_a_kernel_that_enforces_it() -> None:
    wanted = {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}
    assert config_of(wanted)["linux"]["security_context"]["apparmor"] == {"profile_type": 0}
    with pytest.raises(EngineRefused, match="AppArmor is not enabled"):
        config_of(wanted, has_apparmor=False)
    config_of({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}, has_apparmor=False)


def test_the_engine_is_told_what_the_runtime_and_the_containers_take() -> None:
    limits = {"limits": {"cpu": "500m", "memory": "1Gi"}}
    pod = {"containers": [{"name": "a", "resources": limits}], "overhead": {"cpu": "5m", "memory": "2Gi"}}
    linux = spec.sandbox_config(sandbox(pod), node_uid="n")["linux"]
    assert linux["overhead"] == {
        "cpu_shares": 5, "cpu_period": 100_000, "cpu_quota": 1000, "memory_limit_in_bytes": 2 * GI,
    }  # fmt: skip
    assert linux["resources"] == {
        "cpu_shares": 512, "cpu_period": 100_000, "cpu_quota": 50_000, "memory_limit_in_bytes": GI,
    }  # fmt: skip
    assert spec.sandbox_config(sandbox({"containers": []}), node_uid="n")["linux"]["overhead"] == {}
