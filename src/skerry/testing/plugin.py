"""pytest plugin of the repository: counts per level, and no silent skips in CI.

With ``CI=true`` a skipped or xfailed test outside ``tests/interop`` fails the run: a check that did not run is not a
check that passed.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

_LEVELS = ("unit", "contract", "component", "interop", "e2e")


def _level(nodeid: str) -> str:
    parts = nodeid.split("/")
    return parts[1] if len(parts) > 1 and parts[1] in _LEVELS else "other"


class _Levels:
    """Counts outcomes per level and remembers skips."""

    def __init__(self, *, skips_fail: bool) -> None:
        self._skips_fail = skips_fail
        self.counts: Counter[tuple[str, str]] = Counter()
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.skipped or (report.when == "setup" and report.failed):
            level = _level(report.nodeid)
            self.counts[level, report.outcome] += 1
            if report.skipped and level != "interop":
                self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._skips_fail and self.skipped and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for level in (*_LEVELS, "other"):
            outcomes = {outcome: n for (at, outcome), n in self.counts.items() if at == level}
            if outcomes:
                text = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
                terminalreporter.write_line(f"level {level:<10} {text}")
        if self._skips_fail and self.skipped:
            terminalreporter.write_line("FAILED: skipped outside interop, and CI=true:", red=True)
            for nodeid in self.skipped:
                terminalreporter.write_line(f"  {nodeid}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Register the counter; workers of xdist report to the main process."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Levels(skips_fail=os.environ.get("CI") == "true"), "skerry-levels")
