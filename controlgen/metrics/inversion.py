"""Metrics of images generated from target features: one value per item, except R^2."""

import numpy as np
from numpy.typing import NDArray

from controlgen.images import to_signed_float
from controlgen.types import Features, Latents, Pixels
from controlgen.utils.rows import EPS, normalize_rows


def paired_cosine(
    targets: NDArray[np.floating], results: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Cosine, -1..1, of each target row (n d) with the row obtained for it: (n)."""
    products = np.einsum("nd,nd->n", targets.astype(np.float64), results.astype(np.float64))
    lengths = np.linalg.norm(targets, axis=1) * np.linalg.norm(results, axis=1)
    return np.asarray(products / np.maximum(lengths, EPS))


def recall_at_1(targets: Features, results: Features) -> NDArray[np.float64]:
    """1 if the nearest of the n target features (n d) by cosine is the item's own, else 0: (n)."""
    nearest = (normalize_rows(results) @ normalize_rows(targets).T).argmax(1)
    return np.asarray(nearest == np.arange(len(targets)), np.float64)


def latent_r2(targets: Latents, predictions: Latents) -> float:
    """Share of the latents' variance explained, 1 - SSE / SST pooled over all n x z numbers."""
    residual = np.square(targets.astype(np.float64) - predictions).sum()
    total = np.square(targets - targets.mean(0, dtype=np.float64)).sum()
    return float(1 - residual / total)


def weighted_r2(
    targets: Latents, predictions: Latents, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`latent_r2` of the n items, each counted as often as its weight (draws n) says: (draws).

    0 where a draw holds latents of one kind only.
    """
    residual = np.square(targets.astype(np.float64) - predictions).sum(1)
    centred = targets - targets.mean(0, dtype=np.float64)
    total = weights @ np.square(centred).sum(1)
    total -= np.square(weights @ centred).sum(1) / weights.sum(1)
    return np.asarray(np.where(total > 0, 1 - weights @ residual / np.maximum(total, EPS), 0.0))


def weighted_correlation(
    x: NDArray[np.floating], y: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pearson's correlation of x (n) and y (n) by weights (draws n): (draws), 0 if one is
    constant.

    Integer weights have the same effect as repeated items.
    """
    a, b = x - np.mean(x, dtype=np.float64), y - np.mean(y, dtype=np.float64)
    n = weights.sum(1)
    spread = [
        weights @ (p * q) - (weights @ p) * (weights @ q) / n for p, q in ((a, b), (a, a), (b, b))
    ]
    scale = np.sqrt(np.maximum(spread[1], 0) * np.maximum(spread[2], 0))
    return np.asarray(np.where(scale > EPS, spread[0] / np.maximum(scale, EPS), 0.0))


def relative_latent_norm(latents: Latents) -> NDArray[np.float64]:
    """|z| / sqrt(size) of each latent: (n); near 1 for standard normal latents."""
    return np.asarray(
        np.linalg.norm(latents.astype(np.float64), axis=1) / np.sqrt(latents.shape[1])
    )


def pixel_error(targets: Pixels, results: Pixels) -> NDArray[np.float64]:
    """Mean squared pixel difference of each pair, in the networks' range -1..1: (n), 0..4."""
    difference = to_signed_float(targets) - to_signed_float(results)
    return np.asarray(difference.square().flatten(1).mean(1).numpy(), np.float64)


def orthogonal_cosine(
    before: NDArray[np.floating], after: NDArray[np.floating], directions: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Cosine of rows before and after (n d), each row's direction (n d) projected out: (n)."""
    axes = normalize_rows(directions).astype(np.float64)
    projected = [rows - (rows * axes).sum(1, keepdims=True) * axes for rows in (before, after)]
    return paired_cosine(projected[0], projected[1])
