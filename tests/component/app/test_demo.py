"""``skerry demo`` as a person runs it: what it claims, what a kill leaves behind, what ``--clean`` leaves (nothing)."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.parts import BUSYBOX_IMAGE, Containerd, PartMissing, fetch

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(90)]


def demo(data: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data, *arguments), capture_output=True, text=True, timeout=80, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def command(data: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "skerry.cli.main", "demo", "--data", str(data), "-o", "json", *arguments]


def processes(data: Path) -> dict[int, str]:
    """Processes whose command line or environment names the directory, pods and shims among them."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(data) in words and int(path.name) != os.getpid():
            found[int(path.name)] = (path / "comm").read_text().strip()
    return found


def pod_processes(data: Path) -> list[int]:
    """What the records of the process runtime call running, and runs."""
    states = [json.loads(path.read_bytes()) for path in (data / "edge/process").glob("*/*/state.json")]
    pids = [int(state[key]) for state in states if state["state"] == "running" for key in ("pid", "shim_pid")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def until(look: Callable[[], Any], *, timeout_s: float = 30.0) -> Any:
    deadline_s = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.05)
    return found


@pytest.fixture
def data() -> Iterator[Path]:
    # Not pytest's tmp_path: the agent's unix sockets lie in here, and their paths must stay below 108 bytes.
    with tempfile.TemporaryDirectory(prefix="skerry-") as short:
        directory = Path(short) / "made by demo" / "demo"
        yield directory
        demo(directory, "--clean")


def assert_nothing_left(data: Path) -> None:
    assert not data.parent.exists()
    assert str(data) not in Path("/proc/self/mountinfo").read_text().replace("\\040", " ")
    assert processes(data) == {}


def test_the_tour_holds_what_it_claims_and_cleans_up(data: Path) -> None:
    done = demo(data, "--exit-when-ready", "--plug-s", "3")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["ready"] is True
    assert facts["took_s"] < 20
    assert facts["pod"]["node"] == "demo-edge"
    assert facts["log"].startswith("hello ")
    assert facts["setpoint"]["reported"] == facts["setpoint"]["wanted"]
    plug = facts["plug"]
    assert plug["containers_before"] == plug["containers_after"] == facts["pod"]["containers"]
    assert plug["restarts"] == 0
    assert plug["readings_out"] == plug["readings_in"] > 0
    assert facts["checks"]
    assert processes(data) == {}
    first = json.loads((data / "edge/node.json").read_bytes())

    again = demo(data, "--exit-when-ready", "--no-plug")
    assert again.returncode == 0, again.stderr
    resumed = json.loads(again.stdout)
    assert "checks" not in resumed
    assert resumed["pod"]["name"] == facts["pod"]["name"]
    assert json.loads((data / "edge/node.json").read_bytes()) == first

    cleaned = demo(data, "--clean")
    assert (cleaned.returncode, json.loads(cleaned.stdout)["cleaned"]) == (0, True)
    assert_nothing_left(data)


def serve(data: Path) -> subprocess.Popen[str]:
    """A demo that has said that it serves."""
    tour = subprocess.Popen(
        command(data, "--no-plug"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert tour.stdout is not None
    line = tour.stdout.readline()
    if not line:
        end(tour, signal.SIGKILL)
    assert line.startswith("{"), "the demo ended before it served"
    return tour


def end(tour: subprocess.Popen[str], number: int) -> int:
    tour.send_signal(number)
    code = tour.wait(40)
    assert tour.stdout is not None
    tour.stdout.close()
    return code


def test_an_interrupt_ends_everything_and_a_second_demo_is_refused(data: Path) -> None:
    tour = serve(data)
    second = demo(data)
    assert second.returncode == 2
    assert f"pid {tour.pid}" in second.stderr
    pods = pod_processes(data)
    assert pods
    assert end(tour, signal.SIGINT) == 0
    assert processes(data) == {}
    assert all(ended(pid) for pid in pods)


def test_a_killed_demo_takes_its_processes_along(data: Path) -> None:
    tour = serve(data)
    pods = pod_processes(data)
    assert pods
    end(tour, signal.SIGKILL)
    until(lambda: not processes(data) and all(ended(pid) for pid in pods))
    assert demo(data, "--clean").returncode == 0
    assert_nothing_left(data)


def test_clean_ends_what_outlived_a_kill_of_everything(data: Path) -> None:
    tour = serve(data)
    pods = pod_processes(data)
    assert pods
    facts = json.loads((data / "run.json").read_bytes())["pids"]
    for name in ("cloud", "edge"):
        os.kill(facts[name], signal.SIGSTOP)
    end(tour, signal.SIGKILL)
    os.kill(facts["edge"], signal.SIGKILL)
    until(lambda: ended(facts["edge"]))
    assert not any(ended(pid) for pid in pods)
    os.kill(facts["cloud"], signal.SIGCONT)
    assert demo(data, "--clean").returncode == 0
    until(lambda: all(ended(pid) for pid in pods))
    assert_nothing_left(data)


def test_clean_ends_a_tour_that_is_under_way(data: Path) -> None:
    with subprocess.Popen(
        command(data, "--no-plug"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as tour:
        until(lambda: (data / "pids/cloud.json").exists())
        assert demo(data, "--clean").returncode == 0
        assert tour.wait(40) == 130
    assert_nothing_left(data)


@pytest.fixture
def engine() -> Iterator[Containerd]:
    try:
        containerd = Containerd()
    except PartMissing as exc:
        pytest.skip(str(exc))
    containerd.start()
    yield containerd
    containerd.close()


def test_better_parts_are_used_where_they_are(data: Path, engine: Containerd) -> None:
    try:
        mosquitto = fetch("mosquitto", "mosquitto")
    except PartMissing as exc:
        pytest.skip(str(exc))
    there = {"SKERRY_EDGE_CRI_SOCKET": str(engine.socket), **mosquitto.environment}
    there["PATH"] = f"{mosquitto.path.parent}:{os.environ['PATH']}"
    done = demo(data, "--exit-when-ready", "--plug-s", "1", **there)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["runtime"] == "cri"
    assert all(container.startswith("containerd://") for container in facts["pod"]["containers"].values())
    assert facts["plug"]["containers_before"] == facts["plug"]["containers_after"]
    assert facts["mqtt"]["topic"] == "$hw/events/device/default/thermometer/twin/update/document"
    assert float(facts["mqtt"]["value"]) > 0
    assert not [line for line in facts["missing"] if "kubectl" not in line]
    assert processes(data) == {}

    again = demo(data, "--exit-when-ready", "--no-plug", **there)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["runtime"] == "cri"

    assert demo(data, "--clean", **there).returncode == 0
    assert_nothing_left(data)
    assert engine.ctr("containers", "ls", "-q").split() == []


def test_an_engine_without_an_image_is_left_alone_and_named(data: Path, engine: Containerd) -> None:
    engine.ctr("images", "rm", BUSYBOX_IMAGE)
    done = demo(data, "--exit-when-ready", "--no-plug", SKERRY_EDGE_CRI_SOCKET=str(engine.socket))
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["runtime"] == "process"
    assert any("holds no image with a shell" in line for line in facts["missing"])
    assert engine.ctr("containers", "ls", "-q").split() == []


def test_what_no_demo_has_made_is_neither_used_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    for words in (("--clean",), ("--exit-when-ready", "--no-plug")):
        refused = demo(tmp_path, *words)
        assert refused.returncode == 2
        assert "was not made by `skerry demo`" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
