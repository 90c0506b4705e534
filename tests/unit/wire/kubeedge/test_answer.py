"""Contents of answers: every error form of upstream, read by one function."""

from __future__ import annotations

from typing import Any

import pytest

from skerry.wire.kubeedge import answer
from skerry.wire.kubeedge.envelope import Envelope

NOT_FOUND = {"metadata": {}, "status": "Failure", "message": "gone", "reason": "NotFound", "code": 404}
POD = {"kind": "Pod", "metadata": {"name": "web"}}


def _answer(content: Any, operation: str = "response") -> answer.Outcome:
    return answer.read(Envelope("1", "edgecontroller", "resource", operation, "default/pod/web", content, "0"))


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (POD, answer.Outcome(object=POD)),
        ('{"kind":"Pod","metadata":{"name":"web"}}', answer.Outcome(object=POD)),
        ({"Object": POD, "Err": None}, answer.Outcome(object=POD)),
        ({"Object": None, "Err": {"ErrStatus": NOT_FOUND}}, answer.Outcome(status=NOT_FOUND)),
        ({"Object": POD, "Err": {"ErrStatus": NOT_FOUND}}, answer.Outcome(object=POD, status=NOT_FOUND)),
        ({"ErrStatus": NOT_FOUND}, answer.Outcome(status=NOT_FOUND)),
        ("OK", answer.Outcome(text="OK")),
        ("{not json", answer.Outcome(text="{not json")),
        (None, answer.Outcome()),
        ({"ErrStatus": NOT_FOUND, "data": {}}, answer.Outcome(object={"ErrStatus": NOT_FOUND, "data": {}})),
    ],
)
def test_forms(content: Any, outcome: answer.Outcome) -> None:
    assert _answer(content) == outcome


@pytest.mark.parametrize("content", [{"Object": None, "Err": {}}, {"ErrStatus": {}}, {"Object": None, "Err": "x"}])
def test_errors_without_words_are_errors(content: Any) -> None:
    outcome = _answer(content)
    assert not outcome.is_ok
    assert outcome.status is not None
    assert outcome.status["code"] == 500
    assert outcome.status["message"]


def test_the_operation_error_is_an_error_with_its_text() -> None:
    outcome = _answer("failed to process remote: not connected", operation="error")
    assert outcome.status is not None
    assert outcome.status["message"] == "failed to process remote: not connected"


def test_what_we_write_reads_back() -> None:
    status = {"kind": "Status", "apiVersion": "v1", **NOT_FOUND}
    assert _answer(answer.failed_query(status)).status == NOT_FOUND
    assert _answer(answer.failed_write(status, POD)) == answer.Outcome(object=POD, status=NOT_FOUND)
    assert _answer(answer.success(POD)) == answer.Outcome(object=POD)
