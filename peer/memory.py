"""The C library's heap: freed vectors are kept for the next ones instead of going back to the kernel at once.

Neighbours: ``peer.commands.run`` and ``peer.bench`` call it once, before any vector exists.
Invariants: does nothing where the C library is not glibc; a process keeps at most ``KEPT_BYTES`` that it does not use.

Bodies and vectors of megabytes come and go once per message.  By default glibc maps each afresh and unmaps it again,
and the page faults cost more CPU time than the copies.
"""

import ctypes
import sys

KEPT_BYTES = 64 * 2**20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of glibc's ``malloc.h``."""


def keep_freed_memory() -> bool:
    """Set both thresholds to ``KEPT_BYTES`` (glibc caps the second at 32 MiB); whether the C library took them."""
    if sys.platform != "linux":
        return False
    try:
        library = ctypes.CDLL(None)
        gnu, mallopt = library.gnu_get_libc_version, library.mallopt
    except (OSError, AttributeError):
        return False
    del gnu
    mapped = bool(mallopt(_MMAP_THRESHOLD, KEPT_BYTES // 2))
    return bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES)) and mapped
