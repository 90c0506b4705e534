"""Generated names, owners, conditions, times; the grammar of names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api import gvk, meta, names


def test_generated_names_take_their_characters_from_outside() -> None:
    assert meta.generated_name("web-", lambda n: 0) == "web-bbbbb"
    assert meta.generated_name("x" * 70, lambda n: n - 1) == "x" * 58 + "99999"
    assert len(meta.NAME_ALPHABET) == 27


def test_hashes_become_safe_names() -> None:
    assert meta.safe_encoded("0123456789") == "".join(meta.NAME_ALPHABET[(48 + i) % 27] for i in range(10))


def test_owners() -> None:
    owner = {"metadata": {"name": "web", "uid": "u1"}}
    child = {"metadata": {"ownerReferences": [{"uid": "u0"}, meta.owner_reference(owner, gvk.DEPLOYMENTS)]}}
    reference = meta.controller_of(child)
    assert reference is not None and reference["apiVersion"] == "apps/v1" and reference["blockOwnerDeletion"] is True
    assert meta.is_controlled_by(child, owner)
    assert not meta.is_controlled_by({"metadata": {}}, owner)


def test_a_condition_keeps_its_transition_time_while_its_status_stays() -> None:
    conditions: list[dict[str, Any]] = []
    assert meta.set_condition(conditions, "Ready", "True", now="t1", reason="A")
    assert not meta.set_condition(conditions, "Ready", "True", now="t2", reason="A")
    assert meta.set_condition(conditions, "Ready", "True", now="t3", reason="B")
    assert conditions == [{"type": "Ready", "status": "True", "lastTransitionTime": "t1", "reason": "B"}]
    assert meta.set_condition(conditions, "Ready", "False", now="t4")
    assert conditions == [{"type": "Ready", "status": "False", "lastTransitionTime": "t4"}]
    assert not meta.is_condition_true({"status": {"conditions": conditions}}, "Ready")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T03:04:05.250000Z", 1767323045.25),
        ("2026-01-02T05:04:05+02:00", 1767323045.0),
        ("2026-01-01T22:04:05-05:00", 1767323045.0),
        ("2026-02-30T00:00:00Z", None),
        ("2026-01-02", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read(text: str | None, seconds: float | None) -> None:
    assert meta.parse_rfc3339(text) == seconds


@given(st.integers(0, 4_000_000_000))
def test_times_read_back(seconds: int) -> None:
    assert meta.parse_rfc3339(meta.rfc3339(seconds)) == seconds
    assert meta.parse_rfc3339(meta.rfc3339_micro(seconds)) == seconds


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.dns_label, ["a", "a-b", "1a"], ["", "A", "-a", "a.b", "a" * 64, "a\n"]),
        (names.dns_subdomain, ["a.b-c", "a" * 253], ["a..b", "a_b", ".a", "a" * 254]),
        (names.dns_1035_label, ["a1"], ["1a", "a."]),
        (names.qualified_name, ["a", "x.io/A_b", "a.b"], ["", "a/b/c", "/a", "a/", "X.io/a", "a" * 64, "-a"]),
        (names.label_value, ["", "A.b_c"], ["-a", "a b", "a" * 64]),
        (names.config_key, ["a.b", "_X", ".a"], ["", ".", "..", "..a", "a/b"]),
        (names.env_name, ["A", "a.b-c", "x y"], ["", "a=b", "ä"]),
        (names.port_name, ["http", "a-1"], ["", "1", "a--b", "-a", "A", "a" * 16]),
        (names.path_segment, ["system:node", ""], [".", "..", "a/b", "a%b"]),
    ],
)
def test_grammar_of_names(check: Any, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if check(text)] == []
    assert [text for text in bad if not check(text)] == []


def test_labels_and_annotations_are_checked() -> None:
    found = names.label_errors({"a b": "x", "ok": "no way"}, "metadata.labels")
    assert [error.field for error in found] == ["metadata.labels", "metadata.labels"]
    assert names.annotation_errors({"a/B": "any thing \n"}, "metadata.annotations") == []
    assert [error.message for error in names.annotation_errors({"a": "x" * 262_144}, "m")] == [
        "Too long: may not be more than 262144 bytes"
    ]
