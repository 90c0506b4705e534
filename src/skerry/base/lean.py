"""Import this before ``shutil``: it keeps that from loading compressors, for archives that we never make with it.

They are two libraries of C with what Python puts around them: a third of a megabyte in each agent. Whoever wants them
(``tarfile`` for an archive that is compressed) gets them still.
"""

from __future__ import annotations

import sys

_COMPRESSORS = [name for name in ("bz2", "lzma") if name not in sys.modules]
for _name in _COMPRESSORS:
    sys.modules[_name] = None  # type: ignore[assignment]
try:
    import shutil
finally:
    for _name in _COMPRESSORS:
        del sys.modules[_name]

__all__ = ["shutil"]
