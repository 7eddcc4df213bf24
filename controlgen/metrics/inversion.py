"""How well images made from features return what was asked: one number an item, except R^2."""

import numpy as np
from numpy.typing import NDArray

from controlgen.images import to_unit
from controlgen.types import Features, Latents, Pixels


def unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows (n d) scaled to length one; a row of zeros stays zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


def paired_cosine(
    asked: NDArray[np.floating], obtained: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Cosine, -1..1, of each row asked (n d) with the row obtained for it: (n)."""
    products = np.einsum("nd,nd->n", asked.astype(np.float64), obtained.astype(np.float64))
    lengths = np.linalg.norm(asked, axis=1) * np.linalg.norm(obtained, axis=1)
    return np.asarray(products / np.maximum(lengths, 1e-12))


def recall_at_1(asked: Features, obtained: Features) -> NDArray[np.float64]:
    """1 where the nearest of the n asked features (n d) by cosine is its own, else 0: (n)."""
    nearest = (unit_rows(obtained) @ unit_rows(asked).T).argmax(1)
    return np.asarray(nearest == np.arange(len(asked)), np.float64)


def latent_r2(asked: Latents, obtained: Latents) -> float:
    """Share of the latents' variance explained, 1 - SSE / SST pooled over all n x z numbers."""
    residual = np.square(asked.astype(np.float64) - obtained).sum()
    total = np.square(asked - asked.mean(0, dtype=np.float64)).sum()
    return float(1 - residual / total)


def shell_norm(latents: Latents) -> NDArray[np.float64]:
    """|z| / sqrt(size) of each latent: (n); near 1 for the normal latents a generator knows."""
    return np.asarray(
        np.linalg.norm(latents.astype(np.float64), axis=1) / np.sqrt(latents.shape[1])
    )


def pixel_error(asked: Pixels, obtained: Pixels) -> NDArray[np.float64]:
    """Mean squared pixel difference of each pair, in the networks' range -1..1: (n), 0..4."""
    difference = to_unit(asked) - to_unit(obtained)
    return np.asarray(difference.square().flatten(1).mean(1).numpy(), np.float64)


def orthogonal_cosine(
    before: NDArray[np.floating], after: NDArray[np.floating], directions: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Cosine of rows before and after (n d), each row's direction (n d) projected out: (n)."""
    axes = unit_rows(directions).astype(np.float64)
    kept = [rows - (rows * axes).sum(1, keepdims=True) * axes for rows in (before, after)]
    return paired_cosine(kept[0], kept[1])
