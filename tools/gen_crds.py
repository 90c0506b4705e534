"""Write ``deploy/crds/*.yaml`` from ``skerry.api.crds``. A test fails when the committed files differ."""

from __future__ import annotations

from pathlib import Path

import yaml

from skerry.api.crds import crd_manifests

TARGET = Path(__file__).parent.parent / "deploy/crds"


def documents() -> dict[str, str]:
    """File name to text."""
    return {f"{crd['metadata']['name']}.yaml": yaml.safe_dump(crd, sort_keys=True) for crd in crd_manifests()}


if __name__ == "__main__":
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.glob("*.yaml"):
        old.unlink()
    for name, text in documents().items():
        (TARGET / name).write_text(text)
    print(f"{len(documents())} files in {TARGET.name}")
