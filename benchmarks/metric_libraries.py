"""Metrics as ours, as plain formulas and as trusted libraries answer: what `metrics.py` times."""

import functools
import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

SUBSETS, SUBSET = 100, 1000  # what libraries draw for KID, if nothing else is asked
DRAWS = 1000  # of an interval of ours
NEIGHBOURS, LATENT, SIDE, EPSILON = 3, 64, 32, 0.01
Action = Callable[..., Any]  # of the metric's inputs: a number, or several


# What a path is measured with


def pictures(latents: Any) -> Any:
    """A generator that is not linear: latents (n 64) -> images (n 3 32 32) in -1..1."""
    return np.tanh(latents.astype(np.float64) @ _picture_weights()).reshape(-1, 3, SIDE, SIDE)


@functools.cache
def _picture_weights() -> Any:
    # Drawn once: drawn at every call they would take longer than the pictures.
    return np.random.default_rng(1).normal(size=(LATENT, 3 * SIDE * SIDE)) / 8


def squared(a: Any, b: Any) -> Any:
    """A distance that costs next to nothing: pairs of images -> (n)."""
    return np.square(a - b).mean((1, 2, 3))


def rounded_path(start: Any, end: Any, position: Any) -> Any:
    """The straight way in float32, as torchmetrics walks it: the very same points."""
    first, last = start.astype(np.float32), end.astype(np.float32)
    return first + (last - first) * np.float32(position[0, 0])


# Ours


def ours(metric: str) -> Action:
    from controlgen.metrics import (
        cmmd,
        frechet,
        inception_score,
        kernel,
        path_length,
        precision_recall,
    )

    def lengths(start: Any, end: Any) -> Any:
        here = np.zeros(len(start))
        return path_length.path_lengths(pictures, squared, start, end, here, EPSILON, rounded_path)

    def score(logits: Any) -> float:
        import torch

        probabilities = torch.from_numpy(logits).softmax(1).numpy()
        return inception_score.inception_score(probabilities).mean

    def shares(a: Any, b: Any, draws: int = 1) -> list[float]:
        actual = precision_recall.precision_recall(a, b, 0, NEIGHBOURS, draws)
        return [item.mean for item in actual]

    def balls(a: Any, b: Any, draws: int = 1) -> list[float]:
        actual = precision_recall.density_coverage(a, b, 0, NEIGHBOURS, draws)
        return [item.mean for item in actual]

    return {
        "FD": frechet.frechet_distance,
        "FD with interval": lambda a, b: frechet.frechet_interval(a, b).mean,
        "KID": lambda a, b: kernel.kernel_distance(a, b, 0, bootstraps=1).mean,
        "KID with interval": lambda a, b: kernel.kernel_distance(a, b, 0).mean,
        "CMMD": lambda a, b: cmmd.cmmd(a, b, 0, bootstraps=1).mean,
        "CMMD with interval": lambda a, b: cmmd.cmmd(a, b, 0).mean,
        "IS": score,
        "precision, recall": shares,
        "precision, recall with interval": lambda a, b: shares(a, b, DRAWS),
        "density, coverage": balls,
        "density, coverage with interval": lambda a, b: balls(a, b, DRAWS),
        "PPL": lambda start, end: lengths(start, end).mean(),
        "PPL with interval": lambda start, end: (
            path_length.path_length(lengths(start, end), 0, None).mean
        ),
    }[metric]


# Formulas as they are written


def formula(metric: str) -> Action:
    from scipy import linalg
    from scipy.spatial.distance import cdist

    def root(a: Any, b: Any) -> float:
        first, second = (np.cov(rows, rowvar=False) for rows in (a, b))
        middle = np.trace(linalg.sqrtm(first @ second).real)
        return square(a.mean(0) - b.mean(0)) + np.trace(first) + np.trace(second) - 2 * middle

    def dense(a: Any, b: Any) -> float:
        a, b = unit(a), unit(b)
        within, across = (
            sum(np.exp(-cdist(x, y, "sqeuclidean") / 200).mean() for x, y in pairs)
            for pairs in (((a, a), (b, b)), ((a, b),))
        )
        return 1000 * (within - 2 * across)

    return {"FD": root, "CMMD": dense}[metric]


def square(row: Any) -> float:
    return float(row @ row)


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# Libraries


def torchmetrics(metric: str) -> Action:
    import torch
    from torchmetrics.image import fid, inception, kid

    # The package hides this module behind its function of the same name.
    ppl = importlib.import_module("torchmetrics.functional.image.perceptual_path_length")

    def frechet(a: Any, b: Any) -> Any:
        sides = [torch.from_numpy(rows) for rows in (a, b)]
        return fid._compute_fid(*(item for x in sides for item in (x.mean(0), x.T.cov())))

    def score(logits: Any) -> Any:
        measure = inception.InceptionScore(feature=torch.nn.Identity(), splits=1)
        measure.update(torch.from_numpy(logits))
        return measure.compute()[0]

    def path(start: Any, end: Any) -> Any:
        return ppl.perceptual_path_length(
            Generator(start, end), len(start), batch_size=64, interpolation_method="lerp",
            epsilon=EPSILON, lower_discard=None, upper_discard=None,
            sim_net=Squared(),
        )[0]  # fmt: skip

    class Generator(torch.nn.Module):
        def __init__(self, *latents: Any) -> None:
            super().__init__()
            self.latents = [torch.from_numpy(latent) for latent in latents]

        def sample(self, n: int) -> Any:
            return self.latents.pop(0)[:n]

        def forward(self, latents: Any) -> Any:
            return 127.5 * (torch.from_numpy(pictures(latents.numpy())) + 1)

    class Squared(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return torch.from_numpy(squared(a.numpy(), b.numpy()))

    return {
        "FD": frechet,
        "KID": lambda a, b: kid.poly_mmd(torch.from_numpy(a), torch.from_numpy(b)),
        "IS": score,
        "PPL": path,
    }[metric]


def torch_fidelity(metric: str) -> Action:
    import torch
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    def frechet(a: Any, b: Any) -> Any:
        sides = [metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
        return metric_fid.fid_statistics_to_metric(*sides, False)[metric_fid.KEY_METRIC_FID]

    def subsets(a: Any, b: Any) -> Any:
        actual = metric_kid.kid_features_to_metric(
            torch.from_numpy(a), torch.from_numpy(b), kid_subsets=SUBSETS,
            kid_subset_size=min(SUBSET, len(a)), verbose=False,
        )  # fmt: skip
        return actual[metric_kid.KEY_METRIC_KID_MEAN]

    def gaussian(a: Any, b: Any) -> Any:
        a, b = unit(a), unit(b)
        pairs = (a, a), (a, b), (b, b)
        tables = [metric_kid.kernel_rbf(x, y, kid_kernel_rbf_sigma=10.0) for x, y in pairs]
        return 1000 * metric_kid.mmd2(*tables, mmd_est="biased")

    def score(logits: Any) -> Any:
        actual = metric_isc.isc_features_to_metric(torch.from_numpy(logits), 1, shuffle=False)
        return actual[metric_isc.KEY_METRIC_ISC_MEAN]

    def shares(a: Any, b: Any) -> Any:
        sides = torch.from_numpy(b), torch.from_numpy(a)
        return metric_prc.calculate_precision_recall_full(*sides, NEIGHBOURS)

    return {
        "FD": frechet,
        "KID": lambda a, b: metric_kid.kernel_mmd(a, b, kid_kernel="poly"),
        "KID with interval": subsets,
        "CMMD": gaussian,
        "IS": score,
        "precision, recall": shares,
    }[metric]


def clean_fid(metric: str) -> Action:
    from cleanfid import fid
    from scipy import linalg

    # Newer SciPy knows no `disp`; the function is otherwise as it is.
    fid.linalg = SimpleNamespace(sqrtm=lambda table, disp=True: (linalg.sqrtm(table), 0.0))

    def frechet(a: Any, b: Any) -> Any:
        sides = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a, b))
        return fid.frechet_distance(*(item for side in sides for item in side))

    return {"FD": frechet}[metric]


def prdc(metric: str) -> Action:
    from prdc import compute_prdc

    def shares(a: Any, b: Any) -> list[float]:
        actual = compute_prdc(a, b, NEIGHBOURS)
        return [actual[name] for name in metric.split(", ")]

    return shares


LIBRARIES = {
    "ours": ours,
    "formula": formula,
    "torchmetrics": torchmetrics,
    "torch-fidelity": torch_fidelity,
    "clean-fid": clean_fid,
    "prdc": prdc,
}
