"""Arrays on disk: safetensors for arrays loaded whole, .npy without pickle for memory maps."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
import safetensors.torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from controlgen.errors import ArtifactCorrupt, ArtifactMissing
from controlgen.utils.files import atomic_write

Loaded = TypeVar("Loaded")


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays atomically."""
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    with atomic_write(path) as partial:
        safetensors.numpy.save_file(contiguous, partial)


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays. Raises ArtifactMissing, ArtifactCorrupt."""
    return dict(_load(path, safetensors.numpy.load_file, "not readable as safetensors"))


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors atomically."""
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    with atomic_write(path) as partial:
        safetensors.torch.save_file(contiguous, partial)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors to the CPU. Raises ArtifactMissing, ArtifactCorrupt."""
    return dict(_load(path, safetensors.torch.load_file, "not readable as safetensors"))


def create_memmap(path: Path, shape: tuple[int, ...], dtype: Any) -> "np.memmap[Any, Any]":
    """A new memory-mapped .npy array, to be filled and flushed."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def open_memmap(path: Path) -> NDArray[Any]:
    """A read-only memory-mapped .npy array. Raises ArtifactMissing, ArtifactCorrupt."""
    return np.asarray(_load(path, np.lib.format.open_memmap, "not a NumPy array", mode="r"))


def _load(path: Path, load: Callable[..., Loaded], problem: str, **options: Any) -> Loaded:
    try:
        return load(path, **options)
    except FileNotFoundError:
        raise ArtifactMissing(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactCorrupt(f"{path}: {problem} ({error})") from None
