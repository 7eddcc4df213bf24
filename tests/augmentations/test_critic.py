"""Augmentation of the critic's images: frequencies of each transform, no leak, gradients."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from controlgen.augmentations import (
    AdaptiveAugment,
    AnyAugment,
    DihedralAugment,
    NoAugment,
    ScheduledAugment,
)
from controlgen.augmentations.colour import StainColour
from controlgen.augmentations.geometry import apply_pose_and_shift
from controlgen.objectives.penalties import squared_gradient
from posed_images import (
    chi_square_p_value,
    in_pose,
    make_generator,
    no_shift,
    pose_counts,
    random_images,
)

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")

MEMBERS = get_args(get_args(AnyAugment)[0])
EVERYTHING = {"translate": 0.25, "colour": {"kind": "stain", "strength": 0.4}}


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member().kind)
def test_augmentation_keeps_shape_dtype_and_input(member: type[Any]) -> None:
    batch = random_images(5, channels=1)
    saved = batch.clone()
    for side in (member().augment_real, member().augment_fake):
        first, again = (side(batch, 0.7, make_generator()) for _ in range(2))
        assert first.shape == batch.shape and first.dtype == batch.dtype
        assert torch.equal(first, again)
        assert torch.equal(batch, saved)
    assert 0 <= member().probability(0.5, 0.25) <= 1
    assert 0 <= member().updated_probability(0.25, 1.0, 8) <= 1


@pytest.mark.parametrize(
    "member", [ScheduledAugment, AdaptiveAugment], ids=lambda member: member().kind
)
def test_p_zero_is_the_identity_and_random_draws_do_not_depend_on_p(member: type[Any]) -> None:
    augment, batch = member(**EVERYTHING), random_images(40)
    states = []
    for p in (0.0, 0.4, 1.0):
        rng = make_generator()
        displayed = augment.augment_fake(batch, p, rng)
        changed = (displayed != batch).flatten(1).any(1).float().mean()
        # With p = 0.4 all six gates stay closed with probability 0.6^6 or more.
        assert changed == p if p in (0, 1) else 0.5 < changed < 1
        states.append(rng.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_no_augmentation_draws_and_copies_nothing() -> None:
    rng, batch = make_generator(), random_images(3)
    before = rng.get_state()
    assert NoAugment().augment_real(batch, 1.0, rng) is batch
    assert NoAugment().augment_fake(batch, 1.0, rng) is batch
    assert DihedralAugment().augment_fake(batch, 1.0, rng) is batch
    assert torch.equal(rng.get_state(), before)


def test_random_poses_of_reals_are_uniform() -> None:
    original = random_images(1, 4)
    displayed = DihedralAugment().augment_real(
        original.expand(8000, -1, -1, -1), 1.0, make_generator()
    )
    assert chi_square_p_value(pose_counts(displayed, original), np.full(8, 1 / 8)) > 1e-3
    free = AdaptiveAugment(free_poses=True).augment_real(
        original.expand(8000, -1, -1, -1), 0.0, make_generator()
    )
    assert chi_square_p_value(pose_counts(free, original), np.full(8, 1 / 8)) > 1e-3
    assert torch.equal(AdaptiveAugment().augment_real(original, 0.0, make_generator()), original)


@pytest.mark.parametrize("p", [0.3, 0.8])
def test_flips_and_turns_have_the_documented_frequencies(p: float) -> None:
    original = random_images(1, 4)
    displayed = ScheduledAugment(translate=0).augment_fake(
        original.expand(8000, -1, -1, -1), p, make_generator()
    )
    flips = np.array([1 - p / 2, p / 2])
    turns = np.array([1 - 3 * p / 4, p / 4, p / 4, p / 4])
    counts = pose_counts(displayed, original)
    assert chi_square_p_value(counts, np.outer(flips, turns).ravel()) > 1e-3
    # The test detects a p that is off by 0.1.
    wrong = p + 0.1
    flips, turns = (
        np.array([1 - wrong / 2, wrong / 2]),
        np.array([1 - 0.75 * wrong, *3 * [wrong / 4]]),
    )
    assert chi_square_p_value(counts, np.outer(flips, turns).ravel()) < 1e-6


def test_translation_is_uniform_on_its_square() -> None:
    p, size, most = 0.5, 8, 2
    augment = ScheduledAugment(flips=False, turns=False, translate=most / size)
    place = torch.zeros(1, 1, size, size)
    place[0, 0, 4, 3] = 1
    displayed = augment.augment_fake(place.expand(8000, -1, -1, -1), p, make_generator())[:, 0]
    # Reflection does not repeat this pixel within a shift of two pixels.
    assert (displayed.flatten(1).sum(1) == 1).all()
    counts = displayed.sum(0).numpy()
    expected = np.zeros((size, size))
    expected[2:7, 1:6] = p / 25
    expected[4, 3] += 1 - p
    inside = expected > 0
    assert counts[~inside].sum() == 0
    assert chi_square_p_value(counts[inside], expected[inside]) > 1e-3


def test_colour_amounts_are_uniform_within_their_limits() -> None:
    p, limit = 0.4, 0.25
    colour = {"kind": "plain", "brightness": limit, "contrast": 0, "saturation": 0}
    augment = ScheduledAugment(flips=False, turns=False, translate=0, colour=colour)
    added = (
        augment.augment_fake(torch.zeros(8000, 1, 1, 1), p, make_generator())
        .flatten()
        .double()
        .numpy()
    )
    shifted = added[added != 0]
    assert stats.binomtest(len(shifted), 8000, p).pvalue > 1e-3
    assert stats.kstest(shifted, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3


def transitions(p: float) -> np.ndarray:
    """Column k: frequency of each pose for images generated in pose k."""
    original, augment = random_images(1, 4), ScheduledAugment(translate=0)
    columns = []
    for pose in range(8):
        batch = in_pose(original, pose).expand(20_000, -1, -1, -1)
        columns.append(
            pose_counts(augment.augment_fake(batch, p, make_generator(pose)), original) / 20_000
        )
    return np.array(columns).T


def fitted(transition: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Pose frequencies of a generator fitted to augmented frequencies alone, by KL descent."""
    logits = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    recorded, channel = torch.from_numpy(observed), torch.from_numpy(transition)
    for _ in range(1500):
        optimiser.zero_grad()
        result = channel @ logits.softmax(0)
        (recorded * (recorded.log() - result.log())).sum().backward()
        optimiser.step()
    return logits.detach().softmax(0).numpy()


def test_a_generator_does_not_learn_the_augmentation_below_p_one() -> None:
    """The pose frequencies of the reals are recovered from augmented images alone."""
    real = np.array([0.6, 0.02, 0.1, 0.02, 0.2, 0.02, 0.02, 0.02])
    original = random_images(1, 4)
    weights = torch.from_numpy(np.rint(real * 40_000).astype(np.int64))
    batch = apply_pose_and_shift(
        original.expand(40_000, -1, -1, -1),
        torch.arange(8).repeat_interleave(weights),
        no_shift(40_000),
    )
    errors = {}
    for p in (0.6, 1.0):
        displayed = ScheduledAugment(translate=0).augment_fake(batch, p, make_generator(9))
        frequencies = pose_counts(displayed, original) / 40_000
        errors[p] = np.abs(fitted(transitions(p), frequencies) - real).sum()
    assert errors[0.6] < 0.15
    # With p = 1 all frequencies are equal, and the original ones are lost.
    assert errors[1.0] > 0.5


@pytest.mark.parametrize(
    "colour", [{"kind": "plain"}, {"kind": "stain"}], ids=lambda colour: colour["kind"]
)
def test_gradients_are_those_of_finite_differences(colour: dict[str, Any]) -> None:
    augment = AdaptiveAugment(translate=0.25, colour=colour)
    # Away from the ends of the range, where the density has a kink.
    batch = (0.9 * random_images(3, 4).double()).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: augment.augment_fake(x, 0.9, make_generator(2)), batch
    )


@pytest.mark.parametrize("value", [-1.5, -1.0, 1.5])
def test_a_pixel_outside_the_range_still_has_a_gradient(value: float) -> None:
    batch = torch.full((6, 3, 4, 4), value, requires_grad=True)
    displayed = AdaptiveAugment(translate=0, colour=StainColour()).augment_fake(
        batch, 1.0, make_generator()
    )
    (slope,) = torch.autograd.grad(displayed.sum(), batch)
    assert (slope > 0).all()


class Judge(nn.Module):
    """A small smooth critic without any symmetry."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.randn(8, 3 * 36, generator=make_generator(5), dtype=torch.float64)

    def forward(self, batch: Tensor) -> Tensor:
        return torch.tanh(batch.flatten(1) @ self.weights.T / 10).sum(1)


def penalties(shift: Tensor) -> tuple[Tensor, Tensor]:
    """|gradient|^2 of the critic with respect to the augmented and to the original image."""
    critic, plain = Judge(), random_images(8, 6).double().requires_grad_()
    displayed = apply_pose_and_shift(plain, torch.arange(8), shift)
    of_plain = squared_gradient(critic(displayed), plain)
    recorded = displayed.detach().requires_grad_()
    return squared_gradient(critic(recorded), recorded), of_plain


def test_flips_and_turns_do_not_change_the_gradient_penalty() -> None:
    recorded, plain = penalties(no_shift(8))
    torch.testing.assert_close(recorded, plain)
    # Translation drops and repeats pixels, so the two penalties differ.
    recorded, plain = penalties(torch.ones(8, 2, dtype=torch.int64))
    assert not torch.allclose(recorded, plain, rtol=0.01)
