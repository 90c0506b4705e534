"""``skerry config``: print every setting, check a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.api.config import cloud, edge
from skerry.app import output
from skerry.base import conf, yaml
from skerry.base.errors import ConfigError

_SIDES: dict[str, Any] = {"cloud": (cloud, cloud.CloudConfig), "edge": (edge, edge.EdgeConfig)}


def show(*, side: str, as_json: bool) -> int:
    """Print a complete file with defaults and meanings."""
    module, cls = _SIDES[side]
    values = cls()
    document = {"apiVersion": module.API_VERSION, "kind": module.KIND}
    lines = [f"apiVersion: {module.API_VERSION}", f"kind: {module.KIND}"]
    for field in dataclasses.fields(cls):
        value = _plain(getattr(values, field.name))
        document[conf.camel(field.name)] = value
        lines += [f"# {field.metadata['help']}", yaml.dump({conf.camel(field.name): value}).rstrip()]
    output.emit(document, as_json=as_json, text="\n".join(lines))
    return 0


def check(*, file: Path, environment: Mapping[str, str], as_json: bool) -> int:
    """Check a configuration file of either kind."""
    try:
        document = yaml.load(file.read_bytes())
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {exc.strerror}") from exc
    except yaml.YamlError as exc:
        raise ConfigError(f"{file} is not valid YAML: {exc}") from exc
    name = document.get("kind") if isinstance(document, dict) else None
    side = next((side for side, (module, _) in _SIDES.items() if name == module.KIND), None)
    if side is None:
        raise ConfigError(f"{file} is of kind {name}", hint="expected CloudConfig or EdgeConfig")
    module, cls = _SIDES[side]
    found = conf.read_file(file, kind=module.KIND, api_version=module.API_VERSION)
    conf.build(cls, file=found, file_name=str(file), environment=environment, prefix=module.ENVIRONMENT_PREFIX)
    output.emit({"ok": True, "kind": module.KIND, "file": str(file)}, as_json=as_json, text=f"{file}: a valid {name}")
    return 0


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
