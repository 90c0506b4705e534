"""Named formats of texts: ``format.dns1123Label().validate(self.name)``.

Source: kubernetes apiserver/pkg/cel/library/format.go (v1.36).
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from skerry.api.names import dns_1035_label, dns_label, dns_subdomain, label_value, qualified_name
from skerry.cel.errors import EvalError
from skerry.cel.functions import Functions
from skerry.cel.library.networks import is_url
from skerry.cel.library.standard import parse_timestamp
from skerry.cel.values import NONE, Optional, some

_FORMAT = "kubernetes.NamedFormat"
_UUID = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\Z", re.ASCII)

Check = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format by its name."""

    cel_type: ClassVar[str] = _FORMAT
    name: str


def add_formats(table: Functions) -> None:
    """Put the formats into the table."""
    for name in _CHECKS:
        table.function(f"format.{name}", "", _FORMAT, lambda name=name: Format(name))
    table.function(
        "format.named",
        "string",
        f"optional<{_FORMAT}>",
        lambda name: some(Format(name)) if name in _CHECKS else NONE,
    )
    table.method("validate", f"{_FORMAT}, string", "optional<list<string>>", _validate)


def _validate(form: Format, text: str) -> Optional:
    found = _CHECKS[form.name](text)
    return some(found) if found else NONE


def _prefix(check: Check) -> Check:
    """The check of a name that something is appended to: it may end in a dash."""
    return lambda text: check(f"{text[:-1]}a" if text.endswith("-") else text)


def _uri(text: str) -> list[str]:
    return [] if is_url(text) else ["invalid URI for request"]


def _uuid(text: str) -> list[str]:
    return [] if _UUID.match(text) else ["does not match the UUID format"]


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return []


def _date(text: str) -> list[str]:
    try:
        if len(text) != 10:
            raise ValueError(text)
        datetime.date.fromisoformat(text)
    except ValueError:
        return ["invalid date"]
    return []


def _moment(text: str) -> list[str]:
    try:
        parse_timestamp(text)
    except EvalError:
        return ["invalid datetime"]
    return []


_CHECKS: dict[str, Check] = {
    "dns1123Label": dns_label,
    "dns1123Subdomain": dns_subdomain,
    "dns1035Label": dns_1035_label,
    "qualifiedName": qualified_name,
    "dns1123LabelPrefix": _prefix(dns_label),
    "dns1123SubdomainPrefix": _prefix(dns_subdomain),
    "dns1035LabelPrefix": _prefix(dns_1035_label),
    "labelValue": label_value,
    "uri": _uri,
    "uuid": _uuid,
    "byte": _byte,
    "date": _date,
    "datetime": _moment,
}
