from pathlib import Path

import pytest

from skerry.edge.link.enrol import CertificateFiles, CertificateUnusable


async def test_a_certificate_that_is_gone_is_named_with_what_to_do(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path)
    with pytest.raises(CertificateUnusable, match=r"ca\.crt is missing") as caught:
        files.context()
    assert "join again" in caught.value.hint
    with pytest.raises(CertificateUnusable):
        await files.certificate()


def test_a_damaged_one_too(tmp_path: Path) -> None:
    for name in ("ca.crt", "node.crt", "node.key"):
        (tmp_path / name).write_text("-----BEGIN CERTIFICATE-----\njunk\n")
    with pytest.raises(CertificateUnusable, match="cannot be used"):
        CertificateFiles(tmp_path).context()
