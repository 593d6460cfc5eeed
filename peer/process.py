"""Settings of the whole process: the interpreter's lock, memory that is freed, the way to a keystream, open files.

Neighbours: ``peer.commands.run`` and ``peer.bench`` call ``tune_process`` once, before any vector exists.
Invariants: nothing but time and memory depends on them; where the C library is not glibc its part does nothing.

**The lock.**  A thread that wants the interpreter lock asks for it after the switch interval.  Work of a few
milliseconds runs in threads in many small steps, each of which may come back to the lock before the event loop has
woken up, so every system call in a callback could cost the loop a whole interval; at Python's 5 ms that adds up.

**Memory.**  Bodies and vectors of megabytes come and go once per message.  By default glibc maps each afresh and unmaps
it again, and the page faults cost more CPU time than the copies.

**The keystream.**  There are two ways to compute it (``protocol.masking.prg``), and it depends on the processor which
is the quicker: both are tried, for about a millisecond.

**Open files.**  Every connection is one.  Systems often let a process have 1,024, and more if it asks.
"""

import contextlib
import ctypes
import platform
import resource
import sys
import time

from protocol.masking import prg

SWITCH_INTERVAL_S = 5e-4
KEPT_BYTES = 64 * 2**20
"""What a process keeps, at most, of memory that it does not use."""
_TRIES, _TRIED_BYTES = 5, 2**19
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of glibc's ``malloc.h``."""


def tune_process() -> None:
    """All of these settings, for the rest of the process's life."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    keep_freed_memory()
    prg.set_way(quicker_way())
    allow_open_files()


def allow_open_files() -> None:
    """Ask for as many open files as this process may have; where that is refused, it stays as it was."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def quicker_way() -> prg.Way:
    """The way to a long keystream that takes less CPU time here.  Sets none."""
    times = {way: min(_seconds(way) for _ in range(_TRIES)) for way in prg.Way}
    return min(times, key=lambda way: times[way])


def _seconds(way: prg.Way) -> float:
    stream, room = prg.Keystream(bytes(prg.SEED_BYTES), _TRIED_BYTES, way), prg.room_for(_TRIED_BYTES).data
    before = time.thread_time()
    stream.read_into(room, _TRIED_BYTES)
    return time.thread_time() - before


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


def processor() -> str:
    """The name of this machine's processor, as far as it is known."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown processor"
