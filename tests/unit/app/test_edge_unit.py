from pathlib import Path

from skerry.app.edge_unit import unit_text


def started(data: str, config: str | None = None) -> str:
    text = unit_text(Path(data), Path(config) if config else None)
    return next(line for line in text.splitlines() if line.startswith("ExecStart=")).partition(" edge run ")[2]


def test_the_agent_starts_with_the_file_of_the_join_or_with_the_operators() -> None:
    assert started("/var/lib/skerry/edge") == "--data /var/lib/skerry/edge --config /var/lib/skerry/edge/edge.yaml"
    assert started("/d", "/etc/skerry/mine.yaml") == "--data /d --config /etc/skerry/mine.yaml"


def test_paths_are_taken_as_they_are() -> None:
    assert started('/a b/50%/$x"y', "/c") == '--data "/a b/50%%/$$x\\"y" --config /c'
