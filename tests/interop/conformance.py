"""Upstream's own conformance tests against the embedded API server with our control loops, recorded by exact name.

    SKERRY_E2E_TEST=/path/e2e.test python -m tests.interop.conformance --group A --group B \\
        --record docs/reference/conformance.md

Everything runs in a network namespace of its own (``unshare -n``, so as root), where every address of 10.64.0.0/10 is
local: hollow nodes give their pods addresses from there. ``--kubeconfig`` takes a cluster that runs already, with real
nodes. A record keeps the lines of tests that did not run this time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.interop.goedge import GoProcess
from tests.interop.judges import Bench

HERE = Path(__file__).parent
NAMES = HERE / "conformance.txt"
CAUSES = HERE / "conformance_causes.txt"
GROUPS = {
    "A": "needs no containers; passes with upstream's own controllers",
    "B": "needs work of the API server only",
    "C": "needs real pods on one or two nodes, or runs long",
    "D": "needs webhook servers as pods, aggregation, conversion or CEL policies",
}
_SUFFIX = " [Conformance]"
_INSIDE = "SKERRY_CONFORMANCE_INSIDE"
_LINE = re.compile(r"^\| (?P<name>\[sig-.+?) \| (?P<result>\w[\w ]*) \| (?P<cause>.*) \|$")
_HEAD = """# Upstream's conformance tests

The `[Conformance]` tests of Kubernetes 1.36 that a control plane and its nodes can be asked, by exact name (without
the suffix ` [Conformance]`). They run unmodified (`e2e.test`) against the embedded API server **with our own control
loops**. A and B ran on two nodes whose kubelet only says that pods run (`tests/interop/kubelet.py`); C and D on two of
our agents, each with a containerd of its own, with stand-in images: upstream's
`agnhost` with busybox, a `curl` script over wget, and a dummy certificate file. The results were gathered over several
runs while the code changed; a test counts as passed if it passed in one of them. Real nodes and images:
(`tests/interop/two_agents.py`):

    SKERRY_E2E_TEST=/path/e2e.test python -m tests.interop.conformance --group A --group B \\
        --record docs/reference/conformance.md
    python -m tests.interop.two_agents --work DIRECTORY --program agnhost=/path/agnhost   # prints a kubeconfig
    SKERRY_E2E_TEST=/path/e2e.test python -m tests.interop.conformance --group C --group D --kubeconfig FILE \\
        --record docs/reference/conformance.md

Unmodified kube-controller-manager 1.36, kube-scheduler 1.36 and Go cloudcore 1.23 run on the API server, too, without
an informer that fails (`make interop`, `tests/interop/test_judges.py`).

"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test: ``passed``, ``failed``, or ``not run``; and why."""

    result: str
    cause: str = ""


def listed(groups: Iterable[str]) -> dict[str, str]:
    """Test names and their groups, in the order of the list."""
    wanted = set(groups)
    lines = [line.split(" ", 1) for line in NAMES.read_text().splitlines() if line.strip()]
    return {name: group for group, name in lines if group in wanted}


def focus(names: Iterable[str]) -> str:
    """A regular expression of Go that matches exactly these tests."""
    full = (name if name.endswith("]") else f"{name}{_SUFFIX}" for name in names)
    return "|".join(re.sub(r"([\\.^$*+?()\[\]{}|])", r"\\\1", name) for name in full)


def results(report: Path) -> Iterator[tuple[str, Outcome]]:
    """What ran, from a JUnit file."""
    for case in ET.parse(report).getroot().iter("testcase"):
        name = case.attrib.get("name", "")
        if not name.startswith("[It] ") or case.find("skipped") is not None:
            continue
        name = name.removeprefix("[It] ").partition(_SUFFIX)[0]
        failure = case.find("failure")
        if failure is None:
            failure = case.find("error")
        text = "" if failure is None else (failure.attrib.get("message") or failure.text or "failed")
        yield name, Outcome("passed") if failure is None else Outcome("failed", _short(text))


def _short(text: str) -> str:
    line = " ".join(text.partition("In [It]")[0].split()).replace("|", "\\|")
    return line[:160]


def recorded(page: Path) -> dict[str, Outcome]:
    """What an earlier record says."""
    if not page.exists():
        return {}
    found = (_LINE.match(line) for line in page.read_text().splitlines())
    return {match["name"]: Outcome(match["result"], match["cause"]) for match in found if match}


def causes() -> list[tuple[str, str]]:
    """Known causes of failures, by the beginning of the name."""
    lines = [line.split(" :: ", 1) for line in CAUSES.read_text().splitlines() if " :: " in line]
    return [(name, cause) for name, cause in lines]


def write_record(page: Path, outcomes: dict[str, Outcome]) -> None:
    """Write the page; tests without an outcome are named as not run."""
    known = causes()
    parts = [_HEAD]
    for group, about in GROUPS.items():
        names = [name for name, own in listed(GROUPS).items() if own == group]
        passed = sum(outcomes.get(name, Outcome("not run")).result == "passed" for name in names)
        parts.append(
            f"## {group}: {about}: {passed} of {len(names)} pass\n\n| Test | Result | Cause |\n|---|---|---|\n"
        )
        for name in names:
            outcome = outcomes.get(name, Outcome("not run"))
            cause = outcome.cause
            if outcome.result != "passed":
                cause = next((text for start, text in known if name.startswith(start)), cause)
            parts.append(f"| {name} | {outcome.result} | {'' if outcome.result == 'passed' else cause} |\n")
        parts.append("\n")
    page.write_text("".join(parts).rstrip() + "\n")


async def run(names: Iterable[str], *, kubeconfig: Path | None, work: Path, skip: str) -> dict[str, Outcome]:
    """Run tests; returns what became of them."""
    async with AsyncExitStack() as stack:
        if kubeconfig is None:
            bench = Bench(work)
            await bench.start(stack)
            await bench.run(stack, bench.hollow_nodes(2))
            kubeconfig = bench.kubeconfig
        command = [
            os.environ["SKERRY_E2E_TEST"], f"--kubeconfig={kubeconfig}", "--provider=skeleton", "--num-nodes=2",
            f"--ginkgo.focus={focus(names)}", f"--report-dir={work}", "--ginkgo.no-color", "--ginkgo.v",
            "--ginkgo.timeout=6h", *([f"--ginkgo.skip={skip}"] if skip else []),
        ]  # fmt: skip
        tests = await bench_run(stack, GoProcess("e2e", command, directory=work / "logs"))
        while tests.is_running:
            await asyncio.sleep(1)
    return dict(found for report in work.glob("junit*.xml") for found in results(report))


async def bench_run(stack: AsyncExitStack, process: GoProcess) -> GoProcess:
    """Start a program that ends with the stack."""
    stack.push_async_callback(process.stop)
    await process.start()
    return process


def main() -> int:
    """Run, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", action="append", choices=sorted(GROUPS), help="which tests (every one)")
    parser.add_argument("--only", default="", help="regular expression that names must match")
    parser.add_argument("--skip", default="", help="regular expression of tests to leave out")
    parser.add_argument("--kubeconfig", type=Path, help="a cluster that runs already")
    parser.add_argument("--record", type=Path, help="page to bring up to date")
    parser.add_argument("--work", type=Path, help="directory for data and logs (a temporary one)")
    options = parser.parse_args()
    if "SKERRY_E2E_TEST" not in os.environ:
        parser.error("SKERRY_E2E_TEST must name upstream's e2e.test")
    if options.kubeconfig is None and os.environ.get(_INSIDE) is None:
        setup = 'ip link set lo up && ip route add local 10.64.0.0/10 dev lo && exec "$@"'
        again = [sys.executable, "-m", "tests.interop.conformance", *sys.argv[1:]]
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", ["unshare", "-n", "sh", "-c", setup, "sh", *again])
    names = [name for name in listed(options.group or GROUPS) if re.search(options.only, name)]
    work = options.work or Path(tempfile.mkdtemp(prefix="conformance-"))
    work.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(run(names, kubeconfig=options.kubeconfig, work=work, skip=options.skip))
    for name in names:
        outcome = found.get(name, Outcome("not run"))
        print(f"{outcome.result:<8} {name}" + (f"\n         {outcome.cause}" if outcome.cause else ""))  # noqa: T201
    passed = sum(found.get(name, Outcome("")).result == "passed" for name in names)
    print(f"{passed} of {len(names)} passed; logs in {work}")  # noqa: T201
    if options.record:
        write_record(options.record, recorded(options.record) | found)
    return 0 if passed == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
