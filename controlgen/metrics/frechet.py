"""Frechet distance between two feature sets seen as Gaussians (Dowson and Landau, 1982).

With Inception's 2048 features this is FID (Heusel et al., 2017); with any other extractor it is to
be named after it. It is biased upwards at small n: compare only numbers made with equal n.
"""

import numpy as np
from numpy.typing import NDArray


def frechet_distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """|mean_a - mean_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of rows a (n d) and b (m d).

    S is the unbiased covariance. Exact at n < d too, where a matrix square root is ill-conditioned.
    Raises ValueError where a set has fewer than two rows or the sizes differ.
    """
    if min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"frechet_distance: needs two sets of rows, got {a.shape} and {b.shape}")
    shift = a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)
    root_a, root_b = _root(a), _root(b)

    # With S = R'R, the eigenvalues of S_a S_b are the squared singular values of R_b R_a'.
    shared = np.linalg.svd(root_b @ root_a.T, compute_uv=False).sum()
    spread = np.square(root_a).sum() + np.square(root_b).sum()
    return float(max(shift @ shift + spread - 2 * shared, 0.0))


def _root(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    # R with R'R = covariance: the centred rows, reduced to a triangle where there are many.
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    centred /= np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(rows) > rows.shape[1] else centred
