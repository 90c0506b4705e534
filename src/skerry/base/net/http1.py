"""HTTP/1.1 over bytes that somebody else carries: read an answer, write a request head. A door to h11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import h11

from skerry.base.errors import SkerryError
from skerry.base.values import Struct

_HEAD_LIMIT = 64 * 1024


class BadAnswer(SkerryError):
    """The bytes are not an HTTP/1.1 answer, or end too early."""


class AnswerHead(Struct, frozen=True):
    """Status and headers (lower-case names) of an answer."""

    status: int
    headers: Mapping[str, str]


class AnswerReader:
    """Feed it the bytes that follow a request; it gives the head and then pieces of the body."""

    def __init__(self, method: str = "GET") -> None:
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)
        self._h11.send(h11.Request(method=method, target="/", headers=[("Host", "node")]))
        self._h11.send(h11.EndOfMessage())
        self.head: AnswerHead | None = None
        self.is_complete = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes (empty: the end); returns pieces of the body.

        Raises:
            BadAnswer: malformed or cut off.
        """
        pieces: list[bytes] = []
        try:
            if self.is_complete:
                return pieces
            self._h11.receive_data(data)
            while not self.is_complete and (event := self._h11.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in event.headers}
                    self.head = AnswerHead(event.status_code, headers)
                elif isinstance(event, h11.Data):
                    pieces.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    self.is_complete = True
                elif event is h11.PAUSED:
                    break
        except h11.RemoteProtocolError as exc:
            raise BadAnswer(f"the node's answer is not HTTP: {exc}") from exc
        return pieces


def request_head(method: str, path: str, query: str, headers: Mapping[str, Sequence[str]]) -> bytes:
    """The head of a request without a body.

    Raises:
        ValueError: a control character in a part.
    """
    target = f"{path}?{query}" if query else path
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, values in headers.items() for value in values]
    text = "\r\n".join(lines)
    if any(ord(c) < 32 for line in lines for c in line):
        raise ValueError("control character in request head")
    return (text + "\r\n\r\n").encode("latin-1")
