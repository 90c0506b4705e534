"""Write ``src/skerry/api/schema_table.py`` from the definitions in the development dependency ``kubernetes-validate``.

Run it after changing the version below; a test fails when the committed table differs.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import sys
import textwrap
import zlib
from pathlib import Path
from typing import Any

RELEASE = "v1.36.0"
TARGET = Path(__file__).parent.parent / "src/skerry/api/schema_table.py"

_REF = "#/$defs/"
_HEAD = '''"""Definitions of Kubernetes {release}: facts only, no descriptions. Written by ``tools/gen_schema.py``.

The text is JSON ``{{definition name: schema}}``, deflated, base64. A ``$ref`` is the bare definition name.
"""

RELEASE = "{release}"

DEFINITIONS = """\\
{blob}
"""
'''


def source() -> Path:
    """The definitions file inside the installed package."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        sys.exit("kubernetes-validate is not installed; run `pip install -e .[dev]`")
    return Path(spec.origin).parent / f"kubernetes-json-schema/{RELEASE}-local/_definitions.json"


def facts(schema: Any) -> Any:
    """A schema without descriptions and without the ``null`` that the source adds to every optional field."""
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in sorted(schema.items()):
        if key == "properties":
            kept[key] = {name: facts(child) for name, child in value.items()}
        elif key == "$ref":
            kept[key] = value.removeprefix(_REF)
        elif key == "type":
            kept[key] = value if isinstance(value, str) else next(word for word in value if word != "null")
        elif key in ("items", "additionalProperties"):
            kept[key] = facts(value)
        elif key == "oneOf":
            kept[key] = [facts(child) for child in value]
        elif key not in ("description", "enum"):
            kept[key] = value
    return kept


def definitions() -> dict[str, Any]:
    """All definitions in the committed form."""
    found = json.loads(source().read_text())["$defs"]
    return {name: facts(schema) for name, schema in sorted(found.items())}


def render(table: dict[str, Any]) -> str:
    """The module's text."""
    packed = zlib.compress(json.dumps(table, separators=(",", ":")).encode(), 9)
    blob = "\n".join(textwrap.wrap(base64.b64encode(packed).decode(), 118))
    return _HEAD.format(release=RELEASE, blob=blob)


if __name__ == "__main__":
    TARGET.write_text(render(definitions()))
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")
