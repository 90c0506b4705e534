"""The side of the process that works with certificates for others."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest

from skerry.base import json, x509, x509_service


def ask(*orders: bytes) -> list[dict[str, Any]]:
    answers = io.BytesIO()
    x509_service.serve(io.BytesIO(b"".join(order + b"\n" for order in orders)), answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def test_each_order_has_its_answer_in_turn() -> None:
    csr, _ = x509.new_csr("cn", organizations=("o",))
    found = ask(
        json.dumps({"id": 1, "do": "new_ca", "common_name": "a", "serial": None, "now_s": None}),
        json.dumps({"id": 2, "do": "read_csr", "csr_der": base64.b64encode(csr).decode()}),
    )
    assert [answer["id"] for answer in found] == [1, 2]
    assert set(found[0]["is"]) == {"cert", "key"}
    assert found[1]["is"] == {"common_name": "cn", "organizations": ["o"], "names": [], "hosts": []}


@pytest.mark.parametrize(
    "order",
    [b"nonsense", b"[]", b"{}", b'{"do":"exit"}', b'{"do":"csr"}', b'{"do":"read_csr","csr_der":"AA"}',
     b'{"do":"read_csr","csr_der":1}', b'{"do":"new_ca","common_name":7}', b'{"do":"pair","cert":"MA==","key":"MA=="}'],
)  # fmt: skip
def test_a_bad_order_is_refused_and_the_next_one_done(order: bytes) -> None:
    bad, good = ask(order, b'{"id":7,"do":"csr","common_name":"cn","organizations":[]}')
    assert bad["error"]
    assert "is" not in bad
    assert (good["id"], set(good["is"])) == (7, {"csr_der", "key_pem"})
