"""Volumes of pods: defaults and validation.

Source: defaults observed on a v1.36 server; kubernetes pkg/apis/core/validation/validation.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skerry.api.field import FieldError, duplicate, forbidden, invalid, not_supported, required
from skerry.api.kinds import downward
from skerry.api.kinds.filling import fill, fill_number, rows
from skerry.api.names import dns_label
from skerry.api.quantity import parse_quantity

MODE = 420

_MODED = ("configMap", "secret", "projected", "downwardAPI")
_MODE_TEXT = "must be a number between 0 and 0777 (octal), both inclusive"
_HOST_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
_LEAST_TOKEN_S, _MOST_TOKEN_S = 600, 1 << 32


def default_volume(volume: dict[str, Any]) -> None:
    """Fill what an omitted field of a volume becomes."""
    if not any(value is not None for name, value in volume.items() if name != "name"):
        volume["emptyDir"] = {}
    for name in _MODED:
        if isinstance(volume.get(name), dict):
            fill(volume[name], "defaultMode", MODE)
    if isinstance(volume.get("hostPath"), dict):
        volume["hostPath"].setdefault("type", "")
    for source in rows(volume.get("projected") or {}, "sources"):
        if isinstance(source.get("serviceAccountToken"), dict):
            fill_number(source["serviceAccountToken"], "expirationSeconds", 3600)
        _default_items(source.get("downwardAPI"))
    _default_items(volume.get("downwardAPI"))


def _default_items(source: dict[str, Any] | None) -> None:
    for item in rows(source or {}, "items"):
        downward.default_reference(item)


def volume_errors(spec: dict[str, Any], path: str) -> Iterator[FieldError]:
    """Everything wrong with the volumes of a pod spec."""
    seen: set[str] = set()
    for index, volume in enumerate(rows(spec, "volumes")):
        where, name = f"{path}[{index}]", volume.get("name") or ""
        if not name:
            yield required(f"{where}.name")
        else:
            yield from (invalid(f"{where}.name", name, text) for text in dns_label(name))
        if name in seen:
            yield duplicate(f"{where}.name", name)
        seen.add(name)
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        if not sources:
            yield required(where, "must specify a volume type")
        for extra in sources[1:]:
            yield forbidden(f"{where}.{extra}", "may not specify more than 1 volume type")
        yield from _source_errors(volume, where)


def _source_errors(volume: dict[str, Any], path: str) -> Iterator[FieldError]:
    for kind, name in (("configMap", "name"), ("secret", "secretName"), ("hostPath", "path")):
        source = volume.get(kind)
        if isinstance(source, dict) and not source.get(name):
            yield required(f"{path}.{kind}.{name}")
    claim = volume.get("persistentVolumeClaim")
    if isinstance(claim, dict) and not claim.get("claimName"):
        yield required(f"{path}.persistentVolumeClaim.claimName")
    for kind in _MODED:
        source = volume.get(kind)
        if isinstance(source, dict):
            yield from _mode_errors(source.get("defaultMode"), f"{path}.{kind}.defaultMode")
            yield from _item_errors(source, f"{path}.{kind}", is_downward=kind == "downwardAPI")
    if isinstance(volume.get("hostPath"), dict):
        yield from _host_errors(volume["hostPath"], f"{path}.hostPath")
    if isinstance(volume.get("emptyDir"), dict) and _is_negative(volume["emptyDir"].get("sizeLimit")):
        yield forbidden(f"{path}.emptyDir.sizeLimit", "SizeLimit field must be a valid resource quantity")
    for index, source in enumerate(rows(volume.get("projected") or {}, "sources")):
        yield from _projected_errors(source, f"{path}.projected.sources[{index}]")


def _projected_errors(source: dict[str, Any], path: str) -> Iterator[FieldError]:
    if sum(value is not None for value in source.values()) > 1:
        yield forbidden(path, "may not specify more than 1 volume type per source")
    for kind in ("configMap", "secret"):
        if isinstance(source.get(kind), dict):
            if not source[kind].get("name"):
                yield required(f"{path}.{kind}.name")
            yield from _item_errors(source[kind], f"{path}.{kind}", is_downward=False)
    if isinstance(source.get("downwardAPI"), dict):
        yield from _item_errors(source["downwardAPI"], f"{path}.downwardAPI", is_downward=True)
    token = source.get("serviceAccountToken")
    if isinstance(token, dict):
        where, seconds = f"{path}.serviceAccountToken", token.get("expirationSeconds")
        if isinstance(seconds, int) and seconds < _LEAST_TOKEN_S:
            yield invalid(f"{where}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
        if isinstance(seconds, int) and seconds > _MOST_TOKEN_S:
            yield invalid(f"{where}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
        yield from _path_errors(token.get("path"), f"{where}.path")


def _item_errors(source: dict[str, Any], path: str, *, is_downward: bool) -> Iterator[FieldError]:
    for index, item in enumerate(rows(source, "items")):
        where = f"{path}.items[{index}]"
        if is_downward:
            yield from _downward_errors(item, where)
        elif not item.get("key"):
            yield required(f"{where}.key")
        yield from _path_errors(item.get("path"), f"{where}.path")
        yield from _mode_errors(item.get("mode"), f"{where}.mode")


def _downward_errors(item: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None and resource is not None:
        yield invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    if field is not None:
        yield from downward.field_errors(field, f"{path}.fieldRef", downward.FILE_FIELDS)
    elif resource is not None:
        yield from downward.resource_errors(resource, f"{path}.resourceFieldRef", is_file=True)
    else:
        yield required(f"{path}.fieldRef", "one of fieldRef and resourceFieldRef is required")


def _host_errors(source: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    where = str(source.get("path") or "")
    if ".." in where.split("/"):
        yield invalid(f"{path}.path", where, "must not contain '..'")
    if (source.get("type") or "") not in _HOST_TYPES:
        yield not_supported(f"{path}.type", source["type"], _HOST_TYPES)


def _path_errors(given: Any, path: str) -> Iterator[FieldError]:
    """A file's place in its volume: it stays inside, and below no name that the volume uses itself."""
    text = str(given or "")
    if not text:
        yield required(path)
    elif text.startswith("/"):
        yield invalid(path, text, "must be a relative path")
    elif ".." in text.split("/"):
        yield invalid(path, text, "must not contain '..'")
    elif text.startswith(".."):
        yield invalid(path, text, "must not start with '..'")


def _mode_errors(mode: Any, path: str) -> Iterator[FieldError]:
    if isinstance(mode, int) and not 0 <= mode <= 0o777:
        yield invalid(path, mode, _MODE_TEXT)


def _is_negative(amount: Any) -> bool:
    try:
        return amount is not None and parse_quantity(amount).nano < 0
    except ValueError:
        return False
