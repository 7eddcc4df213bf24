"""Row-wise parallelism whose results do not depend on the number of cores.

Sums that torch splits among threads differ in their last bit with the number of threads. So rows
are processed in small chunks, each in one thread, and the cores share the chunks: a few rows
through a small network are no slower in one thread, often faster, and many rows use all cores.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from controlgen.utils.cancellation import current_check

CHUNK_ROWS = 32  # rows per chunk


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Let torch use one thread, here and in threads started within."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def map_rows_deterministic(
    work: Callable[[NDArray[Any]], NDArray[Any]], rows: NDArray[Any]
) -> NDArray[Any]:
    """Apply `work` to n rows in chunks: the same bits with any number of threads.

    `work` is called from several threads at once, as many as torch is set to. It can be cancelled
    between chunks; see `controlgen.utils.cancellation`.
    """
    check = current_check()

    def checked(part: NDArray[Any]) -> NDArray[Any]:
        check()
        return work(part)

    parts = [rows[first : first + CHUNK_ROWS] for first in range(0, max(len(rows), 1), CHUNK_ROWS)]
    workers = min(len(parts), torch.get_num_threads())
    with single_threaded_torch():
        if workers == 1:
            return np.concatenate([checked(part) for part in parts])
        with ThreadPoolExecutor(workers) as pool:
            return np.concatenate(list(pool.map(checked, parts)))
