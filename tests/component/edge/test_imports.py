"""What the agent loads: every import costs memory on every node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIST = Path(__file__).parents[3] / "tools" / "deps-edge.txt"
_OF_THE_INTERPRETER = {"cython_runtime", "sitecustomize", "usercustomize"}
_HEAVY = ("email", "http.client", "importlib.metadata", "multiprocessing", "unittest", "urllib.request", "xml")
_OTHER_SIDES = ("skerry.apiserver", "skerry.cloud", "skerry.controllers", "skerry.console", "skerry.testing")


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    code = "import sys, skerry.app.edge; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_third_party_packages_are_those_of_the_list(loaded: set[str]) -> None:
    found = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - _OF_THE_INTERPRETER
    listed = {line for line in LIST.read_text().splitlines() if line and not line.startswith("#")}
    assert {name for name in found if not name.startswith("_")} - {"skerry"} == listed


def test_nothing_heavy_and_nothing_of_the_cloud_is_loaded(loaded: set[str]) -> None:
    assert [name for name in _HEAVY if name in loaded] == []
    assert [name for name in loaded if name.startswith(_OTHER_SIDES)] == []


def test_a_configuration_that_the_join_wrote_needs_no_yaml_reader(tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(
        '{\n  "apiVersion": "config.skerry.dev/v1alpha1",\n  "kind": "EdgeConfig",\n  "runtime": "process"\n}\n'
    )
    code = (
        "import sys; from pathlib import Path; from skerry.app.edge import load_config;"
        f"print(load_config(Path({str(file)!r}), {{}}).runtime, 'yaml' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["process", "False"]
