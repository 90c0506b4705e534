"""Which credentials fit which image."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from skerry.base import json
from skerry.runtime.cri.credentials import auths_for, registry_of


def secret(auths: dict[str, Any]) -> dict[str, Any]:
    return {"data": {".dockerconfigjson": base64.b64encode(json.dumps({"auths": auths})).decode()}}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nginx", ("docker.io", "library/nginx")),
        ("nginx:1.27", ("docker.io", "library/nginx")),
        ("me/app:1", ("docker.io", "me/app")),
        ("ghcr.io/a/b@sha256:00", ("ghcr.io", "a/b")),
        ("localhost:5000/app:2", ("localhost:5000", "app")),
    ],
)
def test_registry_of(image: str, expected: tuple[str, str]) -> None:
    assert registry_of(image) == expected


def test_the_most_specific_entry_comes_first() -> None:
    auths = {"ghcr.io": {"auth": "YTpi"}, "https://ghcr.io/team": {"username": "u", "password": "p"}}
    assert auths_for("ghcr.io/team/app:1", [secret(auths)]) == [
        {"username": "u", "password": "p"},
        {"auth": "YTpi"},
    ]
    assert auths_for("ghcr.io/teams/app", [secret(auths)]) == [{"auth": "YTpi"}]


@pytest.mark.parametrize("server", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
def test_names_of_docker_hub(server: str) -> None:
    assert len(auths_for("nginx", [secret({server: {"auth": "x"}})])) == 1


def test_wildcards_stand_for_one_label() -> None:
    auths = {"*.example.com": {"auth": "x"}}
    assert auths_for("eu.example.com/a", [secret(auths)])
    assert not auths_for("a.eu.example.com/a", [secret(auths)])
    assert not auths_for("example.org/a", [secret(auths)])


@pytest.mark.parametrize("data", [{}, {".dockerconfigjson": "%%%"}, {".dockerconfigjson": "bm90IGpzb24="}])
def test_unreadable_secrets_are_left_out(data: dict[str, str]) -> None:
    assert auths_for("nginx", [{"data": data}, {}]) == []
