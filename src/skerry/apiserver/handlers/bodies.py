"""Bodies of requests: JSON, YAML and protobuf to decoded objects, with the texts of Kubernetes for what is wrong."""

from __future__ import annotations

import asyncio
import json as stdlib_json
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import BadRequest, UnsupportedMediaType
from skerry.base import json, yaml
from skerry.base.values import Struct, field
from skerry.wire.errors import ProtocolError
from skerry.wire.pb.kubernetes import decode_object

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"

_PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_YAMLS = (YAML, "text/yaml", "application/x-yaml")
LARGE_YAML_BYTES = 32 * 1024
MAX_JSON_PATCH_OPERATIONS = 10_000


class Body(Struct, frozen=True):
    """A decoded object, and the paths of members that stood twice."""

    content: Object
    duplicates: list[str] = field(default_factory=list)


def media_type(header: str) -> str:
    """The type without its parameters, lower case; a missing header means JSON."""
    return header.partition(";")[0].strip().lower() or JSON


def decode(data: bytes, content_type: str, *, expects: str = "", has_protobuf: bool = True) -> Body:
    """Decode the object of a create, update or delete.

    Args:
        content_type: the header.
        expects: kind for messages.
        has_protobuf: whether the kind has a protobuf form.

    Raises:
        UnsupportedMediaType: another type.
        BadRequest: malformed, or no object.
    """
    kind = media_type(content_type)
    if kind == JSON:
        return _from_json(data, expects)
    if kind in _YAMLS:
        return _from_yaml(data, expects)
    if kind == PROTOBUF and has_protobuf:
        return Body(_from_protobuf(data))
    accepted = [JSON, YAML, *([PROTOBUF] if has_protobuf else [])]
    raise UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    )


async def decode_fairly(data: bytes, content_type: str, *, expects: str, has_protobuf: bool = True) -> Body:
    """As ``decode``; a large YAML text is read in a thread, so that the loop goes on: it takes seconds."""
    if len(data) > LARGE_YAML_BYTES and media_type(content_type) in _YAMLS:
        return await asyncio.to_thread(decode, data, content_type, expects=expects, has_protobuf=has_protobuf)
    return decode(data, content_type, expects=expects, has_protobuf=has_protobuf)


class PatchBody(Struct, frozen=True):
    """A decoded patch: its type (``json``, ``merge``, ``strategic``, ``apply``), document, and double members."""

    type: str
    document: Any
    duplicates: list[str] = field(default_factory=list)


async def decode_patch_fairly(data: bytes, content_type: str, *, is_custom: bool) -> PatchBody:
    """As ``decode_patch``; a large YAML text is read in a thread."""
    if len(data) > LARGE_YAML_BYTES and _PATCHES.get(media_type(content_type)) == "apply" and data[:1] != b"{":
        return await asyncio.to_thread(decode_patch, data, content_type, is_custom=is_custom)
    return decode_patch(data, content_type, is_custom=is_custom)


def decode_patch(data: bytes, content_type: str, *, is_custom: bool) -> PatchBody:
    """Decode the body of a PATCH.

    Raises:
        UnsupportedMediaType: not a patch type that the kind has.
        BadRequest: malformed.
    """
    patch_type = _PATCHES.get(media_type(content_type))
    if patch_type is None or (is_custom and patch_type == "strategic"):
        accepted = [name for name, short in _PATCHES.items() if not (is_custom and short == "strategic")]
        if is_custom:
            raise UnsupportedMediaType(
                "the body of the request was in an unknown format - accepted media types include: "
                + ", ".join(accepted)
            )
        raise UnsupportedMediaType("415: Unsupported Media Type", details={})
    if patch_type == "apply":
        body = _from_json(data, "apply patch") if data.lstrip()[:1] == b"{" else _from_yaml(data, "apply patch")
        return PatchBody(patch_type, body.content, body.duplicates)
    patch = _parse_json(data, "patch")
    if patch_type == "json" and (not isinstance(patch, list) or len(patch) > MAX_JSON_PATCH_OPERATIONS):
        raise BadRequest(f"a JSON patch must be a list of at most {MAX_JSON_PATCH_OPERATIONS} operations")
    if patch_type != "json" and not isinstance(patch, dict):
        raise BadRequest("the patch must be an object")
    return PatchBody(patch_type, patch)


def _from_json(data: bytes, expects: str) -> Body:
    content = _parse_json(data, expects)
    if not isinstance(content, dict):
        raise BadRequest(f"the object provided is unrecognized (must be of type {expects}): not a JSON object")
    return Body(content, duplicate_members(data))


def _parse_json(data: bytes, expects: str) -> Any:
    try:
        return json.loads(data)
    except json.JsonError as exc:
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {expects}): "
            f"couldn't get version/kind; json parse error: {exc}"
        ) from exc


def duplicate_members(data: bytes) -> list[str]:
    """Paths of members that stand more than once in one object of a JSON text, in the order of the text."""
    found: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> Any:
        if len({name for name, _ in items}) == len(items):
            return dict(items)
        seen: set[str] = set()
        twice = [name for name, _ in items if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        return _Twice(dict(items), twice)

    if data.count(b'"') < 4:
        return found
    tree = stdlib_json.loads(data, object_pairs_hook=pairs)
    _collect(tree, "", found)
    return found


class _Twice(dict[str, Any]):
    def __init__(self, items: dict[str, Any], twice: list[str]) -> None:
        super().__init__(items)
        self.twice = twice


def _collect(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Twice):
        found += [f"{path}.{name}" if path else name for name in dict.fromkeys(value.twice)]
    if isinstance(value, dict):
        for name, member in value.items():
            if isinstance(member, dict | list):
                _collect(member, f"{path}.{name}" if path else name, found)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            if isinstance(member, dict | list):
                _collect(member, f"{path}[{index}]", found)


def _from_yaml(data: bytes, expects: str) -> Body:
    try:
        content = yaml.load(data)
    except yaml.YamlError as exc:
        raise BadRequest(f"the object provided is unrecognized (must be of type {expects}): {exc}") from exc
    if not isinstance(content, dict):
        raise BadRequest(f"the object provided is unrecognized (must be of type {expects}): not a YAML mapping")
    return Body(content)


def _from_protobuf(data: bytes) -> Object:
    try:
        return decode_object(data)
    except ProtocolError as exc:
        raise BadRequest(f"the protobuf body cannot be decoded: {exc}") from exc


class DeleteOptions(Struct, frozen=True):
    """What a DELETE may say, in its body or its query."""

    grace_period_s: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    propagation: str | None = None
    is_dry_run: bool = False


def delete_options(body: Object | None, query: dict[str, list[str]]) -> DeleteOptions:
    """Read DeleteOptions of any group from a decoded body (it wins), else from query parameters.

    Raises:
        BadRequest: not DeleteOptions, or a bad number.
    """
    if body is not None and body.get("kind", "DeleteOptions") != "DeleteOptions":
        raise BadRequest(f"the body of a DELETE must be DeleteOptions, not {body.get('kind')}")
    source: dict[str, Any] = dict(body or {})
    if body is None or len(body) <= 2:
        source |= {name: values[0] for name, values in query.items() if name in _DELETE_NAMES}
        source["dryRun"] = query.get("dryRun") or source.get("dryRun")
    dry_run = source.get("dryRun") or []
    if dry_run and dry_run != ["All"]:
        raise BadRequest(f'dryRun: Unsupported value: "{dry_run[0]}": supported values: "All"')
    preconditions = source.get("preconditions") or {}
    return DeleteOptions(
        grace_period_s=_integer(source.get("gracePeriodSeconds")),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        propagation=_propagation(source),
        is_dry_run=bool(dry_run),
    )


_DELETE_NAMES = ("gracePeriodSeconds", "propagationPolicy", "orphanDependents")


def _integer(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError) as exc:
        raise BadRequest(f"gracePeriodSeconds: {value!r} is not a number") from exc


def _propagation(source: dict[str, Any]) -> str | None:
    policy = source.get("propagationPolicy")
    if policy:
        if policy not in ("Orphan", "Background", "Foreground"):
            raise BadRequest(f'propagationPolicy: "{policy}" is none of Foreground, Background, Orphan')
        return str(policy)
    orphan = source.get("orphanDependents")
    if orphan is None:
        return None
    return "Orphan" if orphan in (True, "true", "1") else "Background"
