"""Upstream's own conformance tests against the embedded API server with our control loops, recorded by exact name.

    SKERRY_E2E_TEST=/path/e2e.test SKERRY_AGNHOST=/path/agnhost python -m tests.interop.conformance --group C \\
        --record docs/reference/conformance.md

Everything runs in a network namespace of its own (``unshare -n``, so as root), where every address of 10.64.0.0/10 is
local: hollow nodes give their pods addresses from there. ``--kubeconfig`` takes a cluster that runs already. A record
keeps the lines of tests that did not run this time. Exit code 1: a test failed without a cause in
``conformance_causes.txt``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.component.kubectls import KUBECTLS
from tests.interop.goedge import GoProcess
from tests.interop.judges import Bench
from tests.interop.two_agents import CLOUD_ADDRESS, add_nodes, isolated

HERE = Path(__file__).parent
NAMES = HERE / "conformance.txt"
CAUSES = HERE / "conformance_causes.txt"
GROUPS = {
    "A": "needs no containers; passes with upstream's own controllers",
    "B": "needs work of the API server only",
    "C": "needs real pods on one or two nodes, or runs long",
    "D": "needs webhook servers as pods, aggregation, conversion or CEL policies",
}
WITH_PODS = ("C", "D")
ON_AGENTS = ("[sig-api-machinery] CustomResourceFieldSelectors",)
"""Tests of the other lists whose webhook is a pod."""
_SUFFIX = " [Conformance]"
_LINE = re.compile(r"^\| (?P<name>\[sig-.+?) \| (?P<result>\w[\w ]*) \| (?P<cause>.*) \|$")
_RUN = re.compile(r"^## (?P<group>[A-D]): .*\n\nThe run: (?P<about>.*)\.$", re.MULTILINE)
_HEAD = """# Upstream's conformance tests

The `[Conformance]` tests of Kubernetes 1.36 that a control plane and its nodes can be asked, by exact name (without
the suffix ` [Conformance]`). They run unmodified (`e2e.test`) against the embedded API server **with our own control
loops**. A and B run on two nodes whose kubelet only says that pods run (`tests/interop/kubelet.py`). C, D, and the
test of A whose webhook is a pod run on two of our agents, each with a containerd of its own
(`tests/interop/two_agents.py`) and stand-in images: upstream's `agnhost` beside busybox, a `curl` script over wget, a
dummy certificate file, and busybox's web server for nginx and
nautilus. One list:

    make conformance LIST=A SKERRY_E2E_TEST=/path/e2e.test SKERRY_AGNHOST=/path/agnhost

All of them, one after the other, as `make interop` runs them: a test that fails without a cause named in
`tests/interop/conformance_causes.txt` fails the run. With `SKERRY_CONFORMANCE_RECORD` in the environment this page is
written anew.

Unmodified kube-controller-manager 1.36, kube-scheduler 1.36 and Go cloudcore 1.23 run on the API server, too, without
an informer that fails (`tests/interop/test_judges.py`).

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


def runs(page: Path) -> dict[str, str]:
    """What an earlier record says of each list's run."""
    text = page.read_text() if page.exists() else ""
    return {match["group"]: match["about"] for match in _RUN.finditer(text)}


def this_run(started_load: float) -> str:
    """Commit, machine and load of this run, for the record."""
    commit = os.environ.get("SKERRY_COMMIT") or _said("git", "-C", str(HERE), "rev-parse", "--short", "HEAD")
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    size = f"{int(memory[1]) / 1048576:.0f} GiB" if memory else "unknown memory"
    load = f"{started_load:.0f} at its start and {os.getloadavg()[0]:.0f} at its end"
    return f"commit {commit}, {os.cpu_count()} cores, {size}, Linux {os.uname().release}, load average {load}"


def _said(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def write_record(page: Path, outcomes: dict[str, Outcome], about: dict[str, str]) -> None:
    """Write the page; tests without an outcome are named as not run.

    Args:
        about: of each list's run, by group.
    """
    known = causes()
    parts = [_HEAD]
    for group, title in GROUPS.items():
        names = [name for name, own in listed(GROUPS).items() if own == group]
        passed = sum(outcomes.get(name, Outcome("not run")).result == "passed" for name in names)
        parts.append(
            f"## {group}: {title}: {passed} of {len(names)} pass\n\n"
            f"The run: {about.get(group, 'not recorded')}.\n\n| Test | Result | Cause |\n|---|---|---|\n"
        )
        for name in names:
            outcome = outcomes.get(name, Outcome("not run"))
            cause = outcome.cause
            if outcome.result != "passed":
                cause = next((text for start, text in known if name.startswith(start)), cause)
            parts.append(f"| {name} | {outcome.result} | {'' if outcome.result == 'passed' else cause} |\n")
        parts.append("\n")
    page.write_text("".join(parts).rstrip() + "\n")


def shards(names: Iterable[str], count: int) -> list[list[str]]:
    """The tests that may run beside each other, dealt out to ``count`` hands; those that may not come last, alone."""
    serial = [name for name in names if "[Serial]" in name]
    parallel = [name for name in names if "[Serial]" not in name]
    return [*filter(None, (parallel[index::count] for index in range(count))), serial]


@asynccontextmanager
async def site(work: Path, *, has_pods: bool) -> AsyncIterator[Path]:
    """The kubeconfig of a cluster of its own, with two nodes; for the network namespace that ``isolated`` makes."""
    async with AsyncExitStack() as stack:
        bench = Bench(work, address=CLOUD_ADDRESS)
        await bench.start(stack)
        if has_pods:
            await add_nodes(stack, bench, work, count=2, programs={"agnhost": Path(os.environ["SKERRY_AGNHOST"])})
        else:
            await bench.run(stack, bench.hollow_nodes(2))
        yield bench.kubeconfig


async def run(names: Sequence[str], *, kubeconfig: Path, work: Path, jobs: int) -> dict[str, Outcome]:
    """Run tests; returns what became of them."""
    *beside, alone = shards(names, jobs)
    found = await asyncio.gather(
        *(_run_some(some, kubeconfig, work / f"e2e-{index}") for index, some in enumerate(beside))
    )
    if alone:
        found.append(await _run_some(alone, kubeconfig, work / "e2e-serial"))
    return {name: outcome for some in found for name, outcome in some.items()}


async def _run_some(names: Iterable[str], kubeconfig: Path, work: Path) -> dict[str, Outcome]:
    command = [
        os.environ["SKERRY_E2E_TEST"], f"--kubeconfig={kubeconfig}", "--provider=skeleton", "--num-nodes=2",
        f"--ginkgo.focus={focus(names)}", f"--report-dir={work}", "--ginkgo.no-color", "--ginkgo.v",
        "--ginkgo.timeout=3h",
    ]  # fmt: skip
    tests = GoProcess("e2e", command, directory=work, environment={"PATH": _path_with_kubectl(work)})
    async with AsyncExitStack() as stack:
        stack.push_async_callback(tests.stop)
        await tests.start()
        while tests.is_running:
            await asyncio.sleep(1)
    return dict(found for report in work.glob("junit*.xml") for found in results(report))


def _path_with_kubectl(work: Path) -> str:
    """PATH with the newest kubectl of this machine, which the tests of [sig-cli] start."""
    usual = os.environ.get("PATH", "")
    if not KUBECTLS:
        return usual
    newest = max(KUBECTLS, key=lambda minor: int(minor.partition(".")[2]))
    place = work / "bin"
    place.mkdir(parents=True, exist_ok=True)
    (place / "kubectl").unlink(missing_ok=True)
    (place / "kubectl").symlink_to(KUBECTLS[newest].resolve())
    return f"{place}:{usual}"


def unexplained(names: Iterable[str], found: dict[str, Outcome]) -> dict[str, str]:
    """What failed, or did not run, without a cause that is known."""
    known = [start for start, _ in causes()]
    missed = {name: found.get(name, Outcome("not run")) for name in names}
    return {
        name: f"{outcome.result}: {outcome.cause}"
        for name, outcome in missed.items()
        if outcome.result != "passed" and not name.startswith(tuple(known))
    }


async def judge(names: Sequence[str], *, kubeconfig: Path | None, has_pods: bool, work: Path) -> dict[str, Outcome]:
    """Run tests on clusters of their own, unless there is one; those that need pods on one with agents."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):  # the cluster must go with us
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    if kubeconfig is not None:
        return await run(names, kubeconfig=kubeconfig, work=work, jobs=3)
    found: dict[str, Outcome] = {}
    with_pods = [name for name in names if has_pods or name.startswith(ON_AGENTS)]
    for some, place, needs_pods in (
        ([name for name in names if name not in with_pods], work, False),
        (with_pods, work / "agents", True),
    ):
        if some:
            async with site(place, has_pods=needs_pods) as cluster:
                found |= await run(some, kubeconfig=cluster, work=place, jobs=3 if needs_pods else 2)
    return found


def main() -> int:
    """Run, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=sorted(GROUPS), required=True, help="which tests")
    parser.add_argument("--only", default="", help="regular expression that names must match")
    parser.add_argument("--kubeconfig", type=Path, help="a cluster that runs already")
    parser.add_argument("--record", type=Path, help="page to bring up to date")
    parser.add_argument("--work", type=Path, help="directory for data and logs (a temporary one)")
    options = parser.parse_args()
    has_pods, load = options.group in WITH_PODS, os.getloadavg()[0]
    needs_agents = has_pods or any(name.startswith(ON_AGENTS) for name in listed([options.group]))
    for name in ("SKERRY_E2E_TEST", *(["SKERRY_AGNHOST"] if needs_agents else [])):
        if not Path(os.environ.get(name, "")).is_file():
            parser.error(f"{name} must name upstream's program")
    if options.kubeconfig is None:
        isolated("tests.interop.conformance")
    names = [name for name in listed([options.group]) if re.search(options.only, name)]
    work = options.work or Path(tempfile.mkdtemp(prefix="conformance-"))
    work.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(judge(names, kubeconfig=options.kubeconfig, has_pods=has_pods, work=work))
    for name in names:
        outcome = found.get(name, Outcome("not run"))
        print(f"{outcome.result:<8} {name}" + (f"\n         {outcome.cause}" if outcome.cause else ""))  # noqa: T201
    passed = sum(found.get(name, Outcome("")).result == "passed" for name in names)
    print(f"{passed} of {len(names)} passed; logs in {work}")  # noqa: T201
    if options.record:
        about = runs(options.record) | {options.group: this_run(load)}
        write_record(options.record, recorded(options.record) | found, about)
    return 1 if unexplained(names, found) else 0


if __name__ == "__main__":
    sys.exit(main())
