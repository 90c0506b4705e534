"""``skerry config``: print every setting, check a file, convert one of KubeEdge."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.api.config import cloud, cloudcore, edge, edgecore, foreign
from skerry.app import output
from skerry.app.config_files import kind_of, read_foreign
from skerry.app.edge_settings import contradictions
from skerry.base import conf, yaml
from skerry.base.errors import ConfigError

_SIDES: dict[str, Any] = {"cloud": (cloud, cloud.CloudConfig), "edge": (edge, edge.EdgeConfig)}
_FOREIGN: dict[str, tuple[Any, str]] = {cloudcore.KIND: (cloudcore, "cloud"), edgecore.KIND: (edgecore, "edge")}


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
    """Check a configuration file of ours, or tell what would become of one of KubeEdge."""
    name = kind_of(file)
    if name in _FOREIGN:
        return convert(file=file, as_json=as_json)
    side = next((side for side, (module, _) in _SIDES.items() if name == module.KIND), None)
    if side is None:
        raise ConfigError(f"{file} is of kind {name}", hint="expected CloudConfig, EdgeConfig, CloudCore or EdgeCore")
    module, cls = _SIDES[side]
    found = conf.read_file(file, kind=module.KIND, api_version=module.API_VERSION)
    built = conf.build(cls, file=found, file_name=str(file), environment=environment, prefix=module.ENVIRONMENT_PREFIX)
    if side == "edge" and (wrong := contradictions(built)):
        raise ConfigError(f"{file}: {'; '.join(wrong)}")
    output.emit({"ok": True, "kind": module.KIND, "file": str(file)}, as_json=as_json, text=f"{file}: a valid {name}")
    return 0


def convert(*, file: Path, as_json: bool) -> int:
    """Write our configuration for one of KubeEdge, with what becomes of each key."""
    name = kind_of(file)
    if name not in _FOREIGN:
        raise ConfigError(f"{file} is of kind {name}", hint="expected KubeEdge's CloudCore or EdgeCore")
    table, side = _FOREIGN[name]
    module, cls = _SIDES[side]
    found = read_foreign(file, table)
    conf.build(cls, file=found.settings, file_name=str(file))
    document = {"apiVersion": module.API_VERSION, "kind": module.KIND, **found.settings}
    facts = {
        "config": document,
        "join": {key: value for key, value in found.facts.items() if key != "token"},
        "report": [line.to_json() for line in found.report],
    }
    output.emit(facts, as_json=as_json, text=_report(found) + yaml.dump(document).rstrip())
    return 0


def _report(found: foreign.Converted) -> str:
    """The report as comments; what is needless is only counted."""
    told = [line for line in found.report if line.fate != foreign.NEEDLESS]
    width = max((len(line.key) for line in told), default=0)
    lines = [f"# {line.fate:<13} {line.key:<{width}}  {line.value}  ({line.why})" for line in told]
    needless = len(found.report) - len(told)
    lines.append(f"# {needless} further keys are not needed; -o json tells why, one by one")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
