"""Arrays on disk: safetensors where loaded whole, .npy (no pickle) where memory-mapped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from controlgen.errors import ArtifactCorrupt, ArtifactMissing


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays, replaced whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    contiguous = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    safetensors.numpy.save_file(contiguous, partial)
    partial.replace(path)


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays. Raises ArtifactMissing, ArtifactCorrupt."""
    try:
        return dict(safetensors.numpy.load_file(path))
    except FileNotFoundError:
        raise ArtifactMissing(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactCorrupt(f"{path}: not readable as safetensors ({error})") from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors, replaced whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    safetensors.torch.save_file({k: v.contiguous() for k, v in tensors.items()}, partial)
    partial.replace(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors to the CPU. Raises ArtifactMissing, ArtifactCorrupt."""
    try:
        return dict(safetensors.torch.load_file(path))
    except FileNotFoundError:
        raise ArtifactMissing(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactCorrupt(f"{path}: not readable as safetensors ({error})") from None


def create_mapped(path: Path, shape: tuple[int, ...], dtype: Any) -> "np.memmap[Any, Any]":
    """A new memory-mapped .npy array to be filled and flushed."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def open_mapped(path: Path) -> NDArray[Any]:
    """A memory-mapped .npy array, read only. Raises ArtifactMissing, ArtifactCorrupt."""
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except FileNotFoundError:
        raise ArtifactMissing(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise ArtifactCorrupt(f"{path}: not a NumPy array ({error})") from None
