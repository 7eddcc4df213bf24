"""The source of all random numbers: streams keyed by (seed, purpose, index), no global state."""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

BLOCK = 1024  # rows per stream in normals()


def key(seed: int, purpose: str, index: int = 0) -> int:
    """A 63-bit number that differs for every (seed, purpose, index)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """A NumPy generator for this seed, purpose and index."""
    return np.random.Generator(np.random.Philox(key=key(seed, purpose, index)))


def torch_stream(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """A CPU torch generator for this seed, purpose and index."""
    return torch.Generator().manual_seed(key(seed, purpose, index))


def normals(seed: int, purpose: str, start: int, stop: int, size: int) -> NDArray[np.float32]:
    """Rows start..stop of an endless standard normal table, float32 (stop - start, size).

    Row i depends on (seed, purpose, i, size) alone, not on the number of rows per call.
    """
    rows = [np.empty((0, size), np.float32)]
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        table = stream(seed, purpose, block).standard_normal((BLOCK, size), np.float32)
        first = block * BLOCK
        rows.append(table[max(start - first, 0) : stop - first])
    return np.concatenate(rows)
