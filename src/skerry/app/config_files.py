"""Reading configuration files: ours, and KubeEdge's of the same side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skerry.api.config import foreign
from skerry.base import conf, yaml
from skerry.base.errors import ConfigError
from skerry.base.obs.log import get_log

log = get_log(__name__)


def read_any(file: Path, *, kind: str, api_version: str, table: Any) -> dict[str, Any]:
    """Settings from a file of ours, or from KubeEdge's of the same side; what is lost of that is logged.

    Args:
        table: ``api.config.edgecore`` or ``cloudcore``.
    """
    if kind_of(file) != table.KIND:
        return conf.read_file(file, kind=kind, api_version=api_version)
    found = read_foreign(file, table)
    lost = [line.key for line in found.report if line.fate in (foreign.MISSING, foreign.UNKNOWN)]
    log.warning("config.converted", file=str(file), taken=sorted(found.settings), lost=lost,
                hint=f"see: skerry config convert {file}")  # fmt: skip
    return dict(found.settings)


def read_foreign(file: Path, table: Any) -> foreign.Converted:
    """KubeEdge's file, converted.

    Raises:
        ConfigError: of another kind, or with a value that cannot be taken.
    """
    document = _document(file)
    group = str(document.get("apiVersion", "")).partition("/")[0]
    if document.get("kind") != table.KIND or group != table.API_GROUP:
        raise ConfigError(
            f"{file} is {document.get('apiVersion')} {document.get('kind')}, expected {table.API_GROUP} {table.KIND}"
        )
    return foreign.convert(document, table.RULES, name=str(file))


def kind_of(file: Path) -> str:
    """The kind that a file says it is."""
    return str(_document(file).get("kind"))


def _document(file: Path) -> dict[str, Any]:
    try:
        document = conf.parse(file.read_bytes())
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {exc.strerror}", hint="check the path given with --config") from exc
    except yaml.YamlError as exc:
        raise ConfigError(f"{file} is not valid YAML: {exc}") from exc
    if not isinstance(document, dict):
        raise ConfigError(f"{file} holds no mapping", hint="it must begin with apiVersion and kind")
    return document
