"""``python -m tests.fuzz NAME|all [--seconds 120]``: search for inputs that a decoder does not bear.

Uses atheris (``pip install atheris``), which follows coverage. Inputs that reach new code are kept in
``tests/vectors/fuzz/NAME`` when they are small; a failing one is printed and kept there too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).resolve().parent.parent / "vectors/fuzz"
KEPT_BYTES, KEPT_COUNT = 256, 24


def main() -> int:
    if "--inside" in sys.argv:  # before anything of ours is imported: imports are what is instrumented
        return _inside(sys.argv[1], sys.argv[3:])
    from tests.fuzz.targets import TARGETS

    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    arguments.add_argument("name", choices=("all", *TARGETS))
    arguments.add_argument("--seconds", type=int, default=120)
    given = arguments.parse_args()
    failed = [name for name in (TARGETS if given.name == "all" else [given.name]) if _fuzz(name, given.seconds)]
    print(f"{len(failed)} targets failed: {', '.join(failed)}" if failed else "no target failed")
    return 1 if failed else 0


def _fuzz(name: str, seconds: int) -> bool:
    """Run one target in a process of its own; whether it failed."""
    from tests.fuzz.targets import LIMIT_BYTES, TARGETS

    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch) / "found"
        found.mkdir()
        for number, seed in enumerate(TARGETS[name].seeds):
            (found / f"seed-{number}").write_bytes(seed)
        kept = CORPUS / name
        command = [
            sys.executable, "-m", "tests.fuzz", name, "--inside", str(found), *([str(kept)] if kept.exists() else []),
            f"-max_total_time={seconds}", f"-max_len={LIMIT_BYTES}", "-timeout=5", "-rss_limit_mb=1024",
            f"-artifact_prefix={scratch}/bad-", "-print_final_stats=1", "-close_fd_mask=1",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        bad = [path for path in Path(scratch).glob("bad-*") if path.is_file()]
        runs = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line), "?")
        print(f"{name}: {runs} runs, exit code {done.returncode}", flush=True)
        _keep(kept, [*bad, *_new(found, kept)])
        if done.returncode:
            print(done.stderr[-3000:])
        return done.returncode != 0


def _new(found: Path, kept: Path) -> list[Path]:
    """Small inputs, the smallest first, as many as the corpus may still take."""
    room = KEPT_COUNT - (len(list(kept.iterdir())) if kept.exists() else 0)
    small = sorted((p for p in found.iterdir() if p.stat().st_size <= KEPT_BYTES), key=lambda p: p.stat().st_size)
    step = max(1, len(small) // max(1, room))
    return [path for path in small[::step] if not path.name.startswith("seed-")][: max(0, room)]


def _keep(directory: Path, files: list[Path]) -> None:
    if files:
        directory.mkdir(parents=True, exist_ok=True)
    for path in files:
        (directory / path.name.removeprefix("bad-")).write_bytes(path.read_bytes())


def _inside(name: str, words: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["skerry", "tests.fuzz.targets"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *words], TARGETS[name].run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
