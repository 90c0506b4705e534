"""PyYAML behind ``base.yaml``, which imports this module at its first use; import nothing else from here.

YAML aliases are bounded, because a few nested aliases expand to gigabytes.
"""

from __future__ import annotations

from typing import Any

import yaml

from skerry.base.yaml import MAX_ALIASES, MAX_DEPTH, YamlError


class _Loader(yaml.SafeLoader):
    """SafeLoader that counts aliases, keeps timestamps as text and refuses duplicate keys."""

    aliases = 0
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise YamlError(f"YAML nested more than {MAX_DEPTH} levels deep")
        try:
            return self._compose(parent, index)
        finally:
            self.depth -= 1

    def _compose(self, parent: Any, index: Any) -> Any:
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


def load_all(text: bytes | str) -> list[Any]:
    """Every document of a text. Raises ``YamlError``."""
    try:
        return [doc for doc in yaml.load_all(text, Loader=_Loader) if doc is not None]
    except yaml.YAMLError as exc:
        raise YamlError(" ".join(str(exc).split())) from exc
    except RecursionError as exc:
        raise YamlError("YAML nested too deeply") from exc


def dump(value: Any) -> str:
    """Block style, keys in their given order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False)
