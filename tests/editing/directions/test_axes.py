"""Axes against worlds whose answer is known, and against scikit-learn and plain numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor, nn

from controlgen.editing.directions.axes import Ganspace, PrincipalComponents, Sefa
from controlgen.editing.directions.axis_effects import AxisFinder, feature_direction, mean_change
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ConfigError
from controlgen.networks import R3GANNetwork
from controlgen.rng import normals, torch_stream

UNUSED: Any = None


def turned(rows: Any) -> Any:
    """Unit rows whose largest component is positive, written anew."""
    made = []
    for row in np.asarray(rows, float):
        largest = max(row, key=abs)
        made.append(row / np.linalg.norm(row) * (1 if largest > 0 else -1))
    return np.array(made)


def known(singular: Any, features: int, seed: int = 0) -> tuple[Any, Any]:
    """A map (features z) of these singular values, and its right singular vectors as rows."""
    draws = np.random.default_rng(seed)
    z = len(singular)
    left = np.linalg.qr(draws.standard_normal((features, features)))[0][:, :z]
    right = np.linalg.qr(draws.standard_normal((z, z)))[0]
    return (left * singular) @ right.T, right.T


class Linear(nn.Module):
    """A generator that is its first layer: activation = A z + b, and nothing follows."""

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


class Walk:
    """An editor of no images: `make` turns latents (n z) into what `embed` turns into features."""

    def __init__(self, layer: Any, embed: Any, statistics: Any = None) -> None:
        self.generator, self.statistics = Linear(layer), statistics
        self.latent_size = self.generator.latent_size
        self.embed = embed

    def generate(self, latents: Any) -> Any:
        return self.generator(torch.from_numpy(latents)).numpy()


# --- the families -------------------------------------------------------------------------------


def test_sefa_is_the_svd_of_the_map_built_by_hand() -> None:
    network = R3GANNetwork(widths=(16, 16), blocks=1, patch=4, latent_size=8)
    generator = network.generator(1, torch_stream(0, "sefa")).requires_grad_(False)
    # A entry by entry: channel c's basis has the Frobenius norm sqrt(sum of squares).
    basis, weight = generator.basis.numpy(), generator.linear.weight.numpy()
    layer = np.empty((16, 8))
    for c in range(16):
        norm = sum(float(value) ** 2 for value in basis[c].ravel()) ** 0.5
        layer[c] = [norm * float(value) for value in weight[c]]
    _, singular, right = np.linalg.svd(layer)
    axes = Sefa().find(generator, UNUSED)
    np.testing.assert_allclose(axes.rows, turned(right), atol=1e-4)
    np.testing.assert_allclose(axes.variances, singular**2, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_sefa_finds_a_known_factorisation_largest_first(seed: int) -> None:
    layer, right = known([0.5, 4.0, 1.0, 2.0], 9, seed)
    axes = Sefa().find(Linear(layer), UNUSED)
    np.testing.assert_allclose(axes.rows, turned(right[[1, 3, 2, 0]]), atol=1e-5)
    np.testing.assert_allclose(axes.shares, np.array([16, 4, 1, 0.25]) / 21.25, rtol=1e-5)


def test_axes_that_move_nothing_are_left_out() -> None:
    layer = np.zeros((5, 4))
    layer[0, 2], layer[1, 0] = 3, -2
    for family in (Sefa(), Ganspace(n=100)):
        axes = family.find(Linear(layer), UNUSED)
        assert len(axes.rows) == 2
    np.testing.assert_allclose(Sefa().find(Linear(layer), UNUSED).rows, np.eye(4)[[2, 0]])


@pytest.mark.parametrize("layer_of", ["stage", "linear"])
def test_ganspace_finds_the_right_singular_vectors_of_a_linear_generator(layer_of: str) -> None:
    layer, right = known([1.0, 8.0, 2.0, 4.0], 12)
    axes = Ganspace.parse({"n": 20_000, "layer": layer_of}).find(Linear(layer), UNUSED)
    # Of 20 000 samples the covariance of the latents is the identity to within 0.01.
    np.testing.assert_allclose(axes.rows, turned(right[[1, 3, 2, 0]]), atol=0.03)
    np.testing.assert_allclose(axes.variances, [64, 16, 4, 1], rtol=0.04)


@pytest.mark.parametrize("features", [6, 90])
def test_ganspace_is_pca_and_least_squares(features: int) -> None:
    """Fewer activations than samples, and more of them."""
    n, z = 60, 5

    class Bent(Linear):
        def first_stage(self, latents: Tensor) -> Tensor:
            return torch.tanh(self.first_activation(latents))

    generator = Bent(known([1.0, 0.8, 0.6, 0.4, 0.2], features)[0], offset=0.2)
    axes = Ganspace(n=n, seed=4).find(generator, UNUSED)
    latents = normals(4, "ganspace", 0, n, z)
    activations = generator.first_stage(torch.from_numpy(latents)).numpy().astype(float)
    pca = PCA(z).fit(activations)
    fitted, *_ = np.linalg.lstsq(pca.transform(activations), latents, rcond=None)
    np.testing.assert_allclose(axes.rows, turned(fitted), atol=1e-4)
    np.testing.assert_allclose(axes.variances, pca.explained_variance_ * (n - 1) / n, rtol=1e-4)


def test_pca_is_scikit_learns_scaled_to_one_sigma() -> None:
    draws = np.random.default_rng(0)
    features = (draws.standard_normal((500, 6)) * [3, 2.5, 2, 1, 0.5, 0.1]) @ np.linalg.qr(
        draws.standard_normal((6, 6))
    )[0]
    statistics = Statistics.of(features.astype(np.float32))
    axes = PrincipalComponents().find(UNUSED, statistics)
    pca = PCA(len(axes.rows)).fit(features)
    sigmas = np.sqrt(pca.explained_variance_)
    np.testing.assert_allclose(axes.rows, turned(pca.components_) * sigmas[:, None], atol=2e-4)
    # One sigma: the bank's features, seen along an axis of unit length, spread by its length.
    along = features @ (axes.rows / np.linalg.norm(axes.rows, axis=1, keepdims=True)).T
    np.testing.assert_allclose(along.std(0, ddof=1), np.linalg.norm(axes.rows, axis=1), rtol=1e-3)


# --- a latent axis in features ------------------------------------------------------------------


def test_of_a_linear_editor_the_direction_is_exact_and_fully_consistent() -> None:
    layer, _ = known([1.0, 2.0, 3.0], 7)
    reading = np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)
    walk = Walk(layer, lambda made: made @ reading)
    latent = np.float32([0.6, 0, -0.8])
    for step in (0.1, 1.0, 3.0):
        found = feature_direction(walk, latent, step=step, n=20)
        np.testing.assert_allclose(
            found.direction, latent @ layer.T @ reading, rtol=2e-3, atol=1e-4
        )
        assert found.consistency == pytest.approx(1, abs=1e-4)


def test_changes_without_a_common_part_are_not_consistent() -> None:
    draws = np.random.default_rng(2)
    walk = Walk(np.eye(4), lambda made: draws.standard_normal((len(made), 30)).astype(np.float32))
    found = feature_direction(walk, np.float32([1, 0, 0, 0]), n=400)
    # The mean of 400 independent changes is a twentieth as long as one of them.
    assert 0.03 < found.consistency < 0.08


def test_a_move_that_turns_round_with_the_sample_has_no_direction() -> None:
    """Features that depend on |z| alone: half the samples change one way, half the other."""
    walk = Walk(np.eye(2), lambda made: np.abs(made - 3.0))
    found = feature_direction(walk, np.float32([1, 0]), step=1e-2, n=2_000)
    assert found.consistency < 0.1


def test_samples_come_from_the_seed_alone() -> None:
    walk = Walk(np.eye(3), lambda made: np.tanh(made))
    latent = np.float32([1, 0, 0])
    first, again, other = (feature_direction(walk, latent, n=9, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.direction, again.direction)
    assert not np.array_equal(first.direction, other.direction)


@pytest.mark.parametrize(("step", "n"), [(0, 8), (-1, 8), (np.inf, 8), (np.nan, 8), (1, 0)])
def test_steps_and_numbers_without_meaning_are_refused(step: float, n: int) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        feature_direction(Walk(np.eye(2), lambda made: made), np.float32([1, 0]), step, n)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_consistency_is_a_share(n: int, d: int, seed: int) -> None:
    changes = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    found = mean_change(changes)
    assert 0 <= found.consistency <= 1 + 1e-9
    np.testing.assert_allclose(found.direction, changes.mean(0), atol=1e-5)
    same = mean_change(np.repeat(changes[:1], n, axis=0))
    assert same.consistency == pytest.approx(1)
    assert mean_change(np.zeros((n, d), np.float32)).consistency == 0
    opposed = mean_change(np.concatenate([changes, -changes]))
    assert opposed.consistency == pytest.approx(0, abs=1e-6)


def test_where_nothing_varies_there_is_no_axis() -> None:
    with pytest.raises(ConfigError, match="nothing varies"):
        AxisFinder(Walk(np.zeros((3, 2)), UNUSED)).axis("sefa", 1)
