"""Let freed memory stay with the process, so that the next step need not ask the system for it again.

A training step makes and drops arrays of megabytes. By default glibc gives each of them back to the system at once, and the
next one costs a page fault for every 4 kB: a third of the time of a LeNet step. Keeping up to a gigabyte mends this for every
rule without a line in any of them.

And let the cycle collector come less often. A graph is freed as backward passes, without its help, but while it grows the
collector goes through it again and again: at 100,000 operations that was three quarters of the time.

Set TINYGRAD_LITE_KEEP_MEMORY=0 to leave both as they are.
"""

import ctypes
import gc
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT = 1 << 30  # bytes; larger arrays still go back at once, and so does more than this in one piece

YOUNG = 10_000  # objects made before the cycle collector looks at them; Python's own number is 700, or 2,000 in newer ones


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory, and say whether it does; have cycles collected less often."""
    if os.environ.get("TINYGRAD_LITE_KEEP_MEMORY") == "0":
        return False
    young, *older = gc.get_threshold()
    if 0 < young < YOUNG:
        gc.set_threshold(YOUNG, *older)
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # Some versions take no threshold for mmap above 32 MiB.
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in (KEPT, 32 << 20)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
