"""Label selectors and field selectors: parse, match.

Errors are ``BadRequest`` with the texts of Kubernetes.

Source: apimachinery pkg/labels/selector.go, pkg/fields/selector.go, the field label conversions of v1.36.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skerry.api.field import show
from skerry.api.gvk import Object, Resource
from skerry.api.names import label_value, qualified_name
from skerry.api.status import BadRequest
from skerry.base.values import Struct

_TOKEN = re.compile(r"\s*(==|!=|=|!|\(|\)|,|>|<|[^\s=!(),<>]+)")
_SYMBOLS = frozenset(("==", "!=", "=", "!", "(", ")", ",", ">", "<", ""))
_OPERATORS = {
    "=": "in", "==": "in", "!=": "notin", "in": "in", "notin": "notin", ">": "gt", "<": "lt", "gt": "gt", "lt": "lt",
}  # fmt: skip
_EXPRESSIONS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": "gt", "Lt": "lt"}


class Requirement(Struct, frozen=True):
    """One condition. ``operator`` is ``in notin exists ! gt lt``."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it."""
        value = labels.get(self.key)
        if self.operator == "in":
            return value is not None and value in self.values
        if self.operator == "notin":
            return value is None or value not in self.values
        if self.operator == "exists":
            return value is not None
        if self.operator == "!":
            return value is None
        return value is not None and _compares(value, self.operator, next(iter(self.values)))

    def __str__(self) -> str:
        if self.operator == "exists":
            return self.key
        if self.operator == "!":
            return f"!{self.key}"
        if self.operator in ("gt", "lt"):
            return f"{self.key}{'>' if self.operator == 'gt' else '<'}{next(iter(self.values))}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator == 'in' else '!='}{next(iter(self.values))}"
        return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"


class LabelSelector(Struct, frozen=True):
    """All requirements must be met. ``is_nothing`` matches no object whatever the requirements."""

    requirements: tuple[Requirement, ...] = ()
    is_nothing: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether every object matches."""
        return not self.requirements and not self.is_nothing

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether labels (``metadata.labels``) match."""
        if self.is_nothing:
            return False
        have = labels or {}
        return all(requirement.matches(have) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


class FieldTerm(Struct, frozen=True):
    """``label`` equal (or not) to ``value``; the value is found at one of ``paths`` and is of ``kind`` str bool int."""

    label: str
    value: str
    is_equal: bool
    paths: tuple[tuple[str, ...], ...]
    kind: str = "str"

    def matches(self, obj: Object) -> bool:
        """Whether an object meets it."""
        return (self.read(obj) == self.value) is self.is_equal

    def read(self, obj: Object) -> str:
        """The field's value as text; absent flags are ``false``, absent numbers ``0``."""
        return _read(obj, self.paths, self.kind)


class FieldSelector(Struct, frozen=True):
    """All terms must be met."""

    terms: tuple[FieldTerm, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether every object matches."""
        return not self.terms

    def matches(self, obj: Object) -> bool:
        """Whether an object matches."""
        return all(term.matches(obj) for term in self.terms)

    def exact(self, label: str) -> str | None:
        """The value that the field must have, None when several may match."""
        return next((term.value for term in self.terms if term.label == label and term.is_equal), None)


def parse_labels(text: str) -> LabelSelector:
    """Read ``a=b,c in (d,e),!f``.

    Raises:
        BadRequest: not a selector.
    """
    tokens = _tokens(text)
    requirements: list[Requirement] = []
    while tokens.peek():
        if tokens.peek() in _SYMBOLS and tokens.peek() != "!":
            raise BadRequest(f"found '{tokens.peek()}', expected: !, identifier, or 'end of string'")
        requirements.append(_requirement(tokens))
        separator = tokens.take()
        if separator not in ("", ","):
            raise BadRequest(f"found '{separator}', expected: ',' or 'end of string'")
        if separator and tokens.peek() in _SYMBOLS and tokens.peek() != "!":
            raise BadRequest(f"found '{tokens.peek()}', expected: identifier after ','")
    return LabelSelector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def label_selector(selector: Mapping[str, Any] | None) -> LabelSelector:
    """From ``metav1.LabelSelector`` (``matchLabels``, ``matchExpressions``); None matches nothing, ``{}`` everything.

    Raises:
        BadRequest: an operator or a set of values that cannot be.
    """
    if selector is None:
        return LabelSelector(is_nothing=True)
    requirements = [exactly(key, value) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        operator = _EXPRESSIONS.get(expression.get("operator", ""))
        if operator is None or operator in ("gt", "lt"):
            raise BadRequest(f"{show(expression.get('operator', ''))} is not a valid label selector operator")
        requirements.append(_checked(expression.get("key", ""), operator, expression.get("values") or []))
    return LabelSelector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def match_labels(labels: Mapping[str, str] | None) -> LabelSelector:
    """From a plain map (Service and ReplicationController selectors); empty or None matches nothing."""
    if not labels:
        return LabelSelector(is_nothing=True)
    return LabelSelector(tuple(exactly(key, labels[key]) for key in sorted(labels)))


def node_term_requirement(expression: Mapping[str, Any]) -> Requirement:
    """From one NodeSelectorRequirement, which knows ``Gt`` and ``Lt`` too.

    Raises:
        BadRequest: an operator or a set of values that cannot be.
    """
    operator = _EXPRESSIONS.get(expression.get("operator", ""))
    if operator is None:
        raise BadRequest(f"{show(expression.get('operator', ''))} is not a valid node selector operator")
    return _checked(expression.get("key", ""), operator, expression.get("values") or [])


def exactly(key: str, value: str) -> Requirement:
    """``key=value``."""
    return Requirement(key, "in", frozenset((value,)))


def parse_fields(text: str, resource: Resource, *, selectable: Iterable[str] | None = None) -> FieldSelector:
    """Read ``metadata.name=a,spec.nodeName!=b``.

    Args:
        text: terms joined by commas; backslash escapes ``\\ , =``.
        resource: whose objects are selected; its table of labels applies.
        selectable: for custom resources the dotted paths of ``selectableFields``; None for built-in kinds.

    Raises:
        BadRequest: not a selector, or a label that the resource does not know.
    """
    terms = [_field_term(part, resource, selectable) for part in _parts(text)]
    return FieldSelector(tuple(terms))


def exact_field(text: str, label: str) -> str | None:
    """The value that a field selector demands of ``label``, whatever the resource; None when several may match.

    Reads as ``parse_fields`` does: what decides about access and what selects objects must not differ.

    Raises:
        BadRequest: not a selector.
    """
    terms = [(name, operator, _unescape(value)) for name, operator, value in map(_split_term, _parts(text))]
    return next((value for name, operator, value in terms if name == label and operator != "!="), None)


def escaped_value(value: str) -> str:
    """A value as it stands in the text of a field selector."""
    return re.sub(r"([\\,=])", r"\\\1", value)


class _Tokens:
    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._at = 0

    def peek(self) -> str:
        return self._words[self._at] if self._at < len(self._words) else ""

    def take(self) -> str:
        word = self.peek()
        self._at += 1
        return word


def _tokens(text: str) -> _Tokens:
    return _Tokens(_TOKEN.findall(text))


def _requirement(tokens: _Tokens) -> Requirement:
    try:
        return _parsed_requirement(tokens)
    except BadRequest as exc:
        raise BadRequest(f"unable to parse requirement: {exc.message}") from exc


def _parsed_requirement(tokens: _Tokens) -> Requirement:
    word = tokens.take()
    operator = ""
    if word == "!":
        operator, word = "!", tokens.take()
    if word in _SYMBOLS:
        raise BadRequest(f"found '{word}', expected: identifier")
    for error in qualified_name(word)[:1]:
        raise BadRequest(f"<nil>: Invalid value: {show(word)}: {error}")
    if operator:
        return Requirement(word, "!")
    if tokens.peek() in ("", ","):
        return Requirement(word, "exists")
    sign = tokens.take()
    if sign not in _OPERATORS:
        raise BadRequest(f"found '{sign}', expected: in, notin, =, ==, !=, gt, lt")
    values = _value_set(tokens) if sign in ("in", "notin") else [_exact_value(tokens)]
    return _checked(word, _OPERATORS[sign], values)


def _exact_value(tokens: _Tokens) -> str:
    if tokens.peek() in ("", ","):
        return ""
    word = tokens.take()
    if word in _SYMBOLS:
        raise BadRequest(f"found '{word}', expected: identifier")
    return word


def _value_set(tokens: _Tokens) -> list[str]:
    opening = tokens.take()
    if opening != "(":
        raise BadRequest(f"found '{opening}' expected: '('")
    values: list[str] = []
    if tokens.peek() == ")":
        tokens.take()
        return values
    while True:
        word = tokens.take()
        if word in (",", ")"):
            values.append("")
        elif word in _SYMBOLS:
            raise BadRequest(f"found '{word}', expected: ',', ')' or identifier")
        else:
            values.append(word)
            word = tokens.take()
        if word == ")":
            return values
        if word != ",":
            raise BadRequest(f"found '{word}', expected: ',' or ')'")


def _checked(key: str, operator: str, values: Sequence[str]) -> Requirement:
    for error in qualified_name(key)[:1]:
        raise BadRequest(f"key: Invalid value: {show(key)}: {error}")
    if operator in ("in", "notin") and not values:
        raise BadRequest("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    if operator in ("exists", "!") and values:
        raise BadRequest(
            f"values: Invalid value: {show(list(values))}: values set must be empty for exists and does not exist"
        )
    if operator in ("gt", "lt"):
        if len(values) != 1:
            raise BadRequest(
                f"values: Invalid value: {show(list(values))}: for 'Gt', 'Lt' operators, exactly one value is required"
            )
        if not _is_int(values[0]):
            raise BadRequest(
                f"values[0]: Invalid value: {show(values[0])}: for 'Gt', 'Lt' operators, the value must be an integer"
            )
    for index, value in enumerate(values):
        for error in label_value(value)[:1]:
            raise BadRequest(f"values[{index}][{key}]: Invalid value: {show(value)}: {error}")
    return Requirement(key, operator, frozenset(values))


def _compares(value: str, operator: str, limit: str) -> bool:
    if not _is_int(value):
        return False
    return int(value) > int(limit) if operator == "gt" else int(value) < int(limit)


def _is_int(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]+", text) is not None


_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

# (group, plural) -> label -> kind of value; the label is the path unless _PATHS says otherwise
_LABELS: dict[tuple[str, str], dict[str, str]] = {
    ("", "pods"): {
        "spec.nodeName": "str", "spec.restartPolicy": "str", "spec.schedulerName": "str",
        "spec.serviceAccountName": "str", "spec.hostNetwork": "bool", "status.phase": "str", "status.podIP": "str",
        "status.podIPs": "str", "status.nominatedNodeName": "str",
    },
    ("", "events"): {f"involvedObject.{part}": "str" for part in _INVOLVED}
    | {"reason": "str", "reportingComponent": "str", "source": "str", "type": "str"},
    ("events.k8s.io", "events"): {f"regarding.{part}": "str" for part in _INVOLVED}
    | {"reason": "str", "reportingController": "str", "type": "str"},
    ("", "nodes"): {"spec.unschedulable": "bool"},
    ("", "namespaces"): {"status.phase": "str"},
    ("", "secrets"): {"type": "str"},
    ("", "services"): {"spec.clusterIP": "str", "spec.type": "str"},
    ("", "replicationcontrollers"): {"status.replicas": "int"},
    ("batch", "jobs"): {"status.successful": "int"},
    ("certificates.k8s.io", "certificatesigningrequests"): {"spec.signerName": "str"},
    ("resource.k8s.io", "resourceslices"): {"spec.nodeName": "str", "spec.driver": "str"},
}  # fmt: skip

# Events are one store with two views, so a label may be found under either spelling.
_PATHS: dict[str, tuple[str, ...]] = {
    **{f"involvedObject.{part}": (f"involvedObject.{part}", f"regarding.{part}") for part in _INVOLVED},
    **{f"regarding.{part}": (f"regarding.{part}", f"involvedObject.{part}") for part in _INVOLVED},
    "source": ("source.component", "deprecatedSource.component", "reportingComponent", "reportingController"),
    "reportingComponent": ("reportingComponent", "reportingController"),
    "reportingController": ("reportingController", "reportingComponent"),
    "status.successful": ("status.succeeded",),
}


def _field_term(part: str, resource: Resource, selectable: Iterable[str] | None) -> FieldTerm:
    label, operator, value = _split_term(part)
    kind = _label_kind(label, resource, selectable)
    paths = tuple(tuple(path.split(".")) for path in _PATHS.get(label, (label,)))
    return FieldTerm(label, _unescape(value), operator != "!=", paths, kind)


def _label_kind(label: str, resource: Resource, selectable: Iterable[str] | None) -> str:
    if label == "metadata.name" or (label == "metadata.namespace" and resource.namespaced):
        return "str"
    if selectable is not None:
        if label in {path.lstrip(".") for path in selectable}:
            return "auto"
        raise BadRequest(f"field label not supported: {label}")
    known = _LABELS.get((resource.group, resource.plural))
    if known is None:
        raise BadRequest(
            f'"{label}" is not a known field selector: only "metadata.name", "metadata.namespace"'
        )  # fmt: skip
    if label not in known:
        raise BadRequest(f"field label not supported: {label}")
    return known[label]


def _parts(text: str) -> list[str]:
    return re.findall(r"(?:\\.|[^,\\]|\\\Z)+", text, re.DOTALL)


def _split_term(part: str) -> tuple[str, str, str]:
    found = re.match(r"((?:\\.|[^\\=!])*?)(!=|==|=)(.*)\Z", part, re.DOTALL)
    if found is None:
        raise BadRequest(f"invalid selector: '{part}'; can't understand '{part}'")
    return found[1], found[2], found[3]


def _unescape(value: str) -> str:
    if re.search(r"(?<!\\)(?:\\\\)*\\(?![\\,=])", value):
        raise BadRequest(f"invalid field selector: invalid escape sequence in {show(value)}")
    if re.match(r"(?:\\.|[^\\,=])*[,=]", value, re.DOTALL):
        raise BadRequest(f"invalid field selector: unescaped character in value: {show(value)}")
    return re.sub(r"\\([\\,=])", r"\1", value)


def _read(obj: Object, paths: tuple[tuple[str, ...], ...], kind: str) -> str:
    for path in paths:
        value: Any = obj
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None and value != "":
            return _as_text(value)
    return {"bool": "false", "int": "0"}.get(kind, "")


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(item.get("ip", "") if isinstance(item, dict) else str(item) for item in value)
    return str(value)
