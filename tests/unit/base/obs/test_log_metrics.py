import io

from skerry.base import json
from skerry.base.obs.log import get_log, setup
from skerry.base.obs.metrics import Registry


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_fields_and_mask_secrets() -> None:
    stream = io.StringIO()
    setup(level="info", form="json", stream=stream)
    get_log("skerry.test").bind(node="e1").info("node.joined", token="abc", took_s=1.5)
    (line,) = lines(stream)
    assert line["event"] == "node.joined"
    assert line["node"] == "e1"
    assert line["took_s"] == 1.5
    assert line["token"] == "***"


def test_level_is_obeyed() -> None:
    stream = io.StringIO()
    setup(level="warning", form="json", stream=stream)
    log = get_log("skerry.test")
    log.info("a.b")
    log.warning("c.d")
    assert [line["event"] for line in lines(stream)] == ["c.d"]
    assert not log.is_debug


def test_text_form_is_one_line() -> None:
    stream = io.StringIO()
    setup(level="info", form="text", stream=stream)
    get_log("skerry.test").error("disk.full", hint="free some space", path="/x")
    assert stream.getvalue().count("\n") == 1
    assert "hint='free some space'" in stream.getvalue()


def test_metrics_text() -> None:
    registry = Registry()
    registry.counter("skerry_things_total", "Things.", "kind").add(2, 'a"b')
    registry.gauge("skerry_nodes", "Nodes.").set(3)
    assert registry.text() == (
        "# HELP skerry_things_total Things.\n# TYPE skerry_things_total counter\n"
        'skerry_things_total{kind="a\\"b"} 2\n'
        "# HELP skerry_nodes Nodes.\n# TYPE skerry_nodes gauge\nskerry_nodes 3\n"
    )


def test_numbers_keep_their_digits() -> None:
    registry = Registry()
    registry.gauge("when_seconds", "a time").set(1_795_695_801.25)
    registry.counter("bytes_total", "many").add(123_456_789_012)
    lines = registry.text().splitlines()
    assert "when_seconds 1795695801.25" in lines
    assert "bytes_total 123456789012" in lines
