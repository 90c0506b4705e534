"""Job and CronJob: defaults and validation.

Source: kubernetes pkg/apis/batch/{v1/defaults,validation/validation}.go, pkg/registry/batch/job/strategy.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from skerry.api.field import FieldError, forbidden, invalid, not_supported, required
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, part
from skerry.api.kinds.workloads import default_template, template_errors
from skerry.api.patch import json_equal
from skerry.api.selectors import label_selector
from skerry.api.status import BadRequest

_NOT_NEGATIVE = "must be greater than or equal to 0"
_IMMUTABLE = "field is immutable"
_COUNTS = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
           "backoffLimitPerIndex", "maxFailedIndexes")  # fmt: skip
_CONCURRENCY = ("Allow", "Forbid", "Replace")
_MODES = ("Indexed", "NonIndexed")
_UID_LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid")
_NAME_LABELS = ("batch.kubernetes.io/job-name", "job-name")


def default_job(obj: Object) -> None:
    """Fill what an omitted field becomes."""
    _default_job_spec(part(obj, "spec"))
    meta, template = part(obj, "metadata"), part(obj["spec"], "template")
    if not meta.get("labels") and (template.get("metadata") or {}).get("labels"):
        meta["labels"] = dict(template["metadata"]["labels"])


def default_cronjob(obj: Object) -> None:
    """Fill what an omitted field becomes."""
    spec = part(obj, "spec")
    fill(spec, "concurrencyPolicy", "Allow")
    fill(spec, "suspend", False)
    fill(spec, "successfulJobsHistoryLimit", 3)
    fill(spec, "failedJobsHistoryLimit", 1)
    template = part(spec, "jobTemplate")
    part(template, "metadata")
    default_template(part(template, "spec"))


def select_own_pods(job: Object) -> None:
    """Give a new Job, whose uid is known, the selector and the labels by which it finds its pods."""
    spec, meta = job["spec"], job["metadata"]
    if spec.get("manualSelector"):
        return
    labels = part(part(spec["template"], "metadata"), "labels")
    for names, value in ((_UID_LABELS, meta["uid"]), (_NAME_LABELS, meta["name"])):
        for name in names:
            labels[name] = value
    selector = part(spec, "selector")
    part(selector, "matchLabels")[_UID_LABELS[0]] = meta["uid"]


def job_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a Job."""
    spec = obj.get("spec") or {}
    yield from job_spec_errors(spec, "spec")
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if selector is None:
        yield required("spec.selector")
        return
    try:
        if not label_selector(selector).matches(labels):
            yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    except BadRequest as exc:
        yield invalid("spec.selector", selector, exc.message)


def job_spec_errors(spec: dict[str, Any], path: str) -> Iterator[FieldError]:
    """What is wrong with a Job's spec apart from its selector."""
    for name in _COUNTS:
        if isinstance(spec.get(name), int) and spec[name] < 0:
            yield invalid(f"{path}.{name}", spec[name], _NOT_NEGATIVE)
    mode = spec.get("completionMode")
    if mode is not None and mode not in _MODES:
        yield not_supported(f"{path}.completionMode", mode, _MODES)
    if mode == "Indexed" and spec.get("completions") is None:
        yield required(f"{path}.completions", "when completion mode is Indexed")
    for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
        if spec.get(name) is not None and mode != "Indexed":
            yield invalid(f"{path}.{name}", spec[name], "requires indexed completion mode")
    if spec.get("maxFailedIndexes") is not None and spec.get("backoffLimitPerIndex") is None:
        yield required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    template = spec.get("template") or {}
    yield from template_errors(template, f"{path}.template")
    policy = (template.get("spec") or {}).get("restartPolicy")
    if policy not in ("OnFailure", "Never"):
        where = f"{path}.template.spec.restartPolicy"
        yield (
            required(where, 'valid values: "OnFailure", "Never"')
            if policy == "Always"
            else not_supported(where, policy or "", ("OnFailure", "Never"))
        )
    if spec.get("podFailurePolicy") is not None and policy == "OnFailure":
        yield invalid(
            f"{path}.template.spec.restartPolicy",
            policy,
            'only "Never" is supported when podFailurePolicy is specified',
        )


def job_update_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    """What may not change in a Job; the template may while the Job is suspended and has not started."""
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    for name in ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "successPolicy"):
        if not json_equal(spec.get(name), before.get(name)):
            yield invalid(f"spec.{name}", spec.get(name), _IMMUTABLE)
    if spec.get("completions") != before.get("completions") and (
        before.get("completionMode") != "Indexed" or spec.get("completions") != spec.get("parallelism")
    ):
        yield invalid("spec.completions", spec.get("completions"), _IMMUTABLE)
    may_change = before.get("suspend") and not (old.get("status") or {}).get("startTime")
    if not may_change and not json_equal(spec.get("template"), before.get("template")):
        yield invalid("spec.template", "", _IMMUTABLE)


def cronjob_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a CronJob."""
    spec, name = obj.get("spec") or {}, str((obj.get("metadata") or {}).get("name") or "")
    if len(name) > 52:
        yield invalid("metadata.name", name, "must be no more than 52 characters")
    schedule = str(spec.get("schedule") or "")
    if not schedule:
        yield required("spec.schedule")
    elif "TZ" in schedule:
        yield invalid("spec.schedule", schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
    elif not schedule.startswith("@") and len(schedule.split()) != 5:
        yield invalid(
            "spec.schedule", schedule, f"expected exactly 5 fields, found {len(schedule.split())}: {schedule}"
        )
    if spec.get("concurrencyPolicy") not in _CONCURRENCY:
        yield not_supported("spec.concurrencyPolicy", spec.get("concurrencyPolicy") or "", _CONCURRENCY)
    for field in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        if isinstance(spec.get(field), int) and spec[field] < 0:
            yield invalid(f"spec.{field}", spec[field], _NOT_NEGATIVE)
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    if job.get("selector") is not None and not job.get("manualSelector"):
        yield invalid("spec.jobTemplate.spec.selector", job["selector"], "`selector` will be auto-generated")
    if job.get("manualSelector"):
        yield forbidden("spec.jobTemplate.spec.manualSelector", "may not be set")
    yield from job_spec_errors(job, "spec.jobTemplate.spec")


def _default_job_spec(spec: dict[str, Any]) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    fill(spec, "parallelism", 1)
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = 2**31 - 1 if spec.get("backoffLimitPerIndex") is not None else 6
    fill(spec, "completionMode", "NonIndexed")
    fill(spec, "suspend", False)
    fill(spec, "manualSelector", False)
    fill(spec, "podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for condition in rule.get("onPodConditions") or ():
            fill(condition, "status", "True")
    default_template(spec)
