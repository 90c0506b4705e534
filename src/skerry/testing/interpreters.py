"""Interpreters that measurements of memory compare: this one, and the system's."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import skerry
from skerry.app.children import process_environment
from skerry.app.edge_unit import AGENT_ENVIRONMENT

_SYSTEM_PYTHON = Path("/usr/bin/python3")


def system_python(directory: Path) -> dict[str, str]:
    """A virtual environment of the system's interpreter with our packages, made in ``directory``.

    Returns:
        ``{"system": program}``; empty where the system has none, another version, or the one that runs this.
    """
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    ask = [str(_SYSTEM_PYTHON), "-c", "import sys; print('%d.%d %s' % (*sys.version_info[:2], sys.base_prefix))"]
    if not _SYSTEM_PYTHON.exists():
        return {}
    version, prefix = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()
    if version != wanted or prefix == sys.base_prefix:
        return {}
    subprocess.run([str(_SYSTEM_PYTHON), "-m", "venv", "--without-pip", str(directory)], check=True)
    [packages] = directory.glob("lib/python*/site-packages")
    sources = Path(skerry.__file__).parents[1]
    (packages / "ours.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{sources}\n")
    return {"system": str(directory / "bin/python")}


def told(python: str) -> str:
    """Version and origin of an interpreter, in words."""
    ask = "import sys; print(sys.base_prefix, sys.version.split()[0])"
    prefix, version = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    return f"python {version} of {'the system' if prefix == '/usr' else 'its own prefix'}"


def as_installed(python: str, compiled: Path) -> dict[str, str]:
    """Environment of an agent as the installed unit gives it, with every module compiled below ``compiled``.

    All of them, because some are loaded late, and an installation has compiled them too.
    """
    environment = AGENT_ENVIRONMENT | {"PYTHONPYCACHEPREFIX": str(compiled), "PYTHONDONTWRITEBYTECODE": ""}
    whole = process_environment() | environment
    for work in (
        ["-m", "compileall", "-q", str(Path(skerry.__file__).parent)],
        ["-c", "import skerry.app.edge, skerry.cli.main"],
    ):
        subprocess.run([python, *work], env=whole, check=True)
    return environment
