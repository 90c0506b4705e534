"""Values: classes of named fields that are equal when their fields are. The only door to msgspec.

``class Point(Struct, frozen=True)``; why not dataclasses, and where they stay: docs/decisions/0071. Where msgspec has
no wheel and was not built (armv7), dataclasses do the same and take more memory. Pure: open to ``wire`` and ``api``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

__all__ = ["Struct", "asdict", "field", "replace"]

# msgspec asks typing_extensions, where it is installed, for what this Python has by itself: 1.5 MB for nothing.
_IS_HIDDEN = "typing_extensions" not in sys.modules
if _IS_HIDDEN:
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
try:
    import msgspec as msgspec
    from msgspec import Struct, field
    from msgspec.structs import asdict, replace
except ImportError:
    if not TYPE_CHECKING:
        from dataclasses import asdict, dataclass, field, fields, replace

        class Struct:
            """Makes a dataclass of each class that is derived from it."""

            def __init_subclass__(cls, *, frozen: bool = False, eq: bool = True, order: bool = False) -> None:
                super().__init_subclass__()
                dataclass(frozen=frozen, eq=eq, order=order)(cls)
                cls.__struct_fields__ = tuple(each.name for each in fields(cls))

finally:
    if _IS_HIDDEN:
        del sys.modules["typing_extensions"]
