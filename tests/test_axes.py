"""Axes against worlds whose answer is known, and against scikit-learn and plain numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor, nn

from controlgen import Editor
from controlgen.control.axes import (
    FAMILIES,
    AxisFinder,
    Ganspace,
    PrincipalComponents,
    Sefa,
    feature_direction,
    mean_change,
)
from controlgen.control.statistics import Statistics
from controlgen.errors import ConfigError
from controlgen.networks import R3GANNetwork
from controlgen.regressors import Ridge
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


# --- the editor ---------------------------------------------------------------------------------


class Quarters(Linear):
    """Latent i moves the grey level of quarter i of a 4x4 picture, each as far as it is told."""

    strengths = (0.05, 0.3, 0.1, 0.2)

    def __init__(self) -> None:
        super().__init__(np.diag(self.strengths), offset=0.0)

    def forward(self, latents: Tensor) -> Tensor:
        quarters = self.first_activation(latents).clamp(-1, 1).reshape(-1, 1, 2, 2)
        return quarters.repeat_interleave(2, 2).repeat_interleave(2, 3)


class Grey:
    """Features: the four quarters' means round a large constant, at unit length."""

    size, fingerprint = 5, "grey"

    def embed(self, pixels: Any, batch_size: int = 256) -> Any:
        means = pixels.reshape(len(pixels), 2, 2, 2, 2).mean((2, 4)).reshape(-1, 4) / 255
        rows = np.concatenate([means, np.full((len(means), 1), 3.0)], axis=1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def quarters_of(pixels: Any) -> Any:
    return pixels[:, 0, ::2, ::2].reshape(-1, 4).astype(float)


@pytest.fixture(scope="module")
def editor() -> Editor:
    generator: Any = Quarters()
    made = Editor(generator, Grey(), UNUSED, UNUSED, (1, 4, 4))  # type: ignore[arg-type]
    latents = normals(0, "bank", 0, 800, 4)
    features = made.embed(made.generate(latents))
    made.map = Ridge(alpha=1e-9).build().fit(features, latents)
    made.statistics = Statistics.of(features)
    return made


@pytest.mark.parametrize("family", ["sefa", "ganspace"])
@pytest.mark.parametrize(("index", "quarter"), [(1, 1), (2, 3), (3, 2), (4, 0)])
def test_a_latent_axis_moves_its_quarter_in_latents_and_in_features(
    editor: Editor, family: str, index: int, quarter: int
) -> None:
    axis = editor.axis(family, index)
    assert axis.latent is not None and axis.consistency is not None
    np.testing.assert_allclose(axis.latent, np.eye(4)[quarter], atol=0.06)
    assert axis.consistency > 0.97
    strengths = np.square(Quarters.strengths)
    assert axis.share == pytest.approx(strengths[quarter] / strengths.sum(), abs=0.02)
    source = editor.sample(12, seed=3)
    before = quarters_of(source.pixels)
    # By latents and by features: the same quarter gets brighter, by about one sigma of its own.
    for edit in (
        editor.edit_latents(source, axis.latent, 1.0),
        editor.edit(source, axis.direction, 1.0, residual=True),
    ):
        change = (quarters_of(edit.pixels) - before).mean(0) / 127.5
        assert change.argmax() == quarter
        assert change[quarter] == pytest.approx(Quarters.strengths[quarter], rel=0.15)
        assert np.abs(np.delete(change, quarter)).max() < 0.03


def test_pca_axes_are_asked_for_in_features(editor: Editor) -> None:
    axis = editor.axis("pca", 1)
    assert axis.latent is None and axis.consistency is None
    source = editor.sample(12, seed=3)
    edit = editor.edit(source, axis.direction, 1.0, residual=True)
    change = (quarters_of(edit.pixels) - quarters_of(source.pixels)).mean(0)
    assert np.abs(change).argmax() == 1


def test_families_and_axes_are_found_once(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    plain = Sefa.find

    def find(self: Sefa, *arguments: Any) -> Any:
        counted.append(self.kind)
        return plain(self, *arguments)

    monkeypatch.setattr(Sefa, "find", find)
    fresh = Editor(editor.generator, editor.space, editor.map, editor.statistics, (1, 4, 4))
    first = fresh.axis("sefa", 2)
    assert fresh.axis("sefa", 2) is first and fresh.axis("sefa", 1) is not first
    assert counted == ["sefa"]


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (0, 'axis("sefa", 0): axes are counted from 1'),
        (-1, 'axis("sefa", -1): axes are counted from 1'),
        (5, 'axis("sefa", 5): there are 4 of them'),
        (1.5, 'axis("sefa", 1.5): axes are counted in whole numbers from 1'),
        (True, 'axis("sefa", True): axes are counted in whole numbers from 1'),
    ],
)
def test_an_index_that_there_is_not_is_refused(editor: Editor, index: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        editor.axis("sefa", index)
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_an_unknown_family_names_those_that_there_are(editor: Editor) -> None:
    with pytest.raises(ConfigError, match="sefa, ganspace, pca"):
        editor.axis("ica", 1)
    assert set(FAMILIES) == {"sefa", "ganspace", "pca"}


def test_where_nothing_varies_there_is_no_axis() -> None:
    with pytest.raises(ConfigError, match="nothing varies"):
        AxisFinder(Walk(np.zeros((3, 2)), UNUSED)).axis("sefa", 1)
