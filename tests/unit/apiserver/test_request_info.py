"""From paths to what is asked for."""

from __future__ import annotations

import pytest

from skerry.api.status import Invalid
from skerry.apiserver.request_info import parse, write_options


@pytest.mark.parametrize(
    ("method", "path", "query", "verb", "place"),
    [
        ("GET", "/api/v1/namespaces/default/pods/a", "", "get", ("", "v1", "pods", "", "default", "a")),
        ("GET", "/api/v1/pods", "", "list", ("", "v1", "pods", "", "", "")),
        ("GET", "/api/v1/pods", "watch=true", "watch", ("", "v1", "pods", "", "", "")),
        ("GET", "/api/v1/watch/pods", "", "watch", ("", "v1", "pods", "", "", "")),
        ("GET", "/api/v1/namespaces/default/pods/a", "watch=1", "get", ("", "v1", "pods", "", "default", "a")),
        (
            "GET",
            "/apis/apps/v1/namespaces/x/deployments",
            "fieldSelector=metadata.name%3Dd",
            "list",
            ("apps", "v1", "deployments", "", "x", "d"),
        ),
        (
            "GET",
            "/api/v1/namespaces/x/secrets",
            r"fieldSelector=type!%3Dx\,metadata.name%3Dmine",
            "list",
            ("", "v1", "secrets", "", "x", ""),
        ),
        (
            "DELETE",
            "/api/v1/namespaces/x/secrets",
            r"fieldSelector=type!%3Dx\,metadata.name\%3Dmine",
            "deletecollection",
            ("", "v1", "secrets", "", "x", ""),
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/x/deployments/d/scale",
            "",
            "patch",
            ("apps", "v1", "deployments", "scale", "x", "d"),
        ),
        ("DELETE", "/api/v1/namespaces/x/pods", "", "deletecollection", ("", "v1", "pods", "", "x", "")),
        ("POST", "/api/v1/namespaces", "", "create", ("", "v1", "namespaces", "", "", "")),
        ("GET", "/api/v1/namespaces/x", "", "get", ("", "v1", "namespaces", "", "x", "x")),
        ("PUT", "/api/v1/namespaces/x/finalize", "", "update", ("", "v1", "namespaces", "finalize", "x", "x")),
        ("PUT", "/api/v1/namespaces/x/status", "", "update", ("", "v1", "namespaces", "status", "x", "x")),
    ],
)
def test_resource_paths(method: str, path: str, query: str, verb: str, place: tuple[str, ...]) -> None:
    info = parse(method, path, query)
    assert info.is_resource
    assert info.verb == verb
    assert (info.group, info.version, info.resource, info.subresource, info.namespace, info.name) == place


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version/", "/openapi/v3/api/v1"]
)
def test_other_paths(path: str) -> None:
    info = parse("GET", path)
    assert not info.is_resource
    assert info.verb == "get"


def test_write_options_are_checked() -> None:
    assert write_options(parse("POST", "/api/v1/pods", "dryRun=All&fieldValidation=Strict")).is_dry_run
    for query in ("dryRun=Some", "fieldValidation=Maybe", f"fieldManager={'x' * 129}", "fieldManager=%01"):
        with pytest.raises(Invalid):
            write_options(parse("POST", "/api/v1/pods", query))


def test_field_manager_defaults_to_the_first_word_of_the_agent() -> None:
    info = parse("POST", "/api/v1/pods")
    assert write_options(info, user_agent="kubectl/v1.30.0 (linux/amd64)").field_manager == "kubectl"
