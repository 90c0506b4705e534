from dataclasses import dataclass
from pathlib import Path

import pytest

from skerry.base.conf import build, read_file, setting
from skerry.base.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    data_dir: Path = setting(Path("/var/lib/x"), "where data lies")
    max_pods: int = setting(110, "pods per node")
    enabled: bool = setting(True, "on or off")
    advertise: tuple[str, ...] = setting((), "addresses")
    labels: dict[str, str] = setting({}, "labels")
    token: str | None = setting(None, "token")
    level: str = setting("info", "how much", among=("info", "debug"))
    percent: float = setting(50, "share", at_least=0, at_most=100)
    files: int = setting(5, "files", at_least=2)


def test_later_sources_win() -> None:
    settings = build(
        Settings,
        file={"maxPods": 1, "dataDir": "/a"},
        environment={"SKERRY_X_MAX_PODS": "2", "SKERRY_X_ENABLED": "false"},
        prefix="SKERRY_X_",
        flags={"max_pods": 3, "token": None},
    )
    assert settings == Settings(data_dir=Path("/a"), max_pods=3, enabled=False)


def test_lists_and_mappings_from_text() -> None:
    settings = build(Settings, flags={"advertise": "a:1, b", "labels": "site=north,rack=2"})
    assert settings.advertise == ("a:1", "b")
    assert settings.labels == {"site": "north", "rack": "2"}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"maxPodz": 1}, 'unknown key "maxPodz"'),
        ({"maxPods": "many"}, "expected int, got 'many'"),
        ({"enabled": "perhaps"}, "expected true or false"),
        ({"advertise": 7}, "expected a list"),
        ({"labels": [1]}, "expected key=value pairs"),
        ({"level": "loud"}, "level: 'loud' is not known"),
        ({"percent": 101}, "percent: 101.0 is out of range"),
        ({"percent": "nan"}, "percent: nan is out of range"),
        ({"files": -1}, "files: -1 is out of range"),
    ],
)
def test_wrong_input_names_key_and_remedy(file: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(Settings, file=file, file_name="edge.yaml")
    assert "edge.yaml" in str(caught.value)


def test_unknown_key_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        build(Settings, file={"maxPodz": 1})
    assert caught.value.hint == 'did you mean "maxPods"?'


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("apiVersion: v1\nkind: Other\n")
    with pytest.raises(ConfigError, match="expected config/v1/EdgeConfig"):
        read_file(path, kind="EdgeConfig", api_version="config/v1")


def test_missing_file_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing.yaml"):
        read_file(tmp_path / "missing.yaml", kind="EdgeConfig", api_version="config/v1")


def test_what_is_known_and_the_bounds_are_told_wherever_the_value_comes_from() -> None:
    with pytest.raises(ConfigError, match="environment SKERRY_X_LEVEL") as caught:
        build(Settings, environment={"SKERRY_X_LEVEL": "loud"}, prefix="SKERRY_X_")
    assert caught.value.hint == "one of info, debug"
    with pytest.raises(ConfigError, match="--files") as caught:
        build(Settings, flags={"files": 1})
    assert caught.value.hint == "it may be 2 or more"
    assert build(Settings, flags={"files": 2, "percent": 0, "level": "debug"}).level == "debug"
