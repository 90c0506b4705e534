"""Versions of custom resources that a webhook turns into each other.

Objects are stored in the CRD's storage version of that moment; the member ``@version`` says which, as the storage
version may change later. It is never served. Without a webhook all versions have the same form.

Source: apiextensions-apiserver pkg/apiserver/conversion/webhook_converter.go (v1.36).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import InternalError
from skerry.apiserver.registry import Kind
from skerry.apiserver.store.entry import Entry, encode
from skerry.apiserver.webhooks.client import WebhookClient, WebhookFailed
from skerry.base.json import deep_copy

STORED_VERSION = "@version"
REVIEW_VERSIONS = ("v1", "v1beta1")
TIMEOUT_S = 30.0
_MARK = b'"@version":'
_MUTABLE_METADATA = ("labels", "annotations")


class Conversions:
    """Turns objects of a custom resource into the version that is wanted.

    Args:
        client: reaches webhooks.
    """

    def __init__(self, client: WebhookClient) -> None:
        self._client = client

    async def shown(self, kind: Kind, entries: Sequence[Entry]) -> list[Entry]:
        """Entries of the store as the version of ``kind`` shows them.

        Raises:
            InternalError: the webhook failed.
        """
        if kind.custom is None or (kind.custom.conversion is None and not any(_MARK in e.body for e in entries)):
            return list(entries)
        contents = [entry.content() for entry in entries]
        shown = await self._between(kind, [(self._version(kind, each), each) for each in contents])
        return [
            Entry(entry.key, entry.uid, entry.crv, entry.rv, encode(content))
            for entry, content in zip(entries, shown, strict=True)
        ]

    async def content(self, kind: Kind, entry: Entry) -> Object:
        """The content of one entry as the version of ``kind`` shows it."""
        return (await self.shown(kind, [entry]))[0].content()

    async def to_store(self, kind: Kind, obj: Object) -> Object:
        """An object in the version of ``kind`` as it is stored.

        Raises:
            InternalError: the webhook failed.
        """
        custom = kind.custom
        if custom is None or custom.conversion is None:
            return obj
        wanted = custom.storage_version
        stored = (await self._convert(kind, [(kind.resource.version, obj)], wanted))[0]
        return {**stored, STORED_VERSION: wanted}

    async def row(self, kind: Kind, row: Kind, obj: Object) -> Object:
        """An object in the version of ``kind`` in that of another row of the same resource."""
        if kind.custom is None or kind.custom.conversion is None or kind.resource.version == row.resource.version:
            return obj
        return (await self._convert(kind, [(kind.resource.version, obj)], row.resource.version))[0]

    @staticmethod
    def _version(kind: Kind, content: Object) -> str:
        assert kind.custom is not None
        return str(content.pop(STORED_VERSION, "") or kind.custom.storage_version)

    async def _between(self, kind: Kind, objects: list[tuple[str, Object]]) -> list[Object]:
        assert kind.custom is not None
        if kind.custom.conversion is None:
            return [obj for _, obj in objects]
        return await self._convert(kind, objects, kind.resource.version)

    async def _convert(self, kind: Kind, objects: list[tuple[str, Object]], wanted: str) -> list[Object]:
        places = [index for index, (version, _) in enumerate(objects) if version != wanted]
        found = [obj for _, obj in objects]
        if not places:
            return found
        group, name = kind.resource.group, kind.resource.kind
        asked = [
            {"kind": name, "apiVersion": f"{group}/{objects[at][0]}", **deep_copy(objects[at][1])} for at in places
        ]
        try:
            answers = await self._ask(kind, asked, f"{group}/{wanted}")
        except WebhookFailed as exc:
            text = f"conversion webhook for {group}/{objects[places[0]][0]}, Kind={name} failed: {exc}"
            raise InternalError(text) from exc
        for at, answer in zip(places, answers, strict=True):
            found[at] = _checked(objects[at][1], answer, f"{group}/{wanted}", name)
        return found

    async def _ask(self, kind: Kind, objects: list[Object], wanted: str) -> list[Any]:
        assert kind.custom is not None
        assert kind.custom.conversion is not None
        webhook = kind.custom.conversion
        version = _first_common(webhook.get("conversionReviewVersions") or ())
        uid = str(uuid.uuid4())
        body = {
            "kind": "ConversionReview",
            "apiVersion": f"apiextensions.k8s.io/{version}",
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects},
        }
        answer = await self._client.post(webhook.get("clientConfig") or {}, body, timeout_s=TIMEOUT_S)
        response = answer.get("response") if isinstance(answer, dict) else None
        if not isinstance(response, dict):
            raise WebhookFailed("the answer has no response")
        if version == "v1" and response.get("uid") != uid:
            raise WebhookFailed(f"expected response.uid={uid!r}, got {response.get('uid')!r}")
        result = response.get("result") or {}
        if result.get("status") != "Success":
            raise WebhookFailed(str(result.get("message") or "conversion request failed without explanation"))
        converted = response.get("convertedObjects")
        if not isinstance(converted, list) or len(converted) != len(objects):
            count = len(converted) if isinstance(converted, list) else 0
            raise WebhookFailed(f"webhook returned {count} objects, expected {len(objects)}")
        return converted


def _first_common(versions: Iterable[str]) -> str:
    found = next((each for each in versions if each in REVIEW_VERSIONS), None)
    if found is None:
        raise WebhookFailed("the webhook accepts no known ConversionReview version (v1, v1beta1)")
    return found


def _checked(before: Object, after: Any, api_version: str, kind: str) -> Object:
    """What a webhook made of an object; of its metadata only labels and annotations count.

    Raises:
        InternalError: it is another object now.
    """
    name = (before.get("metadata") or {}).get("name", "")
    if not isinstance(after, dict) or not isinstance(after.get("metadata"), dict):
        raise InternalError(f"conversion webhook returned no object for {name!r}")
    if (after.get("apiVersion"), after.get("kind")) != (api_version, kind):
        raise InternalError(
            f"conversion webhook returned invalid converted object: {after.get('apiVersion')}, {after.get('kind')} "
            f"instead of {api_version}, {kind}"
        )
    old = before["metadata"]
    for key in ("name", "namespace", "uid"):
        if after["metadata"].get(key) != old.get(key):
            raise InternalError(f"conversion webhook returned invalid metadata: {key} of {name!r} must not change")
    meta = {key: value for key, value in old.items() if key not in _MUTABLE_METADATA}
    meta |= {key: after["metadata"][key] for key in _MUTABLE_METADATA if after["metadata"].get(key)}
    rest = {key: value for key, value in after.items() if key not in ("metadata", "kind", "apiVersion")}
    return {"metadata": meta, **rest}
