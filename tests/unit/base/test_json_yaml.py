import pytest

from skerry.base import json, yaml


def test_json_round_trip_and_canonical_order() -> None:
    assert json.dumps({"b": 1, "a": "ü<"}, sort_keys=True) == '{"a":"ü<","b":1}'.encode()
    assert json.loads(b'{"a":[1,2.5,null,true]}') == {"a": [1, 2.5, None, True]}


@pytest.mark.parametrize("text", [b"", b"{", b"[1,]", b"nul", b"\xff", b"{}{}", b"[" * 100_000])
def test_bad_json_is_one_error(text: bytes) -> None:
    with pytest.raises(json.JsonError):
        json.loads(text)


def test_deep_copy_is_independent() -> None:
    source = {"a": [1]}
    copy = json.deep_copy(source)
    copy["a"].append(2)
    assert source == {"a": [1]}


def test_yaml_keeps_dates_as_text() -> None:
    assert yaml.load("t: 2026-01-01T00:00:00Z") == {"t": "2026-01-01T00:00:00Z"}


def test_yaml_documents() -> None:
    assert yaml.load_all("a: 1\n---\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]
    with pytest.raises(yaml.YamlError, match="several"):
        yaml.load("a: 1\n---\nb: 2\n")


def test_yaml_alias_bomb_is_refused() -> None:
    bomb = "a: &a [x,x]\n" + "".join(f"k{i}: *a\n" for i in range(200))
    with pytest.raises(yaml.YamlError, match="aliases"):
        yaml.load(bomb)


def test_yaml_duplicate_key_names_the_line() -> None:
    with pytest.raises(yaml.YamlError, match='line 2: key "a" already set'):
        yaml.load("a: 1\na: 2\n")


@pytest.mark.parametrize("text", ["a: [", "\t- x", "!!python/object:os.system {}", "[" * 5000])
def test_bad_yaml_is_one_error(text: str) -> None:
    with pytest.raises(yaml.YamlError):
        yaml.load(text)


@pytest.mark.parametrize("text", ["[" * 150, "{a: " * 150, "- " * 150])
def test_nesting_is_bounded(text: str) -> None:
    with pytest.raises(yaml.YamlError, match="nested more than 100 levels"):
        yaml.load(text)


def test_nesting_as_schemas_have_it_is_taken() -> None:
    text = "".join(f"{'  ' * level}properties:\n" for level in range(60)) + "  " * 60 + "type: object\n"
    assert "properties" in yaml.load(text)
