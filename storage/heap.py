"""Heap: memory that was freed goes back to the system, where the C library can do that."""

from __future__ import annotations

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not.


def give_back() -> None:
    """Give back the free pages between those in use, which glibc keeps for ever else.

    Blocks for some milliseconds; gives up the GIL, but who allocates waits.
    """
    if _trim is not None:
        _trim(ctypes.c_size_t(0))
