"""Adversarial losses against closed forms, finite differences and a Kolmogorov-Smirnov test."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from controlgen.objectives import (
    R3GAN,
    WGAN,
    WGANGP,
    WGANGPSN,
    WGANSN,
    Hinge,
    Minimax,
    NonSaturating,
    Objective,
)
from controlgen.objectives.penalties import interpolate_real_fake, squared_gradient
from controlgen.rng import torch_stream

SHAPE = (6, 2, 4, 4)


def draws(index: int = 0) -> torch.Generator:
    return torch_stream(0, "objective", index)


def images(index: int) -> Tensor:
    return torch.randn(*SHAPE, generator=draws(index), dtype=torch.float64)


REAL, FAKE = images(1), images(2)
FIRST = torch.randn(32, 5, generator=draws(3), dtype=torch.float64) / 4
LAST = torch.randn(5, generator=draws(4), dtype=torch.float64)


def smooth(x: Tensor, first: Tensor = FIRST, last: Tensor = LAST) -> Tensor:
    """A twice differentiable critic of two layers."""
    return torch.tanh(x.flatten(1) @ first) @ last


def linear(slope: float) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    weight = torch.randn(SHAPE[1:], generator=draws(5), dtype=torch.float64)
    weight = weight * (slope / weight.norm())
    return weight, lambda x: (x * weight).sum((1, 2, 3))


def test_equal_logits_cost_ln_2() -> None:
    objective = R3GAN.model_validate({"gamma": 0})

    def flat(x: Tensor) -> Tensor:
        return 0 * x.sum((1, 2, 3)) + 1.7

    expected = torch.full((6,), math.log(2), dtype=torch.float64)
    torch.testing.assert_close(objective.critic_loss(flat, REAL, FAKE, draws()).loss, expected)
    torch.testing.assert_close(objective.generator_loss(flat, REAL, FAKE), expected)


@pytest.mark.parametrize("gamma", [0.1, 1.0, 15.0])
def test_r1_and_r2_of_a_linear_critic(gamma: float) -> None:
    weight, critic = linear(1.3)
    terms = R3GAN.model_validate({"gamma": gamma}).critic_loss(critic, REAL, FAKE, draws())
    norm = weight.square().sum()
    torch.testing.assert_close(terms.penalty, (gamma / 2 * (norm + norm)).expand(6))
    gap = ((REAL - FAKE) * weight).sum((1, 2, 3))
    torch.testing.assert_close(terms.gap, gap)
    torch.testing.assert_close(terms.loss - terms.penalty, torch.log1p(torch.exp(-gap)))


def test_r1_and_r2_are_taken_where_they_belong() -> None:
    """D(x) = |x|^2/2 has gradient x: the penalty is gamma/2 (|x|^2 + |G(z)|^2), paired by index."""
    terms = R3GAN.model_validate({"gamma": 2.0}).critic_loss(
        lambda x: x.square().sum((1, 2, 3)) / 2, REAL, FAKE, draws()
    )
    expected = REAL.square().sum((1, 2, 3)) + FAKE.square().sum((1, 2, 3))
    torch.testing.assert_close(terms.penalty, expected)


def test_gamma_is_the_scheduled_one() -> None:
    objective = R3GAN.model_validate({"gamma": {"start": 2.0, "end": 0.5}})
    _, critic = linear(1.0)
    for burn_in, gamma in ((0.0, 2.0), (0.5, 1.25), (1.0, 0.5), (3.0, 0.5)):
        penalty = objective.at(burn_in).critic_loss(critic, REAL, FAKE, draws()).penalty
        torch.testing.assert_close(penalty, torch.full((6,), gamma, dtype=torch.float64))


@pytest.mark.parametrize("objective", [R3GAN(), WGANGP()], ids=lambda objective: objective.kind)
def test_critic_losses_ignore_a_constant(objective: R3GAN | WGANGP) -> None:
    plain = objective.critic_loss(smooth, REAL, FAKE, draws())
    shifted = objective.critic_loss(lambda x: smooth(x) + 7.5, REAL, FAKE, draws())
    for item, other in zip(plain, shifted, strict=True):
        torch.testing.assert_close(item, other)


def test_the_relativistic_generator_loss_ignores_a_constant() -> None:
    plain = R3GAN().generator_loss(smooth, REAL, FAKE)
    torch.testing.assert_close(plain, R3GAN().generator_loss(lambda x: smooth(x) + 7.5, REAL, FAKE))
    expected = torch.log1p(torch.exp(-(smooth(FAKE) - smooth(REAL))))
    torch.testing.assert_close(plain, expected)


@pytest.mark.parametrize("objective", [R3GAN(), WGANGP()], ids=lambda objective: objective.kind)
def test_gradients_against_finite_differences(objective: R3GAN | WGANGP) -> None:
    """The critic's through the penalty (a second derivative), the generator's through the fakes."""

    def critic_loss(first: Tensor, last: Tensor) -> Tensor:
        terms = objective.critic_loss(lambda x: smooth(x, first, last), REAL, FAKE, draws(9))
        return terms.loss.mean()

    def generator_loss(fake: Tensor) -> Tensor:
        return objective.generator_loss(smooth, REAL, fake).mean()

    inputs = (FIRST.clone().requires_grad_(), LAST.clone().requires_grad_())
    assert torch.autograd.gradcheck(critic_loss, inputs, fast_mode=True)
    assert torch.autograd.gradcheck(generator_loss, FAKE.clone().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("slope", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("weight", [10.0, 0.5])
def test_wgan_gp_of_a_linear_critic(slope: float, weight: float) -> None:
    direction, critic = linear(slope)
    terms = WGANGP(penalty_weight=weight).critic_loss(critic, REAL, FAKE, draws())
    expected = torch.full((6,), weight * (slope - 1) ** 2, dtype=torch.float64)
    torch.testing.assert_close(terms.penalty, expected, rtol=1e-7, atol=1e-12)
    gap = ((REAL - FAKE) * direction).sum((1, 2, 3))
    torch.testing.assert_close(terms.loss, expected - gap)
    torch.testing.assert_close(
        WGANGP().generator_loss(critic, REAL, FAKE), -(FAKE * direction).sum((1, 2, 3))
    )


def test_wgan_gp_looks_between_the_pairs() -> None:
    """D(x) = |x|^2/2 has slope |x|: the penalty tells where the interpolates were taken."""
    real, fake = 3 * torch.ones(SHAPE).double(), torch.zeros(SHAPE).double()
    terms = WGANGP(penalty_weight=1.0).critic_loss(
        lambda x: x.square().sum((1, 2, 3)) / 2, real, fake, draws()
    )
    slope = torch.rand(6, generator=draws()).double() * real[0].norm()
    torch.testing.assert_close(terms.penalty, (slope - 1) ** 2)


def test_wgan_gp_gives_a_dead_critic_a_finite_gradient() -> None:
    """The slope of an all-zero critic is 0, where a square root has no derivative."""
    weight = torch.zeros(SHAPE[1:], dtype=torch.float64, requires_grad=True)
    terms = WGANGP().critic_loss(lambda x: (x * weight).sum((1, 2, 3)), REAL, FAKE, draws())
    torch.testing.assert_close(terms.penalty.detach(), torch.full((6,), 10.0).double())
    terms.loss.mean().backward()
    torch.testing.assert_close(weight.grad, (FAKE - REAL).mean(0))


def segment_weights(n: int = 20_000) -> Tensor:
    """Where each interpolate sits between fake (0) and real (1)."""
    real, fake = torch.full((n, 1, 1, 1), 5.0), torch.full((n, 1, 1, 1), -3.0)
    return (interpolate_real_fake(real, fake, draws(6)).flatten() + 3) / 8


def test_interpolates_are_uniform_on_the_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stats.kstest(segment_weights().numpy(), "uniform").pvalue > 1e-3
    # The well-known mistake, a normal weight, must not pass the same test.
    monkeypatch.setattr(torch, "rand", torch.randn)
    assert stats.kstest(segment_weights().numpy(), "uniform").pvalue < 1e-6


def test_interpolates_share_one_weight_per_pair() -> None:
    between = interpolate_real_fake(REAL, FAKE, draws())
    weights = ((between - FAKE) / (REAL - FAKE)).flatten(1)
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
    assert weights[:, 0].unique().numel() == len(weights)


def test_squared_gradient_sums_over_the_image() -> None:
    x = REAL.clone().requires_grad_()
    actual = squared_gradient((x**3).sum((1, 2, 3)), x)
    torch.testing.assert_close(actual, (9 * REAL**4).sum((1, 2, 3)))


# The classic game, hinge and the rest of the WGAN family.

PLAIN: list[Objective] = [WGAN(), WGANSN(), Minimax(), NonSaturating(), Hinge()]
R1_R2: list[Objective] = [
    family.model_validate({"gamma": {"start": 2.0, "end": 0.5}}).at(0.5)
    for family in (Minimax, NonSaturating)
]


def objective_id(objective: Objective) -> str:
    return type(objective).__name__


def flat(x: Tensor) -> Tensor:
    return 0 * x.sum((1, 2, 3))


@pytest.mark.parametrize(
    ("objective", "critic", "generator"),
    [
        (WGAN(), 0.0, 0.0),
        (WGANSN(), 0.0, 0.0),
        (WGANGP(), 10.0, 0.0),
        (WGANGPSN(), 10.0, 0.0),
        (Minimax(), 2 * math.log(2), -math.log(2)),
        (NonSaturating(), 2 * math.log(2), math.log(2)),
        (R1_R2[0], 2 * math.log(2), -math.log(2)),
        (Hinge(), 2.0, 0.0),
    ],
    ids=lambda value: objective_id(value) if not isinstance(value, float) else None,
)
def test_what_an_undecided_critic_costs(
    objective: Objective, critic: float, generator: float
) -> None:
    """Logits of 0 are probabilities of one half, no distance, a full margin; no slope at all."""
    actual = objective.critic_loss(flat, REAL, FAKE, draws())
    expected = torch.full((6,), critic, dtype=torch.float64)
    torch.testing.assert_close(actual.loss, expected, rtol=1e-7, atol=1e-12)
    expected = torch.full((6,), generator, dtype=torch.float64)
    torch.testing.assert_close(objective.generator_loss(flat, REAL, FAKE), expected)


def formulas(kind: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """(critic's loss, generator's loss) of these scores, as the papers write them."""
    if kind in ("wgan", "wgan-sn"):
        return fake - real, -fake
    if kind == "hinge":
        zero = torch.zeros_like(real)
        return torch.maximum(zero, 1 - real) + torch.maximum(zero, 1 + fake), -fake
    probability_real, probability_fake = 1 / (1 + torch.exp(-real)), 1 / (1 + torch.exp(-fake))
    critic = -torch.log(probability_real) - torch.log(1 - probability_fake)
    return critic, (
        torch.log(1 - probability_fake) if kind == "minimax" else -torch.log(probability_fake)
    )


@pytest.mark.parametrize("objective", [*PLAIN, *R1_R2], ids=objective_id)
def test_losses_and_their_gradients_are_the_written_ones(objective: Any) -> None:
    """In float64, with gradients by the critic's weights and by the fakes through autograd."""
    ours, theirs = ((FIRST.clone().requires_grad_(), LAST.clone()) for _ in range(2))
    terms = objective.critic_loss(lambda x: smooth(x, *ours), REAL, FAKE, draws())
    critic, _ = formulas(objective.kind, smooth(REAL, *theirs), smooth(FAKE, *theirs))
    if gamma := getattr(objective, "gamma", None):
        for images in (REAL, FAKE):
            # grad_x of last . tanh(first^T x) is first (last * (1 - tanh^2)).
            bent = 1 - torch.tanh(images.flatten(1) @ theirs[0]).square()
            norm = ((theirs[1] * bent) @ theirs[0].T).square().sum(1)
            critic = critic + gamma.end / 2 * norm
    torch.testing.assert_close(terms.loss, critic)
    (actual,) = torch.autograd.grad(terms.loss.mean(), ours[0])
    (expected,) = torch.autograd.grad(critic.mean(), theirs[0])
    torch.testing.assert_close(actual, expected)

    mine, hand = (FAKE.clone().requires_grad_() for _ in range(2))
    loss = objective.generator_loss(smooth, REAL, mine)
    _, generator = formulas(objective.kind, smooth(REAL), smooth(hand))
    torch.testing.assert_close(loss, generator)
    (actual,) = torch.autograd.grad(loss.sum(), mine)
    (expected,) = torch.autograd.grad(generator.sum(), hand)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("family", [Minimax, NonSaturating])
def test_r1_and_r2_of_the_classic_game_follow_their_schedule(
    family: type[Minimax] | type[NonSaturating],
) -> None:
    """A linear critic has |grad D|^2 = |w|^2 everywhere: the penalty is gamma |w|^2."""
    objective = family.model_validate({"gamma": {"start": 2.0, "end": 0.0}})
    _, critic = linear(1.5)
    for burn_in, gamma in ((0.0, 2.0), (0.5, 1.0), (1.0, 0.0)):
        penalty = objective.at(burn_in).critic_loss(critic, REAL, FAKE, draws()).penalty
        torch.testing.assert_close(penalty, torch.full((6,), 2.25 * gamma, dtype=torch.float64))


def test_the_minimax_generator_stalls_where_fakes_are_found_and_the_other_does_not() -> None:
    score = torch.full((6, 1, 1, 1), -20.0, dtype=torch.float64, requires_grad=True)
    slopes = []
    for objective in (Minimax(), NonSaturating()):
        loss = objective.generator_loss(lambda x: x.sum((1, 2, 3)), REAL, score).sum()
        slopes.append(torch.autograd.grad(loss, score)[0].abs().max().item())
    assert slopes[0] < 1e-8
    assert slopes[1] == pytest.approx(1, abs=1e-8)


def test_hinge_has_no_pull_beyond_the_margin() -> None:
    """Scores of +2 on reals and -2 on fakes cost nothing; inside, the pull is 1."""
    for far, slope in ((2.0, 0.0), (0.5, 1.0)):
        scores = torch.cat([torch.full((6,), far), torch.full((6,), -far)]).double()
        scores.requires_grad_()
        loss = Hinge().critic_loss(lambda x, scores=scores: scores, REAL, FAKE, draws()).loss
        torch.testing.assert_close(loss, torch.full((6,), 2 * max(0.0, 1 - far)).double())
        (actual,) = torch.autograd.grad(loss.sum(), scores)
        torch.testing.assert_close(
            actual, slope * torch.tensor([-1.0, 1.0]).repeat_interleave(6).double()
        )


@pytest.mark.parametrize("clip", [0.01, 0.3])
def test_clipping_bounds_every_parameter_and_keeps_the_small(clip: float) -> None:
    critic = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 1))
    before = []
    for index, weight in enumerate(critic.parameters()):
        samples = torch.randn(weight.shape, generator=draws(20 + index))
        weight.data.copy_(samples)
        before.append(samples)
    WGAN(clip=clip).after_critic_step(critic)
    for old, new in zip(before, critic.parameters(), strict=True):
        assert np.array_equal(new.detach().numpy(), np.clip(old.numpy(), -clip, clip))


def test_who_asks_for_what() -> None:
    assert WGAN().optimiser == "rmsprop" and WGAN(rmsprop=False).optimiser == "adam"
    assert all(item.optimiser == "adam" for item in (R3GAN(), WGANGP(), *PLAIN[1:]))
    assert [item.spectral_norm for item in (R3GAN(), WGAN(), WGANGP(), Hinge())] == ["none"] * 4
    assert WGANSN().spectral_norm == WGANGPSN().spectral_norm == "critic"
    assert WGANGPSN(normalised="both").spectral_norm == "both"


def test_the_penalised_members_play_the_same_game() -> None:
    """Spectral norm is the training's work: the losses of wgan-gp-sn are those of wgan-gp."""
    single, other = (
        family(penalty_weight=3.0).critic_loss(smooth, REAL, FAKE, draws())
        for family in (WGANGP, WGANGPSN)
    )
    assert all(torch.equal(a, b) for a, b in zip(single, other, strict=True))


def test_settings_that_name_runs_are_what_they_were() -> None:
    """Runs are found by fingerprint: a change here would make every trained GAN anew."""
    assert R3GAN().fingerprint() == "8c7185285c53"
    assert WGANGP().fingerprint() == "3d2454634254"
