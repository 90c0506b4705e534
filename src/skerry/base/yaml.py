"""The only door to PyYAML: safe loading with bounds, and dumping.

YAML aliases are bounded, because a few nested aliases expand to gigabytes.
"""

from __future__ import annotations

from typing import Any

import yaml

MAX_ALIASES = 100
MAX_BYTES = 3 * 1024 * 1024


class YamlError(ValueError):
    """The text is not acceptable YAML; the message names line and column where known."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that counts aliases, keeps timestamps as text and refuses duplicate keys."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            self.aliases += 1
            if self.aliases > MAX_ALIASES:
                raise YamlError(f"more than {MAX_ALIASES} YAML aliases in one document")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = key_node.value if isinstance(key_node.value, str) else repr(key_node.value)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise YamlError(f'line {line}: key "{key}" already set in map')
            seen.add(key)
        return super().construct_mapping(node, deep)


# Kubernetes reads dates as text: `creationTimestamp: 2026-01-01T00:00:00Z` is a string there.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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
    if len(text) > MAX_BYTES:
        raise YamlError(f"YAML text of {len(text)} bytes is larger than {MAX_BYTES} bytes")
    try:
        return [doc for doc in yaml.load_all(text, Loader=_Loader) if doc is not None]
    except yaml.YAMLError as exc:
        raise YamlError(" ".join(str(exc).split())) from exc
    except RecursionError as exc:
        raise YamlError("YAML nested too deeply") from exc


def dump(value: Any) -> str:
    """Block-style YAML text with keys in their given order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False)
