"""Grammar of names, labels and annotations: which texts may stand where, and what is said when they may not.

Source: apimachinery pkg/util/validation/validation.go, pkg/api/validation (v1.36).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from skerry.api.field import FieldError, invalid, too_long

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_NAME_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+\Z")
_ENV_NAME = re.compile(r"[ -<>-~]+\Z")
_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")

LABEL_LIMIT = 63
SUBDOMAIN_LIMIT = 253
ANNOTATIONS_LIMIT_BYTES = 256 * 1024

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is"
    " '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_NAME_PART_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    " (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',"
    "  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


def dns_label(text: str) -> list[str]:
    """What is wrong with an RFC 1123 label; empty when nothing is."""
    return _length(text, LABEL_LIMIT) + ([] if _LABEL.match(text) else [_LABEL_TEXT])


def dns_subdomain(text: str) -> list[str]:
    """What is wrong with an RFC 1123 subdomain; empty when nothing is."""
    return _length(text, SUBDOMAIN_LIMIT) + ([] if _SUBDOMAIN.match(text) else [_SUBDOMAIN_TEXT])


def dns_1035_label(text: str) -> list[str]:
    """What is wrong with an RFC 1035 label (service names); empty when nothing is."""
    return _length(text, LABEL_LIMIT) + ([] if _LABEL_1035.match(text) else [_LABEL_1035_TEXT])


def path_segment(text: str) -> list[str]:
    """What is wrong with a name that may hold anything but path syntax (RBAC kinds)."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in text]


def qualified_name(text: str) -> list[str]:
    """What is wrong with a label key, annotation key, taint key or finalizer."""
    parts = text.split("/")
    errors: list[str] = []
    if len(parts) > 2:
        prefix = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a qualified name {_NAME_PART_TEXT} {prefix}"]
    if len(parts) == 2:
        errors += [f"prefix part {text}" for text in (dns_subdomain(parts[0]) if parts[0] else ["must be non-empty"])]
    name = parts[-1]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > LABEL_LIMIT:
        errors.append(f"name part must be no more than {LABEL_LIMIT} bytes")
    if not _NAME_PART.match(name):
        errors.append(f"name part {_NAME_PART_TEXT}")
    return errors


def label_value(text: str) -> list[str]:
    """What is wrong with a label value; empty when nothing is."""
    return _length(text, LABEL_LIMIT) + ([] if _LABEL_VALUE.match(text) else [_LABEL_VALUE_TEXT])


def config_key(text: str) -> list[str]:
    """What is wrong with a key of a ConfigMap or Secret; empty when nothing is."""
    errors = _length(text, SUBDOMAIN_LIMIT) + ([] if _CONFIG_KEY.match(text) else [_CONFIG_KEY_TEXT])
    if text in (".", ".."):
        errors.append(f"must not be '{text}'")
    elif text.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def env_name(text: str) -> list[str]:
    """What is wrong with the name of an environment variable; empty when nothing is."""
    if _ENV_NAME.match(text):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def port_name(text: str) -> list[str]:
    """What is wrong with the name of a container port; empty when nothing is."""
    errors = ["must be no more than 15 characters"] if len(text) > 15 else []
    if not _PORT_NAME.match(text):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any(char.isalpha() for char in text):
        errors.append("must contain at least one letter (a-z)")
    if "--" in text:
        errors.append("must not contain consecutive hyphens")
    return errors


def label_errors(labels: Mapping[str, Any] | None, path: str) -> list[FieldError]:
    """Everything wrong with a map of labels."""
    errors: list[FieldError] = []
    for key, value in (labels or {}).items():
        errors += [invalid(path, key, text) for text in qualified_name(key)]
        errors += [invalid(path, value, text) for text in label_value(value or "")]
    return errors


def annotation_errors(annotations: Mapping[str, Any] | None, path: str) -> list[FieldError]:
    """Everything wrong with a map of annotations: keys, and 256 KiB in all."""
    errors: list[FieldError] = []
    total = 0
    for key, value in (annotations or {}).items():
        errors += [invalid(path, key, text) for text in qualified_name(key.lower())]
        total += len(key.encode()) + len((value or "").encode())
    if total > ANNOTATIONS_LIMIT_BYTES:
        errors.append(too_long(path, ANNOTATIONS_LIMIT_BYTES))
    return errors


def _length(text: str, limit: int) -> list[str]:
    return [f"must be no more than {limit} bytes"] if len(text.encode()) > limit else []
