"""Import this before aiohttp: it keeps aiohttp from work and memory of which a process that only serves has no use.

aiohttp's client makes two TLS contexts as a module: 0.05 s and every public authority twice. Ours are always made by
ourselves and given to it, so what it would use by itself trusts nobody here. And its type variables have defaults,
which this Python's typing lacks: for them it imports typing_extensions, 4 MB that nothing reads at run time.
"""

from __future__ import annotations

import ssl
import sys
import typing
from types import ModuleType
from typing import Any

_NEWER = "typing_extensions"


def _no_authorities(*_: object, **__: object) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _LeanTyping(ModuleType):
    """typing, with type variables that forget their defaults."""

    @staticmethod
    def TypeVar(*names: Any, default: object = None, **more: Any) -> Any:
        return typing.TypeVar(*names, **more)

    @staticmethod
    def TypeVarTuple(name: str, *, default: object = None) -> Any:
        return typing.TypeVarTuple(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(typing, name)


def _load() -> ModuleType:
    real = ssl.create_default_context
    ssl.create_default_context = _no_authorities
    is_hidden = _NEWER not in sys.modules
    if is_hidden:
        sys.modules[_NEWER] = _LeanTyping(_NEWER)
    try:
        import aiohttp
        import aiohttp.web
    finally:
        ssl.create_default_context = real
        if is_hidden:
            del sys.modules[_NEWER]
    return aiohttp


_load()

import aiohttp  # noqa: E402

__all__ = ["aiohttp"]
