"""Let freed memory stay with the process, so that the next step need not ask the system for it again.

A training step makes and drops arrays of megabytes. By default glibc gives each of them back to the system at once, and the
next one costs a page fault for every 4 kB: a third of the time of a LeNet step. Keeping up to a gigabyte mends this for every
rule without a line in any of them. Set TINYGRAD_LITE_KEEP_MEMORY=0 to leave the allocator alone.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT = 1 << 30  # bytes; larger arrays still go back at once, and so does more than this in one piece


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory; say whether it does. Elsewhere nothing happens."""
    if sys.platform != "linux" or os.environ.get("TINYGRAD_LITE_KEEP_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # Some versions take no threshold for mmap above 32 MiB.
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in (KEPT, 32 << 20)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
