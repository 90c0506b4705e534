"""Give back what a start leaves behind: for programs that serve for long."""

from __future__ import annotations

import ctypes
import gc


def settle() -> None:
    """Collect garbage, leave out of later collections what lives now, and return free memory to the kernel.

    The last is a matter of glibc; with another C library its free memory stays where it is.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
