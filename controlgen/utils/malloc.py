"""Keep freed memory in the process: the next training step needs the same amount again."""

import ctypes
import sys

# Constants of glibc's malloc.h; on 64 bits the mmap threshold is at most 32 MB.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MEGABYTE = 2**20


def retain_freed_memory() -> bool:
    """Let glibc keep freed blocks of up to 32 MB instead of returning them to the kernel.

    Returned pages must be cleared and mapped again for the activations of every step, which slows
    small networks on a CPU: `benchmarks/speed.py` measured a ratio of 1.15 to 1.31 in images per
    second. It applies to the whole process, which never shrinks again, so only long trainings use
    it. Returns whether it was set; other allocators than glibc's are left as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done = (
        mallopt(M_MMAP_THRESHOLD, 32 * MEGABYTE),
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1),
        mallopt(M_TOP_PAD, 256 * MEGABYTE),
    )
    return all(done)
