"""What the words of a broken link mean."""

import pytest

from skerry.app.doctor import link_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("", ""),
        ("cannot resolve cloud.example.com: Name or service not known", "SK-L001"),
        ("192.0.2.1:10000 refused the connection; is the cloud running? is the port right?", "SK-L002"),
        ("192.0.2.1:10000 did not answer in 10 s", "SK-L002"),
        ("the cloud answered 403: certificate of node gate-1 is revoked", "SK-L003"),
        ("the cloud answered 409: another machine uses this name", "SK-L003"),
        ("certificate verify failed: certificate has expired", "SK-L005"),
    ],
)
def test_the_cause_of_a_broken_link(error: str, code: str) -> None:
    assert link_code(error) == code
