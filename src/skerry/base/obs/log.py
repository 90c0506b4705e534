"""Structured logging over the standard library.

``log = get_log(__name__)``; ``log.info("pod.started", ns=…, name=…, took_s=…)``: a dotted event name, then fields.
``log.bind(node=…)`` gives a logger that adds fields to every line. Text on a terminal, JSON otherwise, always on
stderr. ERROR means that a person must act and carries ``hint``; WARNING means that we recover.
Fields whose name says token, secret, password, key or authorization are masked whatever the caller passes.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, TextIO

from skerry.base import json

_MASKED = ("token", "secret", "password", "authorization", "private_key")
_MASK = "***"


class Log:
    """A logger bound to some fields."""

    __slots__ = ("_fields", "_logger")

    def __init__(self, logger: logging.Logger, fields: dict[str, Any]) -> None:
        self._logger = logger
        self._fields = fields

    def bind(self, **fields: Any) -> Log:
        """A logger that adds ``fields`` to every line."""
        return Log(self._logger, self._fields | fields)

    def debug(self, event: str, **fields: Any) -> None:
        """Per message; guard it with ``is_debug`` on hot paths."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """One canonical line per connection, transition, join or configuration load."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something failed and we recover by ourselves."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, *, hint: str, **fields: Any) -> None:
        """A person must act; ``hint`` says how."""
        self._log(logging.ERROR, event, {**fields, "hint": hint})

    def exception(self, event: str, exc: BaseException, **fields: Any) -> None:
        """An unexpected exception: our bug, or a fault that nobody handles. Carries the traceback."""
        fields = {
            **fields,
            "error": str(exc) or type(exc).__name__,
            "hint": getattr(exc, "hint", "") or "see trace",
        }
        self._log(logging.ERROR, event, fields, exc)

    @property
    def is_debug(self) -> bool:
        """Whether debug lines are written."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def _log(self, level: int, event: str, fields: dict[str, Any], exc: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            exc_info = (type(exc), exc, exc.__traceback__) if exc is not None else None
            self._logger.log(level, event, exc_info=exc_info, extra={"fields": self._fields | fields})


def get_log(name: str) -> Log:
    """The logger of a module; pass ``__name__``."""
    return Log(logging.getLogger(name), {})


def setup(*, level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Send every ``skerry`` line to ``stream`` (stderr).

    Args:
        level: debug, info, warning or error.
        form: text, json, or auto (text on a terminal).
        stream: where lines go.
    """
    stream = stream or sys.stderr
    use_text = form == "text" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_TextFormatter() if use_text else _JsonFormatter())
    root = logging.getLogger("skerry")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def _masked(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: _MASK if any(m in k.lower() for m in _MASKED) else v for k, v in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = _masked(getattr(record, "fields", {}))
        line: dict[str, Any] = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        line.update((key, _plain(value)) for key, value in fields.items())
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line).decode()


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = _masked(getattr(record, "fields", {}))
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        tail = " ".join(f"{key}={_text(value)}" for key, value in fields.items())
        line = f"{clock} {record.levelname:<7} {record.getMessage():<24} {tail}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _text(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(_plain(value))
    return repr(text) if " " in text or text == "" else text
