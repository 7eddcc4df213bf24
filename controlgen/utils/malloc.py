"""Freed memory is kept by the process, for the next step asks for the same again."""

import ctypes
import sys

# What glibc calls them (malloc.h); the most it takes for the second on 64 bits is 32 MB.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
MEGABYTE = 2**20


def retain_freed_memory() -> bool:
    """Let glibc keep what is freed, in blocks of up to 32 MB, instead of handing it back.

    Handed back, every page of every step's activations is cleared and mapped anew by the kernel,
    which small networks on a CPU feel (`benchmarks/speed.py` measures it). It holds for the whole
    process, which then stays as large as it once was, so only programs of long work ask for it.
    Returns whether it was done; other allocators than glibc's go on as they are.
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
