"""From method, path and query to what is asked for (pure).

Source: Kubernetes apiserver/pkg/endpoints/request/requestinfo.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from skerry.api.selectors import exact_field
from skerry.api.status import BadRequest, Invalid
from skerry.base.values import Struct, field

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}
_OF_NAMESPACE = ("status", "finalize")
MAX_QUERY_BYTES = 32 * 1024

Query = Mapping[str, str]


class RequestInfo(Struct, frozen=True):
    """What one request asks for.

    Args:
        verb: Kubernetes verb for resources, lower-case HTTP method otherwise.
        path: percent-decoded.
        query: the last value of each parameter; ``lists`` has all of them.
        is_resource: whether the path names a resource; then group, version and resource are set.
        tail: path below a ``proxy`` subresource, with its slash.
    """

    verb: str
    method: str
    path: str
    query: Query
    is_resource: bool = False
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    tail: str = ""
    lists: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def is_watch(self) -> bool:
        return self.verb == "watch"

    def flag(self, name: str) -> bool:
        """A boolean query parameter."""
        return self.query.get(name, "").lower() in ("1", "true")


def parse(method: str, path: str, raw_query: str = "") -> RequestInfo:
    """Read a request line.

    Args:
        method: HTTP method, upper case.
        path: percent-decoded.
        raw_query: without the question mark.

    Raises:
        BadRequest: the query is longer than 32 KiB.
    """
    query, lists = _query(raw_query)
    parts = [part for part in path.split("/") if part]
    info = _resource(method, path, parts, query, lists)
    return info or RequestInfo(method.lower(), method, path, query, lists=lists)


def _query(raw: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    if not raw:
        return {}, {}
    if len(raw) > MAX_QUERY_BYTES:
        raise BadRequest(f"query of {len(raw)} bytes is longer than {MAX_QUERY_BYTES} bytes")
    lists: dict[str, list[str]] = {}
    for name, value in parse_qsl(raw, keep_blank_values=True):
        lists.setdefault(name, []).append(value)
    return {name: values[0] for name, values in lists.items()}, lists


def _resource(
    method: str, path: str, parts: list[str], query: dict[str, str], lists: dict[str, list[str]]
) -> RequestInfo | None:
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    verb = _VERBS.get(method, method.lower())
    if rest[0] in ("watch", "proxy") and len(rest) > 1:
        verb, rest = rest[0], rest[1:]
    namespace, rest = _split_namespace(rest)
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    tail = ""
    if subresource == "proxy":
        tail = "".join(f"/{part}" for part in rest[3:]) + ("/" if path.endswith("/") else "")
    verb, name = _collective(verb, name, query)
    return RequestInfo(
        verb=verb,
        method=method,
        path=path,
        query=query,
        is_resource=True,
        group=group,
        version=version,
        resource=rest[0],
        subresource=subresource,
        namespace=name if rest[0] == "namespaces" and not namespace else namespace,
        name=name,
        tail=tail,
        lists=lists,
    )


def _split_namespace(rest: list[str]) -> tuple[str, list[str]]:
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in _OF_NAMESPACE:
        return rest[1], rest[2:]
    return "", rest


def _collective(verb: str, name: str, query: Query) -> tuple[str, str]:
    if name:
        return verb, name
    if verb == "get":
        verb = "watch" if query.get("watch", "").lower() in ("1", "true") else "list"
    elif verb == "delete":
        verb = "deletecollection"
    if verb in ("list", "watch", "deletecollection"):
        name = _selected_name(query.get("fieldSelector", ""))
    return verb, name


def _selected_name(selector: str) -> str:
    try:
        name = exact_field(selector, "metadata.name") or ""
    except BadRequest:  # who serves the request says so; until then it names nothing
        return ""
    return "" if name in (".", "..") or "/" in name or "%" in name else name


class WriteOptions(Struct, frozen=True):
    """Query parameters of a write.

    Args:
        field_manager: owner of the fields that the write sets.
        names_manager: whether the client gave it; else it comes from the user agent.
    """

    is_dry_run: bool = False
    field_manager: str = ""
    names_manager: bool = True
    field_validation: str = "Warn"
    force: bool = False


def write_options(info: RequestInfo, *, user_agent: str = "") -> WriteOptions:
    """Read the options of a create, update or patch.

    Raises:
        Invalid: an unsupported value.
    """
    kind = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}.get(
        info.verb, "CreateOptions"
    )
    dry_run = info.lists.get("dryRun", [])
    if dry_run and dry_run != ["All"]:
        raise invalid_options(
            kind, "dryRun", f'Unsupported value: "{dry_run[0]}": supported values: "All"', "FieldValueNotSupported"
        )
    validation = info.query.get("fieldValidation", "") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        raise invalid_options(
            kind,
            "fieldValidation",
            f'Unsupported value: "{validation}": supported values: "", "Ignore", "Warn", "Strict"',
            "FieldValueNotSupported",
        )
    manager = info.query.get("fieldManager", "")
    if len(manager.encode()) > 128:
        raise invalid_options(kind, "fieldManager", "Too long: may not be more than 128 bytes", "FieldValueTooLong")
    if not manager.isprintable():
        raise invalid_options(kind, "fieldManager", "Invalid value: should only contain printable characters")
    return WriteOptions(
        is_dry_run=bool(dry_run),
        field_manager=manager or user_agent.partition("/")[0] or "unknown",
        names_manager=bool(manager),
        field_validation=validation,
        force=info.flag("force"),
    )


def invalid_options(kind: str, field_name: str, text: str, reason: str = "FieldValueInvalid") -> Invalid:
    """422 for options in the query, as Kubernetes words it."""
    return Invalid(
        f'{kind}.meta.k8s.io "" is invalid: {field_name}: {text}',
        details={
            "group": "meta.k8s.io",
            "kind": kind,
            "causes": [{"reason": reason, "message": text, "field": field_name}],
        },
    )
