"""Processes of containers by their control groups, as the kernel tells them under each version and keeper."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.runtime.cri.processes import process_counts

OURS, OTHER, UID = "a1" * 32, "b2" * 32, "11111111-2222-3333-4444-555555555555"
GROUPS = {
    "version 1": f"12:pids:/skerry-x/pod{UID}/{{0}}\n1:name=systemd:/skerry-x/pod{UID}/{{0}}\n",
    "version 2": f"0::/skerry-x/pod{UID}/{{}}\n",
    "systemd": "0::/skerry.slice/cri-containerd-{}.scope\n",
    "CRI-O": "0::/skerry.slice/crio-{}.scope/container\n",
    "below ours": "0::/../../skerry.slice/docker-{}.scope\n",
}


@pytest.mark.parametrize("form", GROUPS)
def test_processes_are_counted_by_the_container_in_their_groups_name(form: str, tmp_path: Path) -> None:
    texts = {"1": "0::/init.scope\n", "7": OURS, "8": OURS, "9": OTHER, "10": None, "self": OURS, "net": None}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "cgroup").write_text(text if "/" in text else GROUPS[form].format(text))
    assert process_counts([OURS, "c3" * 32], proc=tmp_path) == {OURS: 2}
    assert process_counts([], proc=tmp_path) == {}
