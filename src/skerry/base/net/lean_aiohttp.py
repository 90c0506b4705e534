"""Import this before aiohttp: it keeps aiohttp from reading the system's authorities when it is imported.

aiohttp's client makes two TLS contexts as a module: 0.05 s and every public authority twice, of each process that only
serves. Ours are always made by ourselves and given to it, so what it would use by itself trusts nobody here.
"""

from __future__ import annotations

import ssl


def _no_authorities(*_: object, **__: object) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


_real = ssl.create_default_context
ssl.create_default_context = _no_authorities
try:
    import aiohttp
finally:
    ssl.create_default_context = _real

__all__ = ["aiohttp"]
