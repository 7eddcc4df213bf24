"""What every adversarial objective must do; the union AnyObjective lists the members."""

from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from controlgen.base_config import BaseConfig
from controlgen.objectives import AnyObjective, Optimiser, SpectralNormTarget
from controlgen.rng import torch_stream

MEMBERS = get_args(get_args(AnyObjective)[0])
N = 5
# The members whose default holds the critic by a gradient penalty; the others have none at all.
PENALISED = {"r3gan", "wgan-gp", "wgan-gp-sn"}

pytestmark = [
    pytest.mark.usefixtures("global_randomness_untouched"),
    pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__),
]


def images(index: int) -> Tensor:
    return torch.randn(N, 3, 8, 8, generator=torch_stream(0, "contract", index))


class SmoothCritic(torch.nn.Module):
    """Two layers, no item sees another; scores within -1..1, where a margin of 1 is not reached."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Parameter(0.1 * images(2)[:4].flatten(1))
        self.last = torch.nn.Parameter(images(3)[0, 0, 0, :4] / 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1) @ self.first.T) @ self.last


def draws() -> torch.Generator:
    return torch_stream(0, "contract draws")


REAL, FAKE = images(0), images(1)


def test_defaults_make_a_spec_of_the_union(member: type[Any]) -> None:
    objective = member()
    assert isinstance(objective, BaseConfig)
    assert objective.critic_steps >= 1
    assert objective.optimiser in get_args(Optimiser)
    assert objective.spectral_norm in get_args(SpectralNormTarget)
    adapter: TypeAdapter[Any] = TypeAdapter(AnyObjective)
    assert adapter.validate_python(objective.to_dict()) == objective
    assert [item().kind for item in MEMBERS].count(objective.kind) == 1


def test_terms_are_per_image_and_consistent(member: type[Any]) -> None:
    critic = SmoothCritic()
    terms = member().critic_loss(critic, REAL, FAKE, draws())
    for term in terms:
        assert term.shape == (N,)
        assert term.isfinite().all()
    torch.testing.assert_close(terms.gap, critic(REAL) - critic(FAKE))
    assert (terms.penalty >= 0).all()
    assert bool(terms.penalty.any()) == (member().kind in PENALISED)
    assert member().generator_loss(critic, REAL, FAKE).shape == (N,)


def test_the_game_rewards_telling_reals_from_fakes(member: type[Any]) -> None:
    """Without its penalty, each pair's loss falls with D(real) and rises with D(fake)."""
    critic, raised = SmoothCritic(), torch.zeros(2 * N, requires_grad=True)
    reference = torch.cat([REAL, FAKE])

    def raising(x: Tensor) -> Tensor:
        # Adds raised[i] to the score of the known image i, wherever in the batch it stands.
        actual = (x[:, None] == reference[None]).flatten(2).all(2)
        return critic(x) + actual.to(raised.dtype) @ raised

    terms = member().critic_loss(raising, REAL, FAKE, draws())
    (slope,) = torch.autograd.grad((terms.loss - terms.penalty).sum(), raised)
    on_real, on_fake = slope.chunk(2)
    assert (on_real < 0).all() and (on_fake > 0).all()


def test_an_item_depends_on_its_own_pair_only(member: type[Any]) -> None:
    critic, objective = SmoothCritic(), member()
    others = torch.cat([REAL[:1], images(7)[1:]]), torch.cat([FAKE[:1], images(8)[1:]])
    for actual, expected in zip(
        objective.critic_loss(critic, *others, draws()),
        objective.critic_loss(critic, REAL, FAKE, draws()),
        strict=True,
    ):
        torch.testing.assert_close(actual[0], expected[0])
        # A term that is zero everywhere is no penalty, and has nothing to depend on.
        assert not expected.any() or not torch.allclose(actual[1:], expected[1:])
    torch.testing.assert_close(
        objective.generator_loss(critic, *others)[0],
        objective.generator_loss(critic, REAL, FAKE)[0],
    )


def test_the_critic_step_leaves_the_generator_alone(member: type[Any]) -> None:
    critic, fake = SmoothCritic(), FAKE.clone().requires_grad_()
    member().critic_loss(critic, REAL, fake, draws()).loss.mean().backward()
    assert fake.grad is None
    assert all(weight.grad is not None and weight.grad.any() for weight in critic.parameters())


def test_the_generator_step_reaches_the_fakes(member: type[Any]) -> None:
    critic, fake = SmoothCritic(), FAKE.clone().requires_grad_()
    loss = member().generator_loss(critic, REAL, fake)
    (slope,) = torch.autograd.grad(loss.sum(), fake)
    assert (slope.flatten(1).abs().sum(1) > 0).all()
    # A small step against it lowers every image's loss.
    nearer = member().generator_loss(critic, REAL, (fake - 0.01 * slope).detach())
    assert (nearer < loss).all()


def test_nothing_is_stepped_or_left_behind(member: type[Any]) -> None:
    critic, real, fake = SmoothCritic(), REAL.clone(), FAKE.clone()
    weights = [weight.detach().clone() for weight in critic.parameters()]
    member().critic_loss(critic, real, fake, draws())
    member().generator_loss(critic, real, fake)
    assert all(weight.grad is None for weight in critic.parameters())
    assert all(torch.equal(a, b) for a, b in zip(weights, critic.parameters(), strict=True))
    assert torch.equal(real, REAL) and torch.equal(fake, FAKE)
    assert not real.requires_grad and not fake.requires_grad


def test_equal_draws_give_equal_terms(member: type[Any]) -> None:
    first, second = (member().critic_loss(SmoothCritic(), REAL, FAKE, draws()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_schedules_resolve_to_the_same_kind(member: type[Any]) -> None:
    for burn_in in (0.0, 0.5, 1.0, 7.0):
        resolved = member().at(burn_in)
        assert type(resolved) is member
        assert resolved.at(0.0) == resolved.at(1.0)


def test_acting_after_the_critic_step_touches_weights_alone(member: type[Any]) -> None:
    """In place, idempotent, and nothing but parameters that get smaller."""
    critic, objective = SmoothCritic(), member()
    before = [weight.detach().clone() for weight in critic.parameters()]
    objective.after_critic_step(critic)
    once = [weight.detach().clone() for weight in critic.parameters()]
    objective.after_critic_step(critic)
    for old, new, again in zip(before, once, critic.parameters(), strict=True):
        assert (new.abs() <= old.abs()).all() and torch.equal(new, again.detach())
        assert again.requires_grad and again.grad is None
