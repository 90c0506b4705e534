"""Configuration: YAML file, environment and flags into a frozen dataclass. An unknown key is an error.

A setting is a field of a flat dataclass; ``setting(default, help_text)`` declares it. Names in the file are
camelCase (``dataDir``), in the environment ``SKERRY_<SIDE>_DATA_DIR``, as a flag ``--data-dir``. Later sources win:
defaults, file, environment, flags.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from skerry.base import json, yaml
from skerry.base.errors import ConfigError

T = TypeVar("T")


def setting(
    default: Any, help_text: str, *, among: Sequence[str] = (), at_least: float = -math.inf, at_most: float = math.inf
) -> Any:
    """Declare a setting: its default and what it does, in one sentence.

    Args:
        among: the words that it may be; empty for any.
        at_least, at_most: bounds of a number.
    """
    facts = {"help": help_text, "among": tuple(among), "bounds": (at_least, at_most)}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=facts)
    return dataclasses.field(default=default, metadata=facts)


def camel(name: str) -> str:
    """``data_dir`` → ``dataDir``."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def read_file(path: Path, *, kind: str, api_version: str) -> dict[str, Any]:
    """Read a configuration file and check its kind.

    Returns:
        Its keys without ``apiVersion`` and ``kind``.

    Raises:
        ConfigError: missing, unreadable, not YAML, or of another kind.
    """
    try:
        document = parse(path.read_bytes())
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}", hint="check the path given with --config") from exc
    except yaml.YamlError as exc:
        raise ConfigError(f"{path} is not valid YAML: {exc}") from exc
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no mapping", hint=f"it must begin with 'kind: {kind}'")
    if document.get("kind") != kind or document.get("apiVersion") != api_version:
        found = f"{document.get('apiVersion')}/{document.get('kind')}"
        raise ConfigError(
            f"{path} is {found}, expected {api_version}/{kind}",
            hint=f"begin the file with 'apiVersion: {api_version}' and 'kind: {kind}'",
        )
    return {key: value for key, value in document.items() if key not in ("apiVersion", "kind")}


def parse(text: bytes) -> Any:
    """The document of a configuration file: read as JSON where it is JSON, which spares the memory of a YAML reader.

    Raises:
        YamlError: it is neither.
    """
    if text.lstrip().startswith(b"{"):
        with contextlib.suppress(json.JsonError):
            return json.loads(text)
    return yaml.load(text)


def build(
    cls: type[T],
    *,
    file: Mapping[str, Any] | None = None,
    file_name: str = "",
    environment: Mapping[str, str] | None = None,
    prefix: str = "",
    flags: Mapping[str, Any] | None = None,
) -> T:
    """Make a ``cls`` from all sources.

    Args:
        cls: a dataclass whose fields are settings.
        file: keys in camelCase, as ``read_file`` gives.
        file_name: for messages.
        environment: usually ``os.environ``.
        prefix: of environment names, such as ``SKERRY_EDGE_``.
        flags: by field name; None means not given.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)

    def taken(name: str, value: Any, where: str) -> Any:
        found = _convert(value, hints[name], where)
        _check_bounds(found, fields[name].metadata, where)
        return found

    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    by_key = {camel(name): name for name in fields}
    values: dict[str, Any] = {}
    for key, value in (file or {}).items():
        if key not in by_key:
            import difflib  # here: it is only wanted for a file that is refused

            near = difflib.get_close_matches(key, by_key, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(sorted(by_key))}"
            raise ConfigError(f'{file_name or "configuration"}: unknown key "{key}"', hint=hint)
        values[by_key[key]] = taken(by_key[key], value, f"{file_name}: {key}")
    for name in fields:
        text = (environment or {}).get(prefix + name.upper()) if prefix else None
        if text is not None:
            values[name] = taken(name, text, f"environment {prefix}{name.upper()}")
    for name, value in (flags or {}).items():
        if value is not None and name in fields:
            values[name] = taken(name, value, f"--{name.replace('_', '-')}")
    return cls(**values)


def _check_bounds(value: Any, facts: Mapping[str, Any], where: str) -> None:
    among = facts.get("among") or ()
    if among and value not in among:
        raise ConfigError(f"{where}: {str(value)[:80]!r} is not known", hint=f"one of {', '.join(among)}")
    lowest, highest = facts.get("bounds") or (-math.inf, math.inf)
    if isinstance(value, int | float) and not lowest <= value <= highest:
        bounds = f"{lowest:g} or more" if highest == math.inf else f"{lowest:g} to {highest:g}"
        raise ConfigError(f"{where}: {value} is out of range", hint=f"it may be {bounds}")


def _convert(value: Any, wanted: Any, where: str) -> Any:
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        if value is None or value == "":
            return None
        wanted = next(arg for arg in args if arg is not type(None))
        return _convert(value, wanted, where)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return tuple(_convert(item.strip() if isinstance(item, str) else item, args[0], where) for item in items)
    if origin is dict:
        return _mapping(value, where)
    return _scalar(value, wanted, where)


def _mapping(value: Any, where: str) -> dict[str, str]:
    if isinstance(value, str):
        value = dict(pair.partition("=")[::2] for pair in value.split(",") if pair)
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected key=value pairs, got {value!r}")
    return {str(key): str(item) for key, item in value.items()}


def _scalar(value: Any, wanted: Any, where: str) -> Any:
    if wanted is bool:
        text = str(value).lower()
        if text not in ("true", "false", "1", "0", "yes", "no"):
            raise ConfigError(f"{where}: expected true or false, got {value!r}")
        return text in ("true", "1", "yes")
    if wanted is Path:
        return Path(str(value)).expanduser()
    try:
        return wanted(value)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"{where}: expected {wanted.__name__}, got {value!r}") from exc
