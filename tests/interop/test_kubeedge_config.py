"""The default configuration files that KubeEdge's own programs print."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from skerry.api.config import cloudcore, edgecore, foreign
from skerry.base import yaml

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(("variable", "table"), [("SKERRY_EDGECORE", edgecore), ("SKERRY_CLOUDCORE", cloudcore)])
def test_every_key_of_the_defaults_is_known_and_none_is_missed(variable: str, table: object) -> None:
    program = os.environ.get(variable, "")
    if not program or not Path(program).exists():
        pytest.skip(f"name the program in {variable}")
    printed = subprocess.run([program, "--defaultconfig"], capture_output=True, check=True, timeout=30).stdout
    found = foreign.convert(yaml.load(printed), table.RULES, name=variable)  # type: ignore[attr-defined]
    wrong = [line for line in found.report if line.fate in (foreign.UNKNOWN, foreign.MISSING)]
    assert wrong == []
    assert len(found.report) > 20
