"""The committed tables are what the generator makes of the facts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[4]


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_pb", ROOT / "tools" / "gen_pb.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["kubernetes_table.py", "cri_table.py", "dmi_table.py", "deviceplugin_table.py"])
def test_table_is_current(name: str) -> None:
    generated = load_generator().tables()[name]
    assert (ROOT / "src/skerry/wire/pb" / name).read_text() == generated
