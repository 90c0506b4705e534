"""Manifest files: what is no object is refused before a server is asked."""

from pathlib import Path

import pytest

from skerry.app.objects import apply
from skerry.base.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no object"),
        ("kind: List", "holds no object"),
        ("{kind: List, items: [3]}", "no apiVersion and kind"),
        ("{}", "no apiVersion and kind"),
        ("{apiVersion: v1, kind: ConfigMap}", "a ConfigMap has no metadata.name"),
        ("{apiVersion: v1, kind: ConfigMap, metadata: 5}", "a ConfigMap has no metadata.name"),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: 5}}", "a ConfigMap has no metadata.name"),
        ("just words", "which is no object"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_broken_manifest_names_file_and_fault(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="web.yaml") as refused:
        apply(files=[file], validation="Strict", kubeconfig=None, data=None, namespace=None, as_json=False)
    assert words in str(refused.value)
