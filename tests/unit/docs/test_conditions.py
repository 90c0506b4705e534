"""The reference of conditions names those that the cloud and the agent write."""

import re
from pathlib import Path

from skerry.cloud.sync import link_state, presence, silence
from skerry.edge.resources import pressure

TEXT = (Path(__file__).resolve().parents[3] / "docs/reference/conditions.md").read_text()


def test_every_condition_of_ours_is_named_with_its_reasons() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([\w./]+)`", row.split("|")[1])}
    ours = {link_state.LINK, link_state.BACKLOG, presence.CONDITION, silence.CONDITION}
    assert ours | {pressure.MEMORY, pressure.DISK, pressure.PID} <= named


def test_the_numbers_are_those_of_the_code() -> None:
    for text in (
        f"for {link_state.LASTS_S:.0f} s {link_state.MANY} or more",
        f"for {link_state.SETTLES_S:.0f} s, and is told within {link_state.LOOK_EVERY_S:.0f} s more",
        f"at most {link_state.MOST_WRITES} of them\nin {link_state.LOOK_EVERY_S:.0f} s",
    ):
        assert text in TEXT, text
