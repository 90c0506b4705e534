"""Verbs as HTTP, and answers as objects or errors."""

from __future__ import annotations

import pytest

from skerry.api.gvk import DEPLOYMENTS, NODES, PODS
from skerry.api.status import ApiError, Conflict, Gone, NotFound, TooManyRequests, Unavailable
from skerry.base import json
from skerry.kube import requests
from skerry.kube.requests import Response


def test_paths_and_queries() -> None:
    assert requests.get(PODS, "p", "d", "status").path == "/api/v1/namespaces/d/pods/p/status"
    assert requests.get(NODES, "n", "ignored", None).path == "/api/v1/nodes/n"
    listing = requests.list_(DEPLOYMENTS, label_selector="a in (b,c)", limit=5)
    assert (listing.path, listing.query_string) == (
        "/apis/apps/v1/deployments",
        "labelSelector=a+in+%28b%2Cc%29&limit=5",
    )
    watch = requests.watch(PODS, resource_version="7", timeout_s=0.2)
    assert watch.query_string == "watch=1&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=1"


def test_delete_options() -> None:
    request = requests.delete(
        PODS, "p", namespace="d", grace_period_s=0, uid="u", resource_version=None, propagation="Foreground"
    )
    assert json.loads(request.body) == {
        "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"}, "propagationPolicy": "Foreground",
    }  # fmt: skip


def test_patch_types() -> None:
    request = requests.patch(
        PODS, "p", [{"op": "test"}], patch_type="json", namespace="d", subresource=None, field_manager="m"
    )
    assert (request.content_type, request.query_string) == ("application/json-patch+json", "fieldManager=m")


def test_list_items_get_their_kind() -> None:
    body = json.dumps({"metadata": {"resourceVersion": "9", "continue": "c"}, "items": [{"metadata": {"name": "p"}}]})
    page = requests.list_of(PODS, Response(200, body))
    assert page.items == [{"metadata": {"name": "p"}, "kind": "Pod", "apiVersion": "v1"}]
    assert (page.resource_version, page.continue_token) == ("9", "c")


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (404, {"kind": "Status", "reason": "NotFound", "message": "gone", "code": 404}, NotFound, "gone"),
        (409, {"kind": "Status", "reason": "Conflict", "message": "old"}, Conflict, "old"),
        (404, b"404 page not found\n", NotFound, "404 page not found"),
        (503, b"", Unavailable, "the server answered 503"),
        (502, b"<html>bad gateway", ApiError, "<html>bad gateway"),
    ],
)
def test_errors(status: int, body: object, kind: type[ApiError], text: str) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body)
    with pytest.raises(kind, match=text):
        requests.object_of(Response(status, raw))


def test_the_server_says_when_to_come_again() -> None:
    body = {"kind": "Status", "reason": "TooManyRequests", "code": 429, "details": {"retryAfterSeconds": 7}}
    error = requests.error_of(Response(429, json.dumps(body)))
    assert isinstance(error, TooManyRequests) and error.after_s == 7


def test_an_answer_that_is_no_object_is_not_believed() -> None:
    for body in (b"hello", b"[1]"):
        with pytest.raises(Unavailable):
            requests.object_of(Response(200, body))


def test_watch_lines() -> None:
    event = requests.event_of(b'{"type":"ADDED","object":{"metadata":{"name":"p"}}}')
    assert (event.type, event.object["metadata"]["name"]) == ("ADDED", "p")
    with pytest.raises(Gone, match="too old"):
        requests.event_of(b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}')
    with pytest.raises(NotFound):
        requests.event_of(b'{"type":"ERROR","object":{"kind":"Status","code":404,"message":"x"}}')
    with pytest.raises(Unavailable):
        requests.event_of(b'{"type":"ADD')
