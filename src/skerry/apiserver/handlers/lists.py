"""Options of lists and watches, and the continue token (pure).

Source: Kubernetes apiserver/pkg/storage/continue.go, apimachinery/pkg/apis/meta/internalversion/validation (v1.36).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from skerry.api.status import BadRequest, Invalid, ServerTimeout
from skerry.apiserver.request_info import RequestInfo, invalid_options
from skerry.base import json
from skerry.base.values import Struct

_WATCH_MATCH = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
_LONE_MATCH = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
_EXACT_ZERO = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'


class ListOptions(Struct, frozen=True):
    """What a list, watch or collection delete asks for.

    Args:
        resource_version: as sent; empty for the newest state.
        match: ``Exact``, ``NotOlderThan`` or empty.
        send_initial: tri-state of ``sendInitialEvents``.
    """

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    match: str = ""
    limit: int = 0
    continue_token: str = ""
    timeout_s: float | None = None
    wants_bookmarks: bool = False
    send_initial: bool | None = None

    @property
    def rv(self) -> int:
        """The revision, 0 when unset."""
        return int(self.resource_version or 0)

    def at_rv(self, current_rv: int) -> int | None:
        """The revision whose state a list must show; None for the newest.

        Raises:
            ServerTimeout: a revision that is not there yet.
        """
        if self.rv == 0:
            return None
        is_exact = self.match == "Exact" or (not self.match and self.limit > 0)
        if self.rv > current_rv:
            raise _too_large(self.rv, current_rv)
        return self.rv if is_exact else None


def list_options(info: RequestInfo) -> ListOptions:
    """Read and check the query of a list, watch or collection delete.

    Raises:
        BadRequest: a value that is no number, or a continue token beside a resourceVersion.
        Invalid: values that do not go together.
    """
    query = info.query
    options = ListOptions(
        label_selector=query.get("labelSelector", ""),
        field_selector=query.get("fieldSelector", ""),
        resource_version=query.get("resourceVersion", ""),
        match=query.get("resourceVersionMatch", ""),
        limit=_number(query.get("limit", ""), "limit"),
        continue_token=query.get("continue", ""),
        timeout_s=float(_number(query.get("timeoutSeconds", ""), "timeoutSeconds")) or None,
        wants_bookmarks=info.flag("allowWatchBookmarks"),
        send_initial=None if "sendInitialEvents" not in query else info.flag("sendInitialEvents"),
    )
    _check_version(options)
    _check_match(options, is_watch=info.verb == "watch")
    return options


def _number(text: str, name: str) -> int:
    if not text:
        return 0
    try:
        return max(0, int(text))
    except ValueError as exc:
        raise BadRequest(f'{name}: Invalid value: "{text}": must be a number') from exc


def _check_version(options: ListOptions) -> None:
    text = options.resource_version
    if text and not (text.isascii() and text.isdigit()):
        raise BadRequest(
            f'invalid resource version: resourceVersion: Invalid value: "{text}": '
            f'strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    if text and (len(text) > 20 or int(text) >= 1 << 64):
        raise BadRequest(
            f'invalid resource version: resourceVersion: Invalid value: "{text[:40]}": '
            f'strconv.ParseUint: parsing "{text[:40]}": value out of range'
        )
    if options.continue_token and options.rv:
        raise BadRequest("specifying resource version is not allowed when using continue")


def _check_match(options: ListOptions, *, is_watch: bool) -> None:
    match = options.match
    if options.send_initial is not None and not is_watch:
        raise _refused("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list")
    if options.send_initial is not None and match != "NotOlderThan":
        raise _refused(
            "resourceVersionMatch", "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
    if not match:
        return
    if match not in ("Exact", "NotOlderThan"):
        raise invalid_options(
            "ListOptions",
            "resourceVersionMatch",
            f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""',
            "FieldValueNotSupported",
        )
    if is_watch and options.send_initial is None:
        raise _refused("resourceVersionMatch", _WATCH_MATCH)
    if is_watch:
        return
    if not options.resource_version:
        raise _refused("resourceVersionMatch", _LONE_MATCH)
    if options.continue_token:
        raise _refused("resourceVersionMatch", "Forbidden: resourceVersionMatch is forbidden when continue is provided")
    if match == "Exact" and options.rv == 0:
        raise _refused("resourceVersionMatch", _EXACT_ZERO)


def _refused(field: str, text: str) -> Invalid:
    return invalid_options("ListOptions", field, text, "FieldValueForbidden")


def _too_large(rv: int, current_rv: int) -> ServerTimeout:
    return ServerTimeout(
        f"Timeout: Too large resource version: {rv}, current: {current_rv}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )


def encode_continue(rv: int, start: str) -> str:
    """An opaque token: go on after ``start`` in the state of ``rv`` (-1: in the newest state)."""
    data = json.dumps({"v": "meta.k8s.io/v1", "rv": rv, "start": start + "\0"})
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_continue(token: str) -> tuple[str, int]:
    """``start`` and ``rv`` of a token.

    Raises:
        BadRequest: not one of our tokens.
    """
    try:
        data: Any = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        start, rv = data["start"], data["rv"]
        if not isinstance(start, str) or not isinstance(rv, int):
            raise TypeError
    except (ValueError, KeyError, TypeError, binascii.Error) as exc:
        raise BadRequest("continue key is not valid") from exc
    return start.rstrip("\0"), rv
