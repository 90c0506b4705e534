"""The table of rules: per built-in kind its defaults, its validation, the grammar of its names.

A kind that is not in the table has no defaults and is checked for its metadata only. Not here: what the server
decides itself (uid, generation, status resets, addresses), and admission.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from skerry.api.field import FieldError
from skerry.api.gvk import Object
from skerry.api.kinds import access, cluster, core, definitions, podspec, workloads
from skerry.api.kinds.objectmeta import NameCheck, metadata_errors, metadata_update_errors
from skerry.api.names import dns_1035_label, dns_label, dns_subdomain, path_segment

pod_qos_class = podspec.qos_class

Default = Callable[[Object], None]
Check = Callable[[Object], Iterator[FieldError]]
Compare = Callable[[Object, Object], Iterator[FieldError]]


def _nothing(obj: Object) -> None:
    """A kind without defaults."""


def _no_errors(obj: Object) -> Iterator[FieldError]:
    return iter(())


def _no_changes(obj: Object, old: Object) -> Iterator[FieldError]:
    return iter(())


def _pod_errors(obj: Object) -> Iterator[FieldError]:
    return podspec.spec_errors(obj.get("spec") or {}, "spec")


@dataclass(frozen=True, slots=True)
class KindRules:
    """The rules of one kind.

    Args:
        default: fills the object in place; applied to every write, so it must be idempotent.
        check: everything wrong with the object apart from its metadata.
        compare: what may not change between the stored object and the next.
        check_name: the grammar of ``metadata.name``.
        checks_updates: whether ``check`` holds for updates too. A pod's does not: old pods stay as they are.
    """

    default: Default = _nothing
    check: Check = _no_errors
    compare: Compare = _no_changes
    check_name: NameCheck = dns_subdomain
    checks_updates: bool = True


class Rules:
    """All rules, by group and kind."""

    def __init__(self) -> None:
        self._rows = _rows()
        self._plain = KindRules()

    def of(self, group: str, kind: str) -> KindRules:
        """The rules of a kind; for custom and unlisted kinds those of metadata alone."""
        return self._rows.get((group, kind), self._plain)

    def default(self, group: str, kind: str, obj: Object) -> None:
        """Fill defaults in place."""
        self.of(group, kind).default(obj)

    def validate_create(self, group: str, kind: str, obj: Object) -> list[FieldError]:
        """Everything wrong with a new object; ``generateName`` must have been resolved by now."""
        rules = self.of(group, kind)
        return [*metadata_errors(obj, rules.check_name), *rules.check(obj)]

    def validate_update(self, group: str, kind: str, obj: Object, old: Object) -> list[FieldError]:
        """Everything wrong with the next state of an object."""
        rules = self.of(group, kind)
        errors = [*metadata_errors(obj, rules.check_name), *metadata_update_errors(obj, old)]
        if rules.checks_updates:
            errors += rules.check(obj)
        return errors + list(rules.compare(obj, old))

    def validate_status_update(self, group: str, kind: str, obj: Object, old: Object) -> list[FieldError]:
        """Everything wrong with a write to ``/status``: only the metadata is judged."""
        return [*metadata_errors(obj, self.of(group, kind).check_name), *metadata_update_errors(obj, old)]


def _rows() -> dict[tuple[str, str], KindRules]:
    apps, rbac = "apps", access.GROUP
    return {
        ("", "Pod"): KindRules(
            podspec.default_pod, _pod_errors, podspec.pod_update_errors, checks_updates=False
        ),
        ("", "PodTemplate"): KindRules(workloads.default_podtemplate, workloads.podtemplate_errors),
        ("", "Service"): KindRules(
            core.default_service, core.service_errors, core.service_update_errors, dns_1035_label
        ),
        ("", "ConfigMap"): KindRules(_nothing, core.configmap_errors, core.configmap_update_errors),
        ("", "Secret"): KindRules(core.default_secret, core.secret_errors, core.secret_update_errors),
        ("", "Namespace"): KindRules(check_name=dns_label),
        ("", "Node"): KindRules(_nothing, core.node_errors, core.node_update_errors),
        ("", "ServiceAccount"): KindRules(),
        ("", "Endpoints"): KindRules(core.default_endpoints),
        ("", "Event"): KindRules(_nothing, core.event_errors),
        ("events.k8s.io", "Event"): KindRules(_nothing, core.event_errors),
        ("", "PersistentVolume"): KindRules(core.default_volume, core.volume_errors),
        ("", "PersistentVolumeClaim"): KindRules(core.default_claim, core.claim_errors),
        (apps, "Deployment"): KindRules(
            workloads.default_deployment, workloads.deployment_errors, workloads.selector_update_errors
        ),
        (apps, "ReplicaSet"): KindRules(
            workloads.default_replicaset, workloads.replicaset_errors, workloads.selector_update_errors
        ),
        (apps, "DaemonSet"): KindRules(
            workloads.default_daemonset, workloads.daemonset_errors, workloads.selector_update_errors
        ),
        (apps, "ControllerRevision"): KindRules(
            _nothing, workloads.revision_errors, workloads.revision_update_errors
        ),
        ("coordination.k8s.io", "Lease"): KindRules(_nothing, cluster.lease_errors),
        ("discovery.k8s.io", "EndpointSlice"): KindRules(
            cluster.default_endpointslice, cluster.endpointslice_errors, cluster.endpointslice_update_errors
        ),
        ("scheduling.k8s.io", "PriorityClass"): KindRules(
            cluster.default_priorityclass, _no_errors, cluster.priorityclass_update_errors
        ),
        (rbac, "Role"): KindRules(_nothing, access.role_errors, check_name=path_segment),
        (rbac, "ClusterRole"): KindRules(_nothing, access.clusterrole_errors, check_name=path_segment),
        (rbac, "RoleBinding"): KindRules(
            access.default_binding, access.rolebinding_errors, access.binding_update_errors, path_segment
        ),
        (rbac, "ClusterRoleBinding"): KindRules(
            access.default_binding, access.clusterrolebinding_errors, access.binding_update_errors, path_segment
        ),
        ("apiextensions.k8s.io", "CustomResourceDefinition"): KindRules(
            definitions.default_crd, definitions.crd_errors, definitions.crd_update_errors
        ),
    }  # fmt: skip
