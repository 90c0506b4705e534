"""The command line: help with an example everywhere, JSON everywhere, wrong usage exits 2."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.cli.main import main, parser


def commands(of: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, with the words that a person types."""
    groups = [action for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield " ".join(path), of
    for group in groups:
        for name, child in group.choices.items():
            yield from commands(child, (*path, name))


COMMANDS = dict(commands(parser()))


def test_the_walk_finds_commands_at_both_levels() -> None:
    assert {"demo", "join", "edge run", "token create", "why"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_what_it_does_with_an_example(name: str) -> None:
    text = COMMANDS[name].format_help()
    assert f"example: skerry {name}" in text
    assert COMMANDS[name].description


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_can_be_parsed(name: str) -> None:
    example = (COMMANDS[name].epilog or "").removeprefix("example: skerry ")
    assert callable(parser().parse_args(example.split()).run)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_as_json(name: str) -> None:
    action = COMMANDS[name]._option_string_actions["-o"]
    assert action.dest == "output"
    assert list(action.choices or ()) == ["text", "json"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    assert f"usage: skerry {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [
        "", "nonsense", "edge", "edge nonsense", "delete pod", "describe pod", "get", "demo --nonsense",
        "demo --plug-s -1", "demo --plug-s nan", "demo --plug-s x", "device simulate --port 65536",
        "device set a b=1 --wait-s -1", "logs web --tail -1", "edge logs web --tail -3", "edge logs web --tail x",
        "config print nonsense", "version -o yaml", "join",
    ],
)  # fmt: skip
def test_wrong_usage_exits_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("join 127.0.0.1:65536 --token x", "there is no port 65536"),
        ("join 127.0.0.1:x --token x", "is no address"),
        ("token create --ttl 5x", "'5x' is no duration"),
        ("token create --ttl 99999999999d", "is too long"),
        ("token create --node a --uses 0", "exclude each other"),
        ("why pod", "'pod' is not KIND/NAME"),
        ("why nonsense web", "knows nothing about 'nonsense'"),
        ("device set thermometer setpoint", "is not PROPERTY=VALUE"),
        ("config check /nonexistent.yaml", "cannot read /nonexistent.yaml"),
        ("apply -f /nonexistent.yaml", "cannot read /nonexistent.yaml"),
        ("get pods --kubeconfig /nonexistent", "kubeconfig /nonexistent"),
        ("edge status --data /nonexistent", "has not joined a cloud"),
        ("down --data /nonexistent", "nothing runs from /nonexistent"),
        ("cloud backup --data /nonexistent", "no cloud with an API server of its own has run in /nonexistent"),
        ("cloud run --data /nonexistent --advertise http://cloud.example", "'http://cloud.example' is no address"),
        ("cloud run --data /nonexistent --advertise a:70000", "'70000' is no port"),
        ("cloud run --data /nonexistent --listen 192.0.2.254 --ports any", "this machine has no such address"),
        ("cloud run --data /nonexistent --listen name.invalid --ports any", "this machine has no such address"),
        ("token create --address x:y", "is no address"),
        ("adopt --edgecore-config /nonexistent.yaml", "cannot read /nonexistent.yaml"),
        ("release --data /nonexistent", "has not joined a cloud"),
    ],
)  # fmt: skip
def test_what_an_operator_got_wrong_is_said_in_words(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert "Errno" not in error
    assert not Path("/nonexistent").exists()


def test_a_fault_of_the_file_system_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cloud", "run", "--data", "/proc/nonexistent"]) == 1
    error = capsys.readouterr().err
    assert "/proc/nonexistent: No such file" in error
    assert "Errno" not in error
