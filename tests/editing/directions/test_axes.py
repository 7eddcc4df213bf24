"""Axes of toy generators with a known result, against scikit-learn and NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor, nn

from controlgen.editing.directions.axes import Ganspace, PrincipalComponents, Sefa
from controlgen.editing.directions.axis_effects import (
    AxisCache,
    axis_effect_on_features,
    mean_and_consistency,
)
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ConfigError
from controlgen.networks import R3GANConfig
from controlgen.rng import normals, torch_stream

UNUSED: Any = None


def normalize_sign(rows: Any) -> Any:
    """Unit rows with a positive largest component, computed independently."""
    result = []
    for row in np.asarray(rows, float):
        largest = max(row, key=abs)
        result.append(row / np.linalg.norm(row) * (1 if largest > 0 else -1))
    return np.array(result)


def toy_layer(singular: Any, features: int, seed: int = 0) -> tuple[Any, Any]:
    """A matrix (features z) of these singular values, and its right singular vectors as rows."""
    draws = np.random.default_rng(seed)
    z = len(singular)
    left = np.linalg.qr(draws.standard_normal((features, features)))[0][:, :z]
    right = np.linalg.qr(draws.standard_normal((z, z)))[0]
    return (left * singular) @ right.T, right.T


class Linear(nn.Module):
    """A generator with one layer: A z + b."""

    def __init__(self, layer: Any, offset: float = 3.0) -> None:
        super().__init__()
        self.layer = torch.as_tensor(layer, dtype=torch.float32)
        self.latent_size, self.offset = self.layer.shape[1], offset

    def first_layer(self) -> Tensor:
        return self.layer

    def first_activation(self, latents: Tensor) -> Tensor:
        return latents @ self.layer.T + self.offset

    def first_stage(self, latents: Tensor) -> Tensor:
        return self.first_activation(latents)

    def forward(self, latents: Tensor) -> Tensor:
        return self.first_activation(latents)


class LinearEditor:
    """An editor whose images are the activations of a linear generator."""

    def __init__(self, layer: Any, embed: Any, statistics: Any = None) -> None:
        self.generator, self.statistics = Linear(layer), statistics
        self.latent_size = self.generator.latent_size
        self.embed = embed

    def generate(self, latents: Any) -> Any:
        return self.generator(torch.from_numpy(latents)).numpy()


# --- the families -------------------------------------------------------------------------------


def test_sefa_equals_the_svd_of_the_first_layer() -> None:
    network = R3GANConfig(widths=(16, 16), blocks=1, patch=4, latent_size=8)
    generator = network.generator(1, torch_stream(0, "sefa")).requires_grad_(False)
    # A entry by entry: channel c has the Frobenius norm of its basis as a factor.
    basis, weight = generator.basis.numpy(), generator.linear.weight.numpy()
    layer = np.empty((16, 8))
    for c in range(16):
        norm = sum(float(value) ** 2 for value in basis[c].ravel()) ** 0.5
        layer[c] = [norm * float(value) for value in weight[c]]
    _, singular, right = np.linalg.svd(layer)
    axes = Sefa().fit(generator, UNUSED)
    np.testing.assert_allclose(axes.vectors, normalize_sign(right), atol=1e-4)
    np.testing.assert_allclose(axes.variances, singular**2, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_sefa_recovers_a_factorisation_in_order(seed: int) -> None:
    layer, right = toy_layer([0.5, 4.0, 1.0, 2.0], 9, seed)
    axes = Sefa().fit(Linear(layer), UNUSED)
    np.testing.assert_allclose(axes.vectors, normalize_sign(right[[1, 3, 2, 0]]), atol=1e-5)
    np.testing.assert_allclose(axes.shares, np.array([16, 4, 1, 0.25]) / 21.25, rtol=1e-5)


def test_axes_without_effect_are_omitted() -> None:
    layer = np.zeros((5, 4))
    layer[0, 2], layer[1, 0] = 3, -2
    for family in (Sefa(), Ganspace(n=100)):
        axes = family.fit(Linear(layer), UNUSED)
        assert len(axes.vectors) == 2
    np.testing.assert_allclose(Sefa().fit(Linear(layer), UNUSED).vectors, np.eye(4)[[2, 0]])


@pytest.mark.parametrize("layer_of", ["stage", "linear"])
def test_ganspace_recovers_right_singular_vectors_of_a_linear_generator(layer_of: str) -> None:
    layer, right = toy_layer([1.0, 8.0, 2.0, 4.0], 12)
    axes = Ganspace.parse({"n": 20_000, "layer": layer_of}).fit(Linear(layer), UNUSED)
    # With 20 000 samples the covariance of the latents is the identity to within 0.01.
    np.testing.assert_allclose(axes.vectors, normalize_sign(right[[1, 3, 2, 0]]), atol=0.03)
    np.testing.assert_allclose(axes.variances, [64, 16, 4, 1], rtol=0.04)


@pytest.mark.parametrize("features", [6, 90])
def test_ganspace_equals_pca_and_least_squares(features: int) -> None:
    """With fewer activations than samples, and with more."""
    n, z = 60, 5

    class Bent(Linear):
        def first_stage(self, latents: Tensor) -> Tensor:
            return torch.tanh(self.first_activation(latents))

    generator = Bent(toy_layer([1.0, 0.8, 0.6, 0.4, 0.2], features)[0], offset=0.2)
    axes = Ganspace(n=n, seed=4).fit(generator, UNUSED)
    latents = normals(4, "ganspace", 0, n, z)
    activations = generator.first_stage(torch.from_numpy(latents)).numpy().astype(float)
    pca = PCA(z).fit(activations)
    fitted, *_ = np.linalg.lstsq(pca.transform(activations), latents, rcond=None)
    np.testing.assert_allclose(axes.vectors, normalize_sign(fitted), atol=1e-4)
    np.testing.assert_allclose(axes.variances, pca.explained_variance_ * (n - 1) / n, rtol=1e-4)


def test_pca_equals_scikit_learn_scaled_to_one_sigma() -> None:
    draws = np.random.default_rng(0)
    features = (draws.standard_normal((500, 6)) * [3, 2.5, 2, 1, 0.5, 0.1]) @ np.linalg.qr(
        draws.standard_normal((6, 6))
    )[0]
    statistics = FeaturePCA.fit(features.astype(np.float32))
    axes = PrincipalComponents().fit(UNUSED, statistics)
    pca = PCA(len(axes.vectors)).fit(features)
    sigmas = np.sqrt(pca.explained_variance_)
    np.testing.assert_allclose(
        axes.vectors, normalize_sign(pca.components_) * sigmas[:, None], atol=2e-4
    )
    # One sigma: projections on an axis have a standard deviation of its length.
    along = features @ (axes.vectors / np.linalg.norm(axes.vectors, axis=1, keepdims=True)).T
    np.testing.assert_allclose(
        along.std(0, ddof=1), np.linalg.norm(axes.vectors, axis=1), rtol=1e-3
    )


# --- a latent axis in features ------------------------------------------------------------------


def test_effect_in_a_linear_editor_is_exact_and_consistent() -> None:
    layer, _ = toy_layer([1.0, 2.0, 3.0], 7)
    reading = np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
    walk = LinearEditor(layer, lambda images: images @ reading)
    latent = np.float32([0.6, 0, -0.8])
    for step in (0.1, 1.0, 3.0):
        actual = axis_effect_on_features(walk, latent, step=step, n=20)
        np.testing.assert_allclose(
            actual.direction, latent @ layer.T @ reading, rtol=2e-3, atol=1e-4
        )
        assert actual.consistency == pytest.approx(1, abs=1e-4)


def test_independent_changes_are_inconsistent() -> None:
    draws = np.random.default_rng(2)
    walk = LinearEditor(
        np.eye(4), lambda images: draws.standard_normal((len(images), 30)).astype(np.float32)
    )
    actual = axis_effect_on_features(walk, np.float32([1, 0, 0, 0]), n=400)
    # The mean of 400 independent changes has about a twentieth of their length.
    assert 0.03 < actual.consistency < 0.08


def test_changes_of_opposite_sign_cancel() -> None:
    """Features depend only on |z|: half of the changes are opposite to the others."""
    walk = LinearEditor(np.eye(2), lambda images: np.abs(images - 3.0))
    actual = axis_effect_on_features(walk, np.float32([1, 0]), step=1e-2, n=2_000)
    assert actual.consistency < 0.1


def test_samples_depend_only_on_the_seed() -> None:
    walk = LinearEditor(np.eye(3), lambda images: np.tanh(images))
    latent = np.float32([1, 0, 0])
    first, again, other = (axis_effect_on_features(walk, latent, n=9, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.direction, again.direction)
    assert not np.array_equal(first.direction, other.direction)


@pytest.mark.parametrize(("step", "n"), [(0, 8), (-1, 8), (np.inf, 8), (np.nan, 8), (1, 0)])
def test_invalid_step_or_count_is_rejected(step: float, n: int) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        axis_effect_on_features(
            LinearEditor(np.eye(2), lambda images: images), np.float32([1, 0]), step, n
        )


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_consistency_is_between_0_and_1(n: int, d: int, seed: int) -> None:
    changes = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    actual = mean_and_consistency(changes)
    assert 0 <= actual.consistency <= 1 + 1e-9
    np.testing.assert_allclose(actual.direction, changes.mean(0), atol=1e-5)
    same = mean_and_consistency(np.repeat(changes[:1], n, axis=0))
    assert same.consistency == pytest.approx(1)
    assert mean_and_consistency(np.zeros((n, d), np.float32)).consistency == 0
    opposed = mean_and_consistency(np.concatenate([changes, -changes]))
    assert opposed.consistency == pytest.approx(0, abs=1e-6)


def test_model_without_variance_has_no_axes() -> None:
    with pytest.raises(ConfigError, match="no variance"):
        AxisCache(LinearEditor(np.zeros((3, 2)), UNUSED)).axis("sefa", 1)
