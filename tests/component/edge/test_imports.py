"""What the agent loads: every import costs memory on every node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.base.aio.clock import SystemClock
from skerry.runtime.cgroups import Cgroups, group_name

LIST = Path(__file__).parents[3] / "tools" / "deps-edge.txt"
EVERY_DUTY = (
    "skerry.app.edge", "skerry.app.edge_devices", "skerry.app.edge_plugins", "skerry.app.edge_tunnel",
    "skerry.app.runtime_cri", "skerry.app.runtime_process", "skerry.edge.bus.external",
    "skerry.edge.pods.probe_grpc", "skerry.edge.node.logind",
)  # fmt: skip
_OF_THE_INTERPRETER = {"cython_runtime", "sitecustomize", "usercustomize"}
_HEAVY = ("email", "http.client", "importlib.metadata", "multiprocessing", "unittest", "urllib.request", "xml")
_OTHER_SIDES = ("skerry.apiserver", "skerry.cloud", "skerry.controllers", "skerry.console", "skerry.testing")


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return modules(f"import {', '.join(EVERY_DUTY)}")


def modules(code: str) -> set[str]:
    """What a fresh interpreter has loaded after ``code``."""
    code += "; import sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def opened(what: str, **settings: Any) -> set[str]:
    """What is loaded after the agent has opened a duty with these settings."""
    code = "import skerry.app.edge; from skerry.app import edge_duties, runtimes"
    return modules(
        f"{code}; from skerry.api.config.edge import EdgeConfig; config = EdgeConfig(**{settings!r}); {what}"
    )


def test_third_party_packages_are_those_of_the_list(loaded: set[str]) -> None:
    found = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names) - _OF_THE_INTERPRETER
    listed = {line for line in LIST.read_text().splitlines() if line and not line.startswith("#")}
    assert {name for name in found if not name.startswith("_")} - {"skerry"} == listed


def test_nothing_heavy_and_nothing_of_the_cloud_is_loaded(loaded: set[str]) -> None:
    assert [name for name in _HEAVY if name in loaded] == []
    assert [name for name in loaded if name.startswith(_OTHER_SIDES)] == []


def test_what_the_command_loads_leaves_out_compressors_and_what_finds_near_names() -> None:
    found = modules("from skerry.cli.main import parser; parser(); import skerry.app.edge, shutil")
    assert "shutil" in found and found.isdisjoint({"bz2", "lzma", "difflib", "tempfile", "calendar"})
    assert {"bz2", "lzma"} <= modules("import skerry.cli, bz2, lzma")


def test_a_configuration_that_the_join_wrote_needs_no_yaml_reader(tmp_path: Path) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text(
        '{\n  "apiVersion": "config.skerry.dev/v1alpha1",\n  "kind": "EdgeConfig",\n  "runtime": "process"\n}\n'
    )
    code = (
        "import sys; from pathlib import Path; from skerry.app.edge_settings import load_config;"
        f"print(load_config(Path({str(file)!r}), {{}}).runtime, 'yaml' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["process", "False"]


_DEVICES = (
    "from unittest.mock import sentinel as s; from pathlib import Path; from skerry.base.aio.clock import SystemClock;"
    "edge_duties.open_devices(config, node='n', sockets=Path(), database=s.d, objects=s.o, outbox=s.b, link=s.l,"
    " clock=SystemClock())"
)
_BUS = (
    "from skerry.base.aio.clock import SystemClock;"
    "edge_duties.open_bus(config, node='n', routes={}, clock=SystemClock())"
)
_TUNNEL = (
    "from pathlib import Path; from skerry.base.aio.clock import SystemClock;"
    "edge_duties.tunnel_job(config, node='n', address=str, places=None, files=None, kubelet_socket=Path(),"
    " clock=SystemClock())"
)
_PULLS = (
    "from skerry.base.aio.clock import SystemClock;"
    "edge_duties.open_pull_proxy(config, runtime='cri', clock=SystemClock())"
)


@pytest.mark.parametrize(
    ("what", "module", "on", "off"),
    [
        (_DEVICES, "skerry.edge.devices", {}, {"devices": False}),
        (_BUS, "skerry.edge.bus", {"mqtt": "localhost:1883"}, {"mqtt": "localhost:1883", "bus": False}),
        (_BUS, "skerry.edge.bus", {"mqtt": "localhost:1883"}, {"mqtt": ""}),
        (_TUNNEL, "skerry.edge.tunnel", {}, {"tunnel": False}),
        (_PULLS, "skerry.edge.images.pullproxy", {"image_pull_bytes_per_s": 1}, {}),
    ],
    ids=["devices", "bus", "broker", "tunnel", "pulls"],
)
def test_a_duty_that_is_off_is_not_loaded(what: str, module: str, on: dict[str, Any], off: dict[str, Any]) -> None:
    assert [name for name in opened(what, **off) if name.startswith(module)] == []
    assert [name for name in opened(what, **on) if name.startswith(module)] != []


def test_what_runs_pods_as_processes_is_not_loaded_on_an_engine() -> None:
    loaded = modules("import skerry.app.edge, skerry.app.runtime_cri")
    assert "skerry.runtime.cri.engine" in loaded
    assert [name for name in loaded if name.startswith("skerry.runtime.process")] == []


def test_grpc_is_loaded_only_for_what_speaks_it(tmp_path: Path) -> None:
    code = (
        "import asyncio; from dataclasses import replace; from pathlib import Path;"
        f"config = replace(config, data=Path({str(tmp_path)!r}));"
        "edge_duties.open_plugins(config, runtime='process', database=None, objects=None, clock=None);"
        "asyncio.run(runtimes.open_runtime(config, {'runtime': 'process', 'node': 'n'}))"
    )
    loaded = opened(code, devices=False)
    Cgroups(group_name("n"), clock=SystemClock()).remove_empty()
    assert "skerry.runtime.process.engine" in loaded
    assert [
        name for name in loaded if name.startswith(("grpclib", "jeepney", "skerry.edge.plugins", "skerry.runtime.cri"))
    ] == []


def test_the_agent_is_there_where_msgspec_is_not() -> None:
    code = f"import sys; sys.modules['msgspec'] = None; import {', '.join(EVERY_DUTY)}; from skerry.base import json"
    code += "; assert json.loads(json.dumps({'a': [1]})) == {'a': [1]}"
    assert "skerry.app.edge" in modules(code)
