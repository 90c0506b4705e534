"""admissionregistration.k8s.io: webhook configurations, policies and their bindings: defaults and validation.

Not here: whether expressions can run.

Source: kubernetes pkg/apis/admissionregistration/{v1/defaults,validation/validation}.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from skerry.api.field import FieldError, duplicate, forbidden, invalid, not_supported, required, too_many
from skerry.api.gvk import Object
from skerry.api.kinds.filling import fill, fill_number, part, rows
from skerry.api.names import dns_subdomain, qualified_name

GROUP = "admissionregistration.k8s.io"
POLICIES = ("Fail", "Ignore")
MATCHES = ("Equivalent", "Exact")
SCOPES = ("*", "Cluster", "Namespaced")
OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
ACTIONS = ("Audit", "Deny", "Warn")
REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
MOST_CONDITIONS = 64

_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_THREE_PARTS = "should be a domain with at least three segments separated by dots"


def default_webhooks(obj: Object) -> None:
    """Fill what an omitted field of a webhook becomes."""
    for hook in rows(obj, "webhooks"):
        fill(hook, "failurePolicy", "Fail")
        fill(hook, "matchPolicy", "Equivalent")
        part(hook, "namespaceSelector")
        part(hook, "objectSelector")
        fill_number(hook, "timeoutSeconds", 10)
        _default_rules(rows(hook, "rules"))
        service = (hook.get("clientConfig") or {}).get("service")
        if isinstance(service, dict):
            fill_number(service, "port", 443)


def default_mutating(obj: Object) -> None:
    """As ``default_webhooks``; and webhooks are not called again."""
    default_webhooks(obj)
    for hook in rows(obj, "webhooks"):
        fill(hook, "reinvocationPolicy", "Never")


def default_policy(obj: Object) -> None:
    """Fill what an omitted field of a policy becomes."""
    spec = part(obj, "spec")
    fill(spec, "failurePolicy", "Fail")
    constraints = spec.get("matchConstraints")
    if isinstance(constraints, dict):
        _default_match(constraints)


def default_binding(obj: Object) -> None:
    """Fill what an omitted field of a binding becomes."""
    spec = part(obj, "spec")
    if isinstance(spec.get("matchResources"), dict):
        _default_match(spec["matchResources"])


def validating_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ValidatingWebhookConfiguration."""
    yield from _webhook_errors(obj, is_mutating=False)


def mutating_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a MutatingWebhookConfiguration."""
    yield from _webhook_errors(obj, is_mutating=True)


def policy_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ValidatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    yield from _common_policy_errors(spec)
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        yield required("spec.validations", "validations or auditAnnotations must contain at least one item")
        yield required("spec.auditAnnotations", "validations or auditAnnotations must contain at least one item")
    for index, item in enumerate(rows(spec, "validations")):
        where = f"spec.validations[{index}]"
        if not str(item.get("expression") or "").strip():
            yield required(f"{where}.expression", "expression is not specified")
        message = str(item.get("message") or "")
        if message and not message.strip():
            yield invalid(f"{where}.message", message, "message must be non-empty if specified")
        elif "\n" in message.strip():
            yield invalid(f"{where}.message", message, "message must not contain line breaks")
        if item.get("reason") and item["reason"] not in REASONS:
            yield not_supported(f"{where}.reason", item["reason"], REASONS)
    keys: set[str] = set()
    for index, item in enumerate(rows(spec, "auditAnnotations")):
        where, key = f"spec.auditAnnotations[{index}]", str(item.get("key") or "")
        yield from (invalid(f"{where}.key", key, text) for text in qualified_name(f"a/{key}") if key)
        if not key:
            yield required(f"{where}.key", "key is not specified")
        if key in keys:
            yield duplicate(f"{where}.key", key)
        keys.add(key)
        if not str(item.get("valueExpression") or "").strip():
            yield required(f"{where}.valueExpression", "valueExpression is not specified")


def mutating_policy_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a MutatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    yield from _common_policy_errors(spec)
    if not spec.get("mutations"):
        yield required("spec.mutations", "mutations must contain at least one item")
    if spec.get("reinvocationPolicy") not in ("IfNeeded", "Never"):
        yield not_supported("spec.reinvocationPolicy", spec.get("reinvocationPolicy") or "", ("IfNeeded", "Never"))
    for index, item in enumerate(rows(spec, "mutations")):
        where, kind = f"spec.mutations[{index}]", item.get("patchType") or ""
        names = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}
        if kind not in names:
            yield not_supported(f"{where}.patchType", kind, tuple(names))
            continue
        if not str((item.get(names[kind]) or {}).get("expression") or "").strip():
            yield required(f"{where}.{names[kind]}.expression")
        for other, name in names.items():
            if other != kind and item.get(name) is not None:
                yield invalid(f"{where}.{name}", "{}", f"must not be set when patchType is {kind}")


def binding_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a ValidatingAdmissionPolicyBinding."""
    yield from mutating_binding_errors(obj)
    spec = obj.get("spec") or {}
    actions = spec.get("validationActions") or []
    if not actions:
        yield required("spec.validationActions", "at least one validation action is required")
    for index, action in enumerate(actions):
        if action not in ACTIONS:
            yield not_supported(f"spec.validationActions[{index}]", action, ACTIONS)
        if action in actions[:index]:
            yield duplicate(f"spec.validationActions[{index}]", action)
    if "Deny" in actions and "Warn" in actions:
        yield invalid(
            "spec.validationActions", actions, "must not contain both Deny and Warn (repeating the same validation "
            "failure information in the API response and headers serves no purpose)",
        )  # fmt: skip


def mutating_binding_errors(obj: Object) -> Iterator[FieldError]:
    """Everything wrong with a MutatingAdmissionPolicyBinding."""
    spec = obj.get("spec") or {}
    name = spec.get("policyName") or ""
    if not name:
        yield required("spec.policyName")
    else:
        yield from (invalid("spec.policyName", name, text) for text in dns_subdomain(name))
    ref = spec.get("paramRef")
    if isinstance(ref, dict):
        if not ref.get("name") and ref.get("selector") is None:
            yield required("spec.paramRef.name", "one of name or selector must be specified")
        if ref.get("name") and ref.get("selector") is not None:
            yield forbidden("spec.paramRef.name", "name and selector are mutually exclusive")
        if ref.get("parameterNotFoundAction") not in ("Allow", "Deny"):
            yield required("spec.paramRef.parameterNotFoundAction")
    if isinstance(spec.get("matchResources"), dict):
        yield from _match_errors(spec["matchResources"], "spec.matchResources", needs_rules=False)


def _default_rules(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        fill(rule, "scope", "*")


def _default_match(match: dict[str, Any]) -> None:
    fill(match, "matchPolicy", "Equivalent")
    part(match, "namespaceSelector")
    part(match, "objectSelector")
    _default_rules(rows(match, "resourceRules"))
    _default_rules(rows(match, "excludeResourceRules"))


def _common_policy_errors(spec: dict[str, Any]) -> Iterator[FieldError]:
    if spec.get("failurePolicy") not in POLICIES:
        yield not_supported("spec.failurePolicy", spec.get("failurePolicy") or "", POLICIES)
    kind = spec.get("paramKind")
    if isinstance(kind, dict):
        for name in ("apiVersion", "kind"):
            if not kind.get(name):
                yield required(f"spec.paramKind.{name}")
    if not isinstance(spec.get("matchConstraints"), dict):
        yield required("spec.matchConstraints")
    else:
        yield from _match_errors(spec["matchConstraints"], "spec.matchConstraints", needs_rules=True)
    yield from _condition_errors(spec, "spec.matchConditions")
    names: set[str] = set()
    for index, item in enumerate(rows(spec, "variables")):
        where, name = f"spec.variables[{index}]", str(item.get("name") or "")
        if not name:
            yield required(f"{where}.name", "name is not specified")
        elif not name.isidentifier() or not name.isascii():
            yield invalid(f"{where}.name", name, "name is not a valid CEL identifier")
        if name in names:
            yield duplicate(f"{where}.name", name)
        names.add(name)
        if not str(item.get("expression") or "").strip():
            yield required(f"{where}.expression", "expression is not specified")


def _match_errors(match: dict[str, Any], path: str, *, needs_rules: bool) -> Iterator[FieldError]:
    if match.get("matchPolicy") not in MATCHES:
        yield not_supported(f"{path}.matchPolicy", match.get("matchPolicy") or "", MATCHES)
    if needs_rules and not match.get("resourceRules"):
        yield required(f"{path}.resourceRules")
    for name in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(rows(match, name)):
            yield from _rule_errors(rule, f"{path}.{name}[{index}]")


def _condition_errors(holder: dict[str, Any], path: str) -> Iterator[FieldError]:
    found = rows(holder, "matchConditions")
    if len(found) > MOST_CONDITIONS:
        yield too_many(path, len(found), MOST_CONDITIONS)
    names: set[str] = set()
    for index, item in enumerate(found):
        name = str(item.get("name") or "")
        if not name:
            yield required(f"{path}[{index}].name")
        else:
            yield from (invalid(f"{path}[{index}].name", name, text) for text in qualified_name(name))
        if name and name in names:
            yield duplicate(f"{path}[{index}].name", name)
        names.add(name)


def _webhook_errors(obj: Object, *, is_mutating: bool) -> Iterator[FieldError]:
    names: set[str] = set()
    for index, hook in enumerate(rows(obj, "webhooks")):
        where, name = f"webhooks[{index}]", str(hook.get("name") or "")
        if not name:
            yield required(f"{where}.name")
        else:
            yield from (invalid(f"{where}.name", name, text) for text in dns_subdomain(name))
            if name.count(".") < 2:
                yield invalid(f"{where}.name", name, _THREE_PARTS)
        if name in names:
            yield duplicate(f"{where}.name", name)
        names.add(name)
        yield from _hook_errors(hook, where)
        if is_mutating and hook.get("reinvocationPolicy") not in ("IfNeeded", "Never"):
            yield not_supported(
                f"{where}.reinvocationPolicy", hook.get("reinvocationPolicy") or "", ("IfNeeded", "Never")
            )


def _hook_errors(hook: dict[str, Any], where: str) -> Iterator[FieldError]:
    for name, allowed in (("failurePolicy", POLICIES), ("matchPolicy", MATCHES)):
        if hook.get(name) not in allowed:
            yield not_supported(f"{where}.{name}", hook.get(name) or "", allowed)
    if hook.get("sideEffects") is None:
        yield required(f"{where}.sideEffects", "must specify one of None, NoneOnDryRun")
    elif hook["sideEffects"] not in _SIDE_EFFECTS:
        yield not_supported(f"{where}.sideEffects", hook["sideEffects"], _SIDE_EFFECTS)
    timeout = hook.get("timeoutSeconds")
    if isinstance(timeout, int) and not 1 <= timeout <= 30:
        yield invalid(f"{where}.timeoutSeconds", timeout, "the timeout value must be between 1 and 30 seconds")
    yield from _version_errors(hook.get("admissionReviewVersions") or [], f"{where}.admissionReviewVersions")
    yield from client_errors(hook.get("clientConfig") or {}, f"{where}.clientConfig")
    for index, rule in enumerate(rows(hook, "rules")):
        yield from _rule_errors(rule, f"{where}.rules[{index}]")
    yield from _condition_errors(hook, f"{where}.matchConditions")


def _version_errors(versions: list[Any], path: str) -> Iterator[FieldError]:
    if not versions:
        yield required(path, "must specify one of v1, v1beta1")
    elif not set(versions) & {"v1", "v1beta1"}:
        yield invalid(path, versions, "must include at least one of v1, v1beta1")
    for index, version in enumerate(versions):
        if version in versions[:index]:
            yield invalid(f"{path}[{index}]", version, "duplicate version")


def client_errors(config: dict[str, Any], path: str) -> Iterator[FieldError]:
    """Everything wrong with the ``clientConfig`` of a webhook."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        yield required(path, "exactly one of url or service is required")
    if url is not None:
        parts = urlsplit(str(url))
        form = "desired format: https://host[/path]"
        if parts.scheme != "https":
            yield invalid(f"{path}.url", url, f"'https' is the only allowed URL scheme; {form}")
        elif not parts.netloc:
            yield invalid(f"{path}.url", url, f"host must be specified; {form}")
        refused = {
            "user information is": parts.username,
            "fragments are": parts.fragment,
            "query parameters are": parts.query,
        }
        for name, has_part in refused.items():
            if has_part:
                yield invalid(f"{path}.url", url, f"{name} not permitted in the URL")
    if isinstance(service, dict):
        for name in ("name", "namespace"):
            if not service.get(name):
                yield required(f"{path}.service.{name}", f"service {name} is required")
        if service.get("path") and not str(service["path"]).startswith("/"):
            yield invalid(f"{path}.service.path", service["path"], "must start with a '/'")
        port = service.get("port")
        if isinstance(port, int) and not 1 <= port <= 65535:
            yield invalid(f"{path}.service.port", port, "port is not valid: must be between 1 and 65535, inclusive")


def _rule_errors(rule: dict[str, Any], path: str) -> Iterator[FieldError]:
    for name in ("apiGroups", "apiVersions", "resources", "operations"):
        values = rule.get(name) or []
        if not values:
            yield required(f"{path}.{name}")
        elif "*" in values and len(values) > 1 and name != "resources":
            yield invalid(f"{path}.{name}", values, "if '*' is present, must not specify other " + _PLURALS[name])
        for index, value in enumerate(values):
            if value == "" and name != "apiGroups":
                yield required(f"{path}.{name}[{index}]")
    for index, operation in enumerate(rule.get("operations") or []):
        if operation not in OPERATIONS:
            yield not_supported(f"{path}.operations[{index}]", operation, OPERATIONS)
    if rule.get("scope") not in SCOPES:
        yield not_supported(f"{path}.scope", rule.get("scope") or "", SCOPES)


_PLURALS = {"apiGroups": "API groups", "apiVersions": "API versions", "operations": "operations"}
