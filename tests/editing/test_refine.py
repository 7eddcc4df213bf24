"""Refinement of latents, with closed-form gradients and through the editor."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from controlgen import Editor
from controlgen.editing.refine import adam_path, refine_latents
from controlgen.errors import ConfigError
from controlgen.evaluation.inversion import LEARNING_RATE, optimise_latents
from controlgen.utils.rows import normalize_rows

Z, SIDE = 6, 5
RNG = np.random.default_rng(0)
# Images are a linear function of the latents, small enough that none is clipped.
MATRIX = (RNG.standard_normal((Z, SIDE * SIDE)) * 0.1).astype(np.float32)
OFFSET = (RNG.standard_normal(SIDE * SIDE) * 0.1).astype(np.float32)


def generate(latents: torch.Tensor) -> torch.Tensor:
    images = latents @ torch.from_numpy(MATRIX) + torch.from_numpy(OFFSET)
    return images.reshape(-1, 1, SIDE, SIDE)


def embed(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(images.flatten(1), dim=1)


def rounded_cosine(latents: NDArray[np.float32], targets: NDArray[np.float32]) -> Any:
    """Of images rounded to 256 levels, in NumPy."""
    images = np.clip(latents.astype(np.float64) @ MATRIX + OFFSET, -1, 1)
    images = np.rint((images + 1) * 127.5) / 127.5 - 1
    return (images * targets).sum(1) / np.linalg.norm(images, axis=1)


def draw_pairs(seed: int, n: int = 8) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Latents to start from, and unit features of other images."""
    rng = np.random.default_rng(seed)
    start, goal = rng.standard_normal((2, n, Z)).astype(np.float32)
    return start, normalize_rows((goal @ MATRIX + OFFSET).astype(np.float32))


def test_a_path_is_adam_on_the_closed_form_of_the_gradient() -> None:
    start, targets = draw_pairs(1)
    rate, weight = 0.03, 0.4
    z = start.astype(np.float64)
    mean, square = np.zeros_like(z), np.zeros_like(z)
    for k, step in enumerate(islice(descend_linear(start, targets, weight, rate), 25), 1):
        images = z @ MATRIX + OFFSET
        length = np.linalg.norm(images, axis=1, keepdims=True)
        cosine = (images * targets).sum(1, keepdims=True) / length
        np.testing.assert_allclose(step.latents.numpy(), z, atol=1e-4)
        np.testing.assert_allclose(step.cosine.numpy(), cosine[:, 0], atol=1e-5)
        # d cos / d x = (t - cos x / |x|) / |x|, and of the prior 2 (z - start) / size.
        gradient = -((targets - cosine * images / length) / length) @ MATRIX.T
        gradient += weight * 2 * (z - start) / Z
        # Kingma and Ba 2015, algorithm 1.
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        z = z - rate * (mean / (1 - 0.9**k)) / (np.sqrt(square / (1 - 0.999**k)) + 1e-8)
        np.testing.assert_allclose(step.following.numpy(), z, atol=1e-4)


def descend_linear(start: Any, targets: Any, weight: float, rate: float) -> Any:
    return adam_path(lambda z: embed(generate(z)), start, targets, weight, rate)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(0, 30),
    more=st.integers(0, 20),
    rate=st.floats(1e-4, 3.0),
    weight=st.floats(0, 10),
)
def test_no_row_gets_worse_and_more_steps_are_never_worse(
    seed: int, steps: int, more: int, rate: float, weight: float
) -> None:
    """Even at learning rates that overshoot."""
    start, targets = draw_pairs(seed)
    few = refine_latents(generate, embed, start, targets, steps, weight, rate)
    many = refine_latents(generate, embed, start, targets, steps + more, weight, rate)
    cosines = [rounded_cosine(latents, targets) for latents in (start, few, many)]
    assert (cosines[1] >= cosines[0] - 1e-6).all()
    assert (cosines[2] >= cosines[1] - 1e-6).all()
    assert np.isfinite(many).all()
    if steps == 0:
        np.testing.assert_array_equal(few, start)


def test_reachable_targets_are_reached_and_inputs_are_unchanged() -> None:
    start, targets = draw_pairs(2)
    before = start.copy(), targets.copy()
    actual = refine_latents(generate, embed, start, targets, 400, 0.0, 0.05)
    assert rounded_cosine(start, targets).max() < 0.95
    assert rounded_cosine(actual, targets).min() > 0.999
    np.testing.assert_array_equal(start, before[0])
    np.testing.assert_array_equal(targets, before[1])
    assert refine_latents(generate, embed, start[:0], targets[:0], 5).shape == (0, Z)


def test_a_row_does_not_depend_on_the_others() -> None:
    start, targets = draw_pairs(3, n=300)
    together = refine_latents(generate, embed, start, targets, 10)
    for rows in (slice(0, 1), slice(250, 260), slice(299, 300)):
        alone = refine_latents(generate, embed, start[rows], targets[rows], 10)
        np.testing.assert_allclose(alone, together[rows], atol=1e-3)


def test_the_prior_preserves_the_latents_norm() -> None:
    start, targets = draw_pairs(4, n=50)
    for length in (0.3, 1.0):
        start *= length * np.sqrt(Z) / np.linalg.norm(start, axis=1, keepdims=True)
        shifted, off = {}, {}
        for weight in (0.0, 1.0):
            actual = refine_latents(generate, embed, start, targets, 200, weight, 0.05)
            shifted[weight] = np.linalg.norm(actual - start, axis=1).mean()
            shell = np.linalg.norm(actual, axis=1) / np.sqrt(Z)
            off[weight] = np.abs(shell - length).mean()
            assert (rounded_cosine(actual, targets) >= rounded_cosine(start, targets) - 1e-6).all()
        assert shifted[1.0] < 0.6 * shifted[0.0]
        assert off[1.0] < 0.8 * off[0.0]


def test_the_baseline_of_the_evaluation_uses_the_same_path() -> None:
    class Linear:
        def features_of_latents(self, latents: torch.Tensor) -> torch.Tensor:
            return embed(generate(latents))

    start, targets = draw_pairs(5)
    editor: Any = Linear()
    actual = optimise_latents(editor, targets, start, 7)
    path = list(islice(descend_linear(start, targets, 0.0, LEARNING_RATE), 8))
    np.testing.assert_array_equal(actual, path[7].latents.numpy())
    np.testing.assert_array_equal(actual, path[6].following.numpy())


@pytest.fixture(scope="module")
def real(line: Any) -> Any:
    return line.run.train.dataset.open().pixels(np.arange(12))


@pytest.mark.parametrize("residual", [False, True])
def test_a_refined_edit_is_at_least_as_similar(editor: Editor, real: Any, residual: bool) -> None:
    source = editor.sample(5, seed=2)
    direction = editor.direction(more=real[:3], less=real[3:6])
    plain = editor.edit(source, direction, 0.7, residual)
    refined = editor.edit(source, direction, 0.7, residual, refine=40)
    np.testing.assert_array_equal(refined.target_features, plain.target_features)
    assert (refined.target_similarity >= plain.target_similarity - 1e-5).all()
    # All features of the toy are similar, so the gain is small; rounding is 1e-7.
    assert refined.target_similarity.mean() > plain.target_similarity.mean() + 1e-5
    np.testing.assert_array_equal(refined.pixels, editor.generate(refined.latents))
    np.testing.assert_array_equal(refined.features, editor.embed(refined.pixels))
    unchanged = editor.edit(source, direction, 0.7, residual, refine=0)
    np.testing.assert_array_equal(unchanged.latents, plain.latents)


def test_a_refined_residual_edit_of_amount_zero_is_still_the_identity(
    editor: Editor, real: Any
) -> None:
    source = editor.sample(6, seed=3)
    direction = editor.direction(more=real[:3], less=real[3:6])
    edit = editor.edit(source, direction, 0.0, residual=True, refine=10)
    np.testing.assert_array_equal(edit.latents, source.latents)
    # A real image's latent is an inversion, which refinement improves.
    plain = editor.edit(real, direction, 0.0, residual=True)
    edit = editor.edit(real, direction, 0.0, residual=True, refine=10)
    assert (edit.target_similarity >= plain.target_similarity - 1e-5).all()
    assert edit.target_similarity.mean() > plain.target_similarity.mean()


def test_interpolation_is_refined(editor: Editor, real: Any) -> None:
    plain = editor.interpolate(real[:4], real[4:8], 0.5)
    refined = editor.interpolate(real[:4], real[4:8], 0.5, refine=10)
    np.testing.assert_array_equal(refined.target_features, plain.target_features)
    assert (refined.target_similarity >= plain.target_similarity - 1e-5).all()
    assert refined.target_similarity.mean() > plain.target_similarity.mean()


def test_negative_steps_are_refused(editor: Editor, real: Any) -> None:
    direction = editor.direction(more=real[:3], less=real[3:6])
    for attempt in (
        lambda: editor.edit(real[:1], direction, refine=-1),
        lambda: editor.interpolate(real[:1], real[1:2], 0.5, refine=-1),
    ):
        with pytest.raises(ConfigError, match="refine = -1: give 0 steps or more"):
            attempt()
