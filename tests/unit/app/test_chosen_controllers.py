"""Which control loops run."""

from __future__ import annotations

import pytest

from skerry.app.cloud_controllers import chosen
from skerry.base.errors import ConfigError

KNOWN = ["scheduler", "deployment", "job"]


@pytest.mark.parametrize(
    ("wanted", "run"),
    [
        (["*"], KNOWN),
        (["*", "-scheduler"], ["deployment", "job"]),
        (["-scheduler", "*"], ["deployment", "job"]),
        (["job", "scheduler"], ["scheduler", "job"]),
        (["*", "-deployment-controller"], ["scheduler", "job"]),
        (["-job"], []),
        ([], []),
    ],
)
def test_names_stars_and_exceptions(wanted: list[str], run: list[str]) -> None:
    assert chosen(wanted, KNOWN) == run


def test_a_name_that_does_not_exist_is_an_error_that_lists_those_that_do() -> None:
    with pytest.raises(ConfigError, match="there is none called cronjobs") as found:
        chosen(["*", "-cronjobs"], KNOWN)
    assert "deployment, job, scheduler" in found.value.hint
