"""Credentials from files, and words for what is wrong with them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from skerry.base import yaml
from skerry.base.errors import ConfigError
from skerry.kube.kubeconfig import TokenSource, find, in_cluster, load


def write(path: Path, *, user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://h:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(yaml.dump(document))
    return path


def test_inline_and_file_certificates(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("KEY")
    inline = base64.b64encode(b"CERT").decode()
    path = write(
        tmp_path / "config",
        user={"client-certificate-data": inline, "client-key": "key.pem"},
        cluster={"certificate-authority-data": base64.b64encode(b"CA").decode(), "tls-server-name": "k"},
    )
    found = load(path)
    assert (found.server, found.namespace, found.ca_pem, found.server_name) == ("https://h:6443", "team", "CA", "k")
    assert (found.certificate_pem, found.key_pem) == ("CERT", "KEY")
    assert "KEY" not in repr(found)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p.write_text("a: ["), "kubeconfig"),
        (lambda p: p.write_text("just text"), "holds no configuration"),
        (lambda p: p.write_text("contexts: []"), "no current-context"),
        (lambda p: p.write_text("current-context: gone"), "'gone' is not in it"),
        (lambda p: write(p, user={"exec": {"command": "x"}}), "'exec', which is not supported"),
        (lambda p: write(p, user={"client-key-data": "%%%"}), "client-key-data is not base64"),
        (lambda p: write(p, user={"client-key": "missing.pem"}), "missing.pem"),
        (lambda p: p.unlink(missing_ok=True), "No such file"),
    ],
)
def test_errors_name_the_file_and_a_remedy(tmp_path: Path, change: Any, text: str) -> None:
    path = tmp_path / "config"
    change(path)
    with pytest.raises(ConfigError, match=text) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_where_credentials_are_looked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "config")
    assert find(environ={"KUBECONFIG": f"/nowhere:{path}"}).namespace == "team"
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube/config")
    assert find(environ={"HOME": str(tmp_path)}).server == "https://h:6443"
    with pytest.raises(ConfigError, match="no credentials"):
        find(environ={"HOME": "/nowhere"})


def test_in_cluster(tmp_path: Path) -> None:
    for name, text in (("ca.crt", "CA"), ("namespace", "team\n"), ("token", "one\n")):
        (tmp_path / name).write_text(text)
    found = in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, root=tmp_path)
    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "team")
    source = TokenSource(found)
    assert source.current() == "one"
    (tmp_path / "token").write_text("the second\n")
    assert source.current() == "the second"
    (tmp_path / "token").unlink()
    with pytest.raises(ConfigError, match="token file"):
        source.current()
    with pytest.raises(ConfigError, match="service account"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "h"}, root=tmp_path / "none")
