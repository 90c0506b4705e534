"""Every test that the table of regressions names exists, and no shell reads what others have written."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/reference/regressions.md").read_text()
NAMED = sorted(set(re.findall(r"`([a-z_/0-9]+\.py)::(test_\w+)`", TEXT)))
SHELLS = {
    "os.system",
    "os.popen",
    "asyncio.create_subprocess_shell",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
}
POD_OF_THE_TOUR = "samples.py"
"""A manifest whose container runs a script of ours."""
SUSPECT = re.compile(r"system\(|popen|subprocess_shell|getoutput|getstatusoutput|shell=|[\"']-c[\"']")


def test_every_named_test_exists() -> None:
    assert len(NAMED) > 100
    missing = [f"{file}::{name}" for file, name in NAMED if name not in names_in(ROOT / "tests" / file)]
    assert missing == []


def test_every_row_names_a_test() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "|---" not in line]
    heads = ("| What happened", "| From where", "| What |")
    assert [row for row in rows if "::test_" not in row and not row.startswith(heads)] == []


def test_no_shell_is_asked_to_run_anything() -> None:
    files = [file for file in sorted((ROOT / "src/skerry").rglob("*.py")) if "testing" not in file.parts]
    calls = [found for file in files if file.name != POD_OF_THE_TOUR for found in shells_in(file)]
    assert SUSPECT.search('run(["sh", "-c", text])') and SUSPECT.search("run(text, shell=True)")
    assert calls == []


def names_in(file: Path) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text() if file.exists() else "", re.MULTILINE))


def shells_in(file: Path) -> Iterator[str]:
    """Calls that a shell would read: by their name, by ``shell=``, or by ``sh -c`` and a text that is put together."""
    text = file.read_text()
    for node in ast.walk(ast.parse(text)) if SUSPECT.search(text) else ():
        if isinstance(node, ast.Call):
            has_shell = any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in node.keywords)
            if ast.unparse(node.func) in SHELLS or has_shell:
                yield f"{file.relative_to(ROOT)}:{node.lineno}"
        if isinstance(node, ast.List | ast.Tuple) and len(node.elts) >= 3:
            words = [ast.unparse(each).strip("'\"") for each in node.elts]
            for shell, option, script in zip(node.elts, words[1:], node.elts[2:], strict=False):
                is_shell = ast.unparse(shell).strip("'\"").rpartition("/")[2] in ("sh", "bash")
                if is_shell and option == "-c" and not isinstance(script, ast.Constant):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}"
