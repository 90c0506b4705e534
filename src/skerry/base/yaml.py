"""The only door to YAML: safe loading with bounds, and dumping.

PyYAML takes 3.4 MB of memory, so it is loaded at the first use: an agent whose files are JSON never pays for it.
"""

from __future__ import annotations

from typing import Any

MAX_ALIASES = 100
MAX_DEPTH = 100
MAX_BYTES = 3 * 1024 * 1024


class YamlError(ValueError):
    """The text is not acceptable YAML; the message names line and column where known."""


def load(text: bytes | str) -> Any:
    """Load one YAML document (JSON is YAML too).

    Raises:
        YamlError: malformed, several documents, duplicate keys, too many aliases, or over 3 MiB.
    """
    documents = load_all(text)
    if len(documents) > 1:
        raise YamlError("expected one YAML document, found several")
    return documents[0] if documents else None


def load_all(text: bytes | str) -> list[Any]:
    """Load every YAML document of a text; empty documents are left out.

    Raises:
        YamlError: as ``load``.
    """
    from skerry.base import yaml_engine

    if len(text) > MAX_BYTES:
        raise YamlError(f"YAML text of {len(text)} bytes is larger than {MAX_BYTES} bytes")
    return yaml_engine.load_all(text)


def dump(value: Any) -> str:
    """Block-style YAML text with keys in their given order."""
    from skerry.base import yaml_engine

    return yaml_engine.dump(value)
