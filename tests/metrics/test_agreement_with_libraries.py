"""Metrics against the formulas written out and against trusted libraries, on the same features."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import linalg, special
from scipy.spatial.distance import cdist

from controlgen.features._torchvision import ensure_torchvision
from controlgen.metrics.cmmd import cmmd
from controlgen.metrics.frechet import frechet_distance, frechet_of_moments, moments
from controlgen.metrics.inception_score import inception_score, split_scores
from controlgen.metrics.kernel import kernel_distance
from controlgen.metrics.path_length import lerp, path_length, path_lengths, slerp
from controlgen.metrics.precision_recall import density_coverage, precision_recall

TIGHT = 1e-6  # relative: the agreement that is promised; most are closer by far


def library(name):
    """A library that needs torchvision on the way."""
    ensure_torchvision()
    return importlib.import_module(name)


def features(n, d, seed, shift=0.0):
    """Rows with a decaying spectrum, as features of images have one."""
    draws = np.random.default_rng(seed)
    turn = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return draws.normal(shift, 1, (n, d)) * 0.97 ** np.arange(d) @ turn


PAIR = features(260, 32, 0), features(220, 32, 1, 0.2)
EQUAL = features(150, 24, 2), features(150, 24, 3, 0.3)


# Frechet distance


def ours_in_both_ways():
    a, b = PAIR
    blocks = (a[:7], a[7:200], a[200:]), (b[:100], b[100:])
    return frechet_distance(a, b), frechet_of_moments(*(moments(parts) for parts in blocks))


def scipy_formula(a, b):
    root = linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    traces = np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
    return np.square(a.mean(0) - b.mean(0)).sum() + traces


def test_frechet_agrees_with_scipy():
    assert ours_in_both_ways() == pytest.approx((scipy_formula(*PAIR),) * 2, rel=TIGHT)


def test_frechet_agrees_with_torch_fidelity():
    fid = library("torch_fidelity.metric_fid")
    statistics = [fid.fid_features_to_statistics(torch.from_numpy(rows)) for rows in PAIR]
    expected = fid.fid_statistics_to_metric(*statistics, False)[fid.KEY_METRIC_FID]
    assert ours_in_both_ways() == pytest.approx((expected, expected), rel=TIGHT)


def test_frechet_agrees_with_clean_fid(monkeypatch):
    fid = library("cleanfid.fid")
    # Newer SciPy knows no `disp`; the function is otherwise as it is.
    root = SimpleNamespace(sqrtm=lambda table, disp: (linalg.sqrtm(table), 0.0))
    monkeypatch.setattr(fid, "linalg", root)
    sides = [(rows.mean(0), np.cov(rows, rowvar=False)) for rows in PAIR]
    expected = fid.frechet_distance(*sides[0], *sides[1])
    assert ours_in_both_ways() == pytest.approx((expected, expected), rel=TIGHT)


def test_frechet_agrees_with_torchmetrics_fed_in_batches():
    fid = library("torchmetrics.image.fid")

    class Given(torch.nn.Module):
        num_features = 32

        def forward(self, rows):
            return rows

    metric = fid.FrechetInceptionDistance(feature=Given(), input_img_size=(32,)).set_dtype(
        torch.float64
    )
    for rows, real in zip(PAIR, (True, False), strict=True):
        for part in torch.from_numpy(rows).split(50):
            metric.update(part, real=real)
    expected = metric.compute().item()
    assert ours_in_both_ways() == pytest.approx((expected, expected), rel=TIGHT)


# Kernel distance


def test_kernel_distance_agrees_with_torchmetrics_and_torch_fidelity():
    theirs = library("torch_fidelity.metric_kid")
    kid = library("torchmetrics.image.kid")
    a, b = EQUAL
    expected = [
        kid.poly_mmd(torch.from_numpy(a), torch.from_numpy(b)).item(),
        theirs.kernel_mmd(a, b, kid_kernel="poly"),
    ]
    assert [kernel_distance(a, b, 0, 2).mean] * 2 == pytest.approx(expected, rel=TIGHT)


# CMMD


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("a", "b"), [PAIR, (PAIR[0][:100], PAIR[0][100:]), (PAIR[0], -PAIR[0])])
def test_cmmd_agrees_with_the_dense_formula(a, b):
    kernels = [np.exp(-cdist(unit(x), unit(y), "sqeuclidean") / 200) for x, y in
               ((a, a), (b, b), (a, b))]  # fmt: skip
    expected = 1000 * (kernels[0].mean() + kernels[1].mean() - 2 * kernels[2].mean())
    assert cmmd(a, b, 0, 2).mean == pytest.approx(expected, rel=TIGHT)


def test_cmmd_agrees_with_torch_fidelitys_biased_gaussian_kernel():
    theirs = library("torch_fidelity.metric_kid")
    a, b = map(unit, EQUAL)
    kernels = [
        theirs.kernel_rbf(x, y, kid_kernel_rbf_sigma=10.0) for x, y in ((a, a), (a, b), (b, b))
    ]
    expected = 1000 * theirs.mmd2(*kernels, mmd_est="biased")
    assert cmmd(*EQUAL, 0, 2).mean == pytest.approx(expected, rel=TIGHT)


# Inception Score


def test_inception_score_agrees_with_torchmetrics():
    module = library("torchmetrics.image.inception")
    logits = features(300, 10, 4) * 3
    with pytest.warns(UserWarning, match="save all extracted features"):
        metric = module.InceptionScore(feature=torch.nn.Identity(), splits=1)
    metric.update(torch.from_numpy(logits))
    with pytest.warns(UserWarning, match="degrees of freedom"):
        expected = metric.compute()[0].item()
    answer = inception_score(special.softmax(logits, axis=1))
    assert answer.mean == pytest.approx(expected, rel=TIGHT)


@pytest.mark.parametrize("splits", [1, 7, 10])
def test_split_scores_agree_with_torch_fidelity(splits):
    isc = library("torch_fidelity.metric_isc")
    logits = features(303, 10, 5) * 2
    theirs = isc.isc_features_to_metric(torch.from_numpy(logits), splits, shuffle=False)
    scores = split_scores(special.softmax(logits, axis=1), splits)
    assert scores.mean() == pytest.approx(theirs[isc.KEY_METRIC_ISC_MEAN], rel=TIGHT)
    assert scores.std() == pytest.approx(theirs[isc.KEY_METRIC_ISC_STD], rel=TIGHT, abs=1e-12)


# Precision and recall, density and coverage


@pytest.mark.parametrize("neighbours", [1, 3, 10])
def test_precision_and_recall_agree_with_torch_fidelity(neighbours):
    prc = library("torch_fidelity.metric_prc")
    real, generated = features(240, 6, 6), 0.8 * features(190, 6, 7, 0.3)
    tensors = torch.from_numpy(generated), torch.from_numpy(real)
    expected = prc.calculate_precision_recall_full(*tensors, neighbours)
    answer = precision_recall(real, generated, 0, neighbours)
    assert (answer.precision.mean, answer.recall.mean) == pytest.approx(expected, abs=1e-7)
    assert 0.05 < answer.precision.mean < 0.999
    assert answer.recall.mean < 0.999
    assert (answer.precision.n, answer.recall.n) == (190, 240)


@pytest.mark.parametrize("neighbours", [1, 5])
def test_density_and_coverage_agree_with_the_definitions_in_loops(neighbours):
    real, generated = features(70, 4, 8), features(50, 4, 9, 0.4)
    own = np.sort(cdist(real, real), axis=1)[:, neighbours]
    across = cdist(real, generated)
    lies_in = sum(across[i, j] <= own[i] for i in range(70) for j in range(50))
    hit = sum(any(across[i, j] <= own[i] for j in range(50)) for i in range(70))
    answer = density_coverage(real, generated, 0, neighbours)
    assert answer.density.mean == pytest.approx(lies_in / (neighbours * 50), rel=1e-12)
    assert answer.coverage.mean == pytest.approx(hit / 70, rel=1e-12)


@pytest.mark.parametrize("neighbours", [1, 5])
def test_all_four_shares_agree_with_prdc(neighbours):
    real, generated = features(240, 6, 6), 0.8 * features(190, 6, 7, 0.3)
    expected = library("prdc").compute_prdc(real, generated, neighbours)
    balls = density_coverage(real, generated, 0, neighbours)
    shares = precision_recall(real, generated, 0, neighbours)
    answer = {**shares._asdict(), **balls._asdict()}
    assert {name: item.mean for name, item in answer.items()} == pytest.approx(expected, abs=1e-12)


# Perceptual path length


class Curved(torch.nn.Module):
    """A generator of images 0..255 that is not linear, and hands out given latents."""

    def __init__(self, *latents):
        super().__init__()
        self.latents = [torch.from_numpy(latent) for latent in latents]
        weights = np.random.default_rng(10).normal(size=(6, 3 * 8 * 8)) / 3
        self.weights = torch.from_numpy(weights)

    def sample(self, n):
        return self.latents.pop(0)[:n]

    def forward(self, latents):
        return 127.5 * (torch.tanh(latents.double() @ self.weights).reshape(-1, 3, 8, 8) + 1)


class SquaredDistance(torch.nn.Module):
    def forward(self, a, b):
        return (a - b).square().flatten(1).mean(1)


@pytest.mark.parametrize("discard", [None, (0.01, 0.99)])
@pytest.mark.parametrize("path", ["lerp", "slerp_any"])
def test_path_length_agrees_with_torchmetrics_on_the_same_path(discard, path):
    ppl = library("torchmetrics.functional.image.perceptual_path_length")
    draws, epsilon = np.random.default_rng(11), 0.01
    start, end = (draws.normal(size=(101, 6)) for _ in range(2))
    if path == "slerp_any":  # their round way leaves the latents' lengths out: give it equal ones
        start, end = 2.5 * unit(start), 2.5 * unit(end)
    lower, upper = discard or (None, None)
    generator = Curved(start.astype(np.float32), end.astype(np.float32))
    expected, _, each = ppl.perceptual_path_length(
        generator, 101, batch_size=16, interpolation_method=path, epsilon=epsilon,
        lower_discard=lower, upper_discard=upper, sim_net=SquaredDistance(),
    )  # fmt: skip

    # The very points of their path, so that only the measure is compared to six digits.
    def theirs(first, second, position):
        tensors = (torch.from_numpy(item.astype(np.float32)) for item in (first, second))
        step = float(position[0, 0])
        return ppl._interpolate(*tensors, step, path).numpy() if step else first

    def generate(latents):
        return generator(torch.from_numpy(latents)).numpy() / 127.5 - 1

    def distance(a, b):
        return np.square(a - b).mean((1, 2, 3))

    zeros = np.zeros(101)
    lengths = path_lengths(generate, distance, start, end, zeros, epsilon, theirs)
    answer = path_length(lengths, 0, discard)
    assert answer.n == len(each)
    assert answer.mean == pytest.approx(expected.item(), rel=TIGHT)

    # Our own path differs from theirs by what float32 leaves of the latents.
    ours = lerp if path == "lerp" else slerp
    own = path_lengths(generate, distance, start, end, zeros, epsilon, ours)
    assert path_length(own, 0, discard).mean == pytest.approx(expected.item(), rel=1e-4)
