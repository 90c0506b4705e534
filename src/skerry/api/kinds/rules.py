"""The table of rules: per built-in kind its defaults, its validation, the grammar of its names.

A kind that is not in the table has no defaults and is checked for its metadata only. Not here: what the server
decides itself (uid, generation, status resets, addresses), and admission.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from skerry.api.field import FieldError
from skerry.api.gvk import Object
from skerry.api.kinds import (
    access,
    autoscaling,
    batch,
    cluster,
    core,
    definitions,
    hooks,
    networking,
    podspec,
    resources,
    workloads,
)
from skerry.api.kinds.objectmeta import NameCheck, metadata_errors, metadata_update_errors
from skerry.api.names import dns_1035_label, dns_label, dns_subdomain, path_segment
from skerry.base.values import Struct

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


class KindRules(Struct, frozen=True):
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
    return _core_rows() | _workload_rows() | _access_rows() | _network_rows() | _storage_rows() | _cluster_rows()


def _core_rows() -> dict[tuple[str, str], KindRules]:
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
        ("", "Endpoints"): KindRules(core.default_endpoints, cluster.endpoints_errors),
        ("", "Event"): KindRules(_nothing, core.event_errors),
        ("events.k8s.io", "Event"): KindRules(_nothing, core.event_errors),
        ("", "PersistentVolume"): KindRules(core.default_volume, core.volume_errors),
        ("", "PersistentVolumeClaim"): KindRules(core.default_claim, core.claim_errors),
        ("", "LimitRange"): KindRules(resources.default_limitrange, resources.limitrange_errors),
        ("", "ResourceQuota"): KindRules(_nothing, resources.quota_errors, resources.quota_update_errors),
        ("discovery.k8s.io", "EndpointSlice"): KindRules(
            cluster.default_endpointslice, cluster.endpointslice_errors, cluster.endpointslice_update_errors
        ),
    }  # fmt: skip


def _workload_rows() -> dict[tuple[str, str], KindRules]:
    apps = "apps"
    return {
        ("", "ReplicationController"): KindRules(
            workloads.default_replicationcontroller, workloads.replicationcontroller_errors
        ),
        (apps, "Deployment"): KindRules(
            workloads.default_deployment, workloads.deployment_errors, workloads.selector_update_errors
        ),
        (apps, "ReplicaSet"): KindRules(
            workloads.default_replicaset, workloads.replicaset_errors, workloads.selector_update_errors
        ),
        (apps, "DaemonSet"): KindRules(
            workloads.default_daemonset, workloads.daemonset_errors, workloads.selector_update_errors
        ),
        (apps, "StatefulSet"): KindRules(
            workloads.default_statefulset, workloads.statefulset_errors, workloads.statefulset_update_errors
        ),
        (apps, "ControllerRevision"): KindRules(
            _nothing, workloads.revision_errors, workloads.revision_update_errors
        ),
        ("batch", "Job"): KindRules(batch.default_job, batch.job_errors, batch.job_update_errors),
        ("batch", "CronJob"): KindRules(batch.default_cronjob, batch.cronjob_errors),
        ("autoscaling", "HorizontalPodAutoscaler"): KindRules(
            autoscaling.default_autoscaler, autoscaling.autoscaler_errors
        ),
        ("policy", "PodDisruptionBudget"): KindRules(_nothing, networking.budget_errors),
    }  # fmt: skip


def _access_rows() -> dict[tuple[str, str], KindRules]:
    rbac = access.GROUP
    return {
        (rbac, "Role"): KindRules(_nothing, access.role_errors, check_name=path_segment),
        (rbac, "ClusterRole"): KindRules(_nothing, access.clusterrole_errors, check_name=path_segment),
        (rbac, "RoleBinding"): KindRules(
            access.default_binding, access.rolebinding_errors, access.binding_update_errors, path_segment
        ),
        (rbac, "ClusterRoleBinding"): KindRules(
            access.default_binding, access.clusterrolebinding_errors, access.binding_update_errors, path_segment
        ),
        ("certificates.k8s.io", "CertificateSigningRequest"): KindRules(
            _nothing, resources.request_errors, check_name=path_segment
        ),
    }  # fmt: skip


def _network_rows() -> dict[tuple[str, str], KindRules]:
    group = "networking.k8s.io"
    return {
        (group, "Ingress"): KindRules(_nothing, networking.ingress_errors),
        (group, "IngressClass"): KindRules(
            networking.default_ingressclass, networking.ingressclass_errors, networking.ingressclass_update_errors
        ),
        (group, "NetworkPolicy"): KindRules(networking.default_networkpolicy, networking.networkpolicy_errors),
        (group, "IPAddress"): KindRules(
            _nothing, networking.ipaddress_errors, networking.ipaddress_update_errors, path_segment
        ),
        (group, "ServiceCIDR"): KindRules(
            _nothing, networking.servicecidr_errors, networking.servicecidr_update_errors
        ),
    }  # fmt: skip


def _storage_rows() -> dict[tuple[str, str], KindRules]:
    group = "storage.k8s.io"
    return {
        (group, "StorageClass"): KindRules(
            resources.default_storageclass, resources.storageclass_errors, resources.storageclass_update_errors
        ),
        (group, "CSIDriver"): KindRules(resources.default_csidriver),
        (group, "CSIStorageCapacity"): KindRules(
            _nothing, resources.capacity_errors, resources.capacity_update_errors
        ),
        (group, "VolumeAttachment"): KindRules(
            _nothing, resources.attachment_errors, resources.attachment_update_errors
        ),
        (group, "VolumeAttributesClass"): KindRules(
            _nothing, resources.attributesclass_errors, resources.attributesclass_update_errors
        ),
    }  # fmt: skip


def _cluster_rows() -> dict[tuple[str, str], KindRules]:
    return {
        ("coordination.k8s.io", "Lease"): KindRules(_nothing, cluster.lease_errors),
        ("scheduling.k8s.io", "PriorityClass"): KindRules(
            cluster.default_priorityclass, _no_errors, cluster.priorityclass_update_errors
        ),
        ("node.k8s.io", "RuntimeClass"): KindRules(
            _nothing, resources.runtimeclass_errors, resources.runtimeclass_update_errors
        ),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"): KindRules(
            resources.default_flowschema, resources.flowschema_errors, check_name=path_segment
        ),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): KindRules(
            resources.default_prioritylevel, resources.prioritylevel_errors, check_name=path_segment
        ),
        (hooks.GROUP, "ValidatingWebhookConfiguration"): KindRules(hooks.default_webhooks, hooks.validating_errors),
        (hooks.GROUP, "MutatingWebhookConfiguration"): KindRules(hooks.default_mutating, hooks.mutating_errors),
        (hooks.GROUP, "ValidatingAdmissionPolicy"): KindRules(hooks.default_policy, hooks.policy_errors),
        (hooks.GROUP, "ValidatingAdmissionPolicyBinding"): KindRules(hooks.default_binding, hooks.binding_errors),
        (hooks.GROUP, "MutatingAdmissionPolicy"): KindRules(hooks.default_policy, hooks.mutating_policy_errors),
        (hooks.GROUP, "MutatingAdmissionPolicyBinding"): KindRules(
            hooks.default_binding, hooks.mutating_binding_errors
        ),
        ("apiregistration.k8s.io", "APIService"): KindRules(
            _nothing, resources.apiservice_errors, check_name=path_segment
        ),
        ("apiextensions.k8s.io", "CustomResourceDefinition"): KindRules(
            definitions.default_crd, definitions.crd_errors, definitions.crd_update_errors
        ),
    }  # fmt: skip
