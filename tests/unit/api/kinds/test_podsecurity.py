"""The Pod Security Standards, check by check, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.api.kinds.podsecurity import LATEST, LevelVersion, policy_of, violations

SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def texts(level: str, spec: dict[str, Any], *, minor: int = LATEST, **annotations: str) -> list[str]:
    return [str(v) for v in violations(LevelVersion(level, minor), {"annotations": annotations}, spec)]


def one(security: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "c", "image": "i"}
    if security is not None:
        container["securityContext"] = security
    return {"containers": [container], **more}


def test_a_safe_pod_passes_every_level() -> None:
    assert texts("restricted", one(SAFE)) == []
    assert texts("baseline", one()) == []
    assert texts("privileged", one({"privileged": True}, hostNetwork=True)) == []


def test_a_plain_pod_breaks_restricted_in_four_ways() -> None:
    assert texts("restricted", one()) == [
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)',
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"])',
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)',
        'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")',
    ]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (one(hostNetwork=True, hostPID=True), "host namespaces (hostNetwork=true, hostPID=true)"),
        (one(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), 'hostPath volumes (volume "v")'),
        (
            {"containers": [{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 0}]}]},
            'hostPort (container "c" uses hostPort 80)',
        ),
        (one({"privileged": True}), 'privileged (container "c" must not set securityContext.privileged=true)'),
        (
            one({"procMount": "Unmasked"}),
            'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            one({"capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}}),
            'non-default capabilities (container "c" must not include "SYS_ADMIN" in securityContext.capabilities.add)',
        ),
        (
            one({"seLinuxOptions": {"type": "spc_t", "user": "u"}}),
            'seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; '
            "user may not be set)",
        ),
        (
            one(securityContext={"seccompProfile": {"type": "Unconfined"}}),
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (one(securityContext={"sysctls": [{"name": "kernel.msgmax"}]}), "forbidden sysctls (kernel.msgmax)"),
        (
            one(securityContext={"windowsOptions": {"hostProcess": True}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "h"}}}]},
            'probe or lifecycle host (container "c" uses probe or lifecycle host "h")',
        ),
        (
            one({"appArmorProfile": {"type": "Unconfined"}}),
            'forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")',
        ),
    ],
)
def test_baseline(spec: dict[str, Any], text: str) -> None:
    assert texts("baseline", spec) == [text]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            one(SAFE, volumes=[{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "nfs": {}}]),
            'restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")',
        ),
        (one(SAFE | {"runAsUser": 0}), 'runAsUser=0 (container "c" must not set runAsUser=0)'),
        (
            one(SAFE | {"runAsNonRoot": False}),
            'runAsNonRoot != true (container "c" must not set securityContext.runAsNonRoot=false)',
        ),
        (
            one(SAFE | {"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}),
            'unrestricted capabilities (container "c" must not include "CHOWN" in securityContext.capabilities.add)',
        ),
    ],
)
def test_restricted(spec: dict[str, Any], text: str) -> None:
    assert texts("restricted", spec) == [text]


def test_older_versions_know_fewer_checks() -> None:
    hosts = {"containers": [{"name": "c", "livenessProbe": {"tcpSocket": {"host": "h"}}}]}
    assert texts("baseline", hosts, minor=33) == []
    root = one(SAFE | {"runAsUser": 0, "runAsNonRoot": False}, hostUsers=False)
    assert len(texts("restricted", root, minor=34)) == 2
    assert texts("restricted", root, minor=35) == []
    sysctl = one(securityContext={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]})
    assert (texts("baseline", sysctl, minor=31), texts("baseline", sysctl, minor=32)) == (
        ["forbidden sysctls (net.ipv4.tcp_rmem)"],
        [],
    )


def test_annotations_of_app_armor_count() -> None:
    key = "container.apparmor.security.beta.kubernetes.io/c"
    spec = one()
    found = violations(LevelVersion("baseline"), {"annotations": {key: "unconfined"}}, spec)
    assert [str(v) for v in found] == [
        f'forbidden AppArmor profile (annotation must not set AppArmor profile type to "{key}="unconfined"")'
    ]
    assert not violations(LevelVersion("baseline"), {"annotations": {key: "localhost/x"}}, spec)


def test_the_labels_of_a_namespace() -> None:
    prefix = "pod-security.kubernetes.io/"
    policy, errors = policy_of({f"{prefix}enforce": "baseline", f"{prefix}enforce-version": "v1.28"})
    assert (str(policy.enforce), str(policy.warn), str(policy.audit)) == (
        "baseline:v1.28",
        "baseline:v1.28",
        "privileged:latest",
    )
    assert not errors
    assert policy_of({})[0].is_open
    policy, errors = policy_of({f"{prefix}enforce": "strict", f"{prefix}warn-version": "1.2"})
    assert policy.enforce.level == "restricted"
    assert [str(error) for error in errors] == [
        f'metadata.labels[{prefix}enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted',
        f'metadata.labels[{prefix}warn-version]: Invalid value: "1.2": must be "latest" or "v1.x"',
    ]
