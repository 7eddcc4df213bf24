"""Training: steps recomputed by hand, averages, divergence."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from controlgen.config import TrainConfig
from controlgen.errors import ArtifactCorrupt, Diverged, Incompatible
from controlgen.images import to_signed_float
from controlgen.rng import torch_stream
from controlgen.training import Progress, TrainState, train
from training_runs import WGAN_GP, assert_same_bits, snapshot, uninterrupted

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")


def losses(
    config: TrainConfig,
    critic: Any,
    real: Tensor,
    fake: Tensor,
    draws: torch.Generator,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """The critic's mean loss and mean penalty, written out from the papers."""
    if config.objective.kind == "r3gan":
        norms = []
        for images in (real, fake):
            images = images.clone().requires_grad_()
            (slope,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
            norms.append((slope**2).flatten(1).sum(1))
        penalty = gamma / 2 * (norms[0] + norms[1])
        return (softplus(critic(fake) - critic(real)) + penalty).mean(), penalty.mean()
    share = torch.rand(len(real), generator=draws)[:, None, None, None]
    between = (fake + share * (real - fake)).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty = config.objective.penalty_weight * (slope.flatten(1).norm(dim=1) - 1) ** 2
    return (critic(fake) - critic(real) + penalty).mean(), penalty.mean()


class Adam:
    """Kingma and Ba with beta1 = 0, so that the first moment is the gradient itself."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module, self.steps = module, 0
        self.second = [torch.zeros_like(weight) for weight in module.parameters()]

    def step(self, gradients: tuple[Tensor, ...], lr: float, beta2: float) -> None:
        self.steps += 1
        with torch.no_grad():
            for weight, second, g in zip(
                self.module.parameters(), self.second, gradients, strict=True
            ):
                second.mul_(beta2).add_((1 - beta2) * g**2)
                size = (second / (1 - beta2**self.steps)).sqrt() + 1e-8
                weight.sub_(lr * g / size)


def by_hand(config: TrainConfig, state: TrainState, steps: int) -> list[Progress]:
    """The same training, recomputed with plain autograd and its own Adam, on fp32."""
    dataset = config.dataset.open()
    generator, critic, objective = state.generator, state.critic, config.objective
    optimisers = Adam(critic), Adam(generator)
    micro = config.batch_size // config.accumulate
    result = []
    for step in range(steps):
        recorded = step * config.batch_size * objective.critic_steps
        draws = torch_stream(config.seed, "train", recorded)
        half = (1 + math.cos(math.pi * min(recorded / config.burn_in_images, 1))) / 2

        def at(schedule: Any, half: float = half) -> float:
            return float(half * schedule.start + (1 - half) * schedule.end)

        gamma = at(objective.gamma) if objective.kind == "r3gan" else math.nan
        rates = at(config.learning_rate), at(config.beta2)

        def batch(draws: torch.Generator = draws) -> tuple[Tensor, Tensor]:
            indices = torch.randint(len(dataset), (micro,), generator=draws)
            latents = torch.randn(micro, config.network.latent_size, generator=draws)
            return to_signed_float(dataset.pixels(indices.numpy())), latents

        for _ in range(objective.critic_steps):
            critic_loss, gap, penalty = torch.zeros(()), 0.0, 0.0
            for _ in range(config.accumulate):
                real, latents = batch()
                fake = generator(latents).detach()
                part, part_penalty = losses(config, critic, real, fake, draws, gamma)
                critic_loss = critic_loss + part / config.accumulate
                penalty += part_penalty.item() / config.accumulate
                gap += (critic(real) - critic(fake)).mean().item() / config.accumulate
            optimisers[0].step(torch.autograd.grad(critic_loss, list(critic.parameters())), *rates)
        generator_loss = torch.zeros(())
        for _ in range(config.accumulate):
            real, latents = batch()
            score = critic(generator(latents))
            if objective.kind == "r3gan":
                part = softplus(critic(real) - score).mean()
            else:
                part = -score.mean()
            generator_loss = generator_loss + part / config.accumulate
        optimisers[1].step(
            torch.autograd.grad(generator_loss, list(generator.parameters())), *rates
        )
        images = config.batch_size * objective.critic_steps
        half_life = at(config.ema_half_life)
        keep = 0.5 ** (images / half_life) if half_life else 0.0
        with torch.no_grad():
            for slow, fast in zip(state.average.parameters(), generator.parameters(), strict=True):
                slow.copy_(keep * slow + (1 - keep) * fast)
        result.append(
            Progress(recorded + images, critic_loss.item(), generator_loss.item(), gap, penalty)
        )
    return result


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", ["r3gan", "wgan-gp"])
def test_steps_against_an_independent_recomputation(
    kind: str, accumulate: int, tiny_config: Callable[..., TrainConfig]
) -> None:
    changes = {"objective": WGAN_GP} if kind == "wgan-gp" else {}
    steps = 3
    per_step = 8 * changes.get("objective", {}).get("critic_steps", 1)
    config = tiny_config(accumulate=accumulate, total_images=steps * per_step, **changes)
    state, progress = uninterrupted(config)
    reference = TrainState(config, (1, 32, 32))
    target = by_hand(config, reference, steps)
    for actual, expected in zip(progress, target, strict=True):
        assert tuple(actual) == pytest.approx(tuple(expected), rel=1e-3, abs=1e-5)
    # Adam divides by the gradient's size: compare weights by how far they have moved in all.
    for part in ("generator", "critic", "average"):
        fresh = getattr(TrainState(config, (1, 32, 32)), part).state_dict()
        actual, expected = (getattr(s, part).state_dict() for s in (state, reference))
        shifted = math.sqrt(sum((expected[n] - fresh[n]).square().sum().item() for n in fresh))
        apart = math.sqrt(sum((actual[n] - expected[n]).square().sum().item() for n in fresh))
        assert shifted > 0.01
        assert apart < 0.01 * shifted


def test_half_life_zero_makes_the_average_the_network(
    tiny_config: Callable[..., TrainConfig],
) -> None:
    state, _ = uninterrupted(tiny_config(ema_half_life=0, total_images=16))
    assert_same_bits(dict(state.average.state_dict()), dict(state.generator.state_dict()))
    state, _ = uninterrupted(tiny_config(ema_half_life=1e4, total_images=16))
    fresh = TrainState(tiny_config(), (1, 32, 32)).generator.state_dict()
    for name, value in state.average.state_dict().items():
        trained = state.generator.state_dict()[name]
        assert (value - fresh[name]).norm() <= 0.01 * (trained - fresh[name]).norm()


def test_stopping_is_not_asking_again(tiny_config: Callable[..., TrainConfig]) -> None:
    """A caller may stop after any item, and one more call goes on where it stopped."""
    config = tiny_config(total_images=32)
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    first = next(train(config, dataset, state))
    assert (first.images_seen, state.images_seen) == (8, 8)
    rest = list(train(config, dataset, state))
    assert [progress.images_seen for progress in rest] == [16, 24, 32]
    assert list(train(config, dataset, state)) == []
    full, progress = uninterrupted(config)
    assert_same_bits(state.tensors(), full.tensors())
    assert progress == [first, *rest]


def test_a_fixed_latent_map_stays_as_it_was_drawn(tiny_config: Callable[..., TrainConfig]) -> None:
    network = tiny_config().network.model_copy(update={"latent_map": "fixed"})
    config = tiny_config(network=network.to_dict(), total_images=32)
    fresh = TrainState(config, (1, 32, 32))
    state, _ = uninterrupted(config)
    for part in ("generator", "average"):
        before, after = (getattr(item, part).state_dict() for item in (fresh, state))
        still = {name for name in before if torch.equal(before[name], after[name])}
        assert still == {"linear.weight"}
    # Learned, the same network moves it; and a fixed one goes on from where it stopped.
    learned, _ = uninterrupted(tiny_config(total_images=32))
    samples = fresh.generator.state_dict()["linear.weight"]
    assert not torch.equal(learned.generator.state_dict()["linear.weight"], samples)
    dataset, again = config.dataset.open(), TrainState(config, (1, 32, 32))
    halfway = TrainState(config, (1, 32, 32))
    for progress in train(config, dataset, halfway):
        if progress.images_seen == 16:
            break
    again.restore({name: value.clone() for name, value in halfway.tensors().items()})
    assert len(list(train(config, dataset, again))) == 2
    assert_same_bits(again.tensors(), state.tensors())
    # A network that says nothing of it keeps the name it had.
    assert "latent_map" not in tiny_config().network.identity()
    assert network.identity()["latent_map"] == "fixed"


@pytest.mark.parametrize("objective", [{"kind": "r3gan"}, WGAN_GP], ids=lambda o: o["kind"])
def test_a_wild_learning_rate_diverges_and_keeps_the_state_before(
    objective: dict[str, Any], tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config(
        objective=objective, learning_rate={"start": 1e-3, "end": 1e30}, total_images=10_000
    )
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    last = snapshot(state)
    with pytest.raises(Diverged, match=r"loss became .* images; .*learning_rate"):
        for _ in train(config, dataset, state):
            last = snapshot(state)
    assert 0 < int(last["images_seen"]) < 10_000
    assert all(value.isfinite().all() for value in last.values())


@pytest.mark.parametrize("part", ["critic", "generator"])
def test_a_non_finite_loss_does_not_reach_the_weights(
    part: str, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config()
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    with torch.no_grad():
        getattr(state, part).linear.weight.fill_(math.nan)
    before = snapshot(state)
    with pytest.raises(Diverged, match="critic loss became nan .*after 0 images"):
        next(train(config, dataset, state))
    for name, value in state.tensors().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("part", ["critic", "generator"])
def test_a_non_finite_gradient_of_a_finite_loss_does_not_reach_the_weights(
    part: str, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config()
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    next(train(config, dataset, state))
    weight = getattr(state, part).linear.weight
    weight.register_hook(lambda gradient: gradient * math.nan)
    before = snapshot(state)
    with pytest.raises(Diverged, match=f"{part} loss became [-0-9.]+ .*gradient nan"):
        next(train(config, dataset, state))
    actual = state.tensors()
    for name in before:
        assert actual[name].isfinite().all(), name
        if name.startswith((part, "average")):
            assert torch.equal(actual[name], before[name]), name


def test_a_state_that_does_not_fit_is_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config()
    by_name = TrainState(config, (1, 32, 32)).tensors()
    other = TrainState(
        tiny_config(network={"kind": "r3gan", "widths": [24, 24], "patch": 4}), (1, 32, 32)
    )
    with pytest.raises(ArtifactCorrupt, match="does not fit"):
        other.restore(by_name)
    for missing in ("images_seen", "critic/linear.weight"):
        part = {name: value for name, value in by_name.items() if name != missing}
        with pytest.raises(ArtifactCorrupt, match=missing.split("/")[-1]):
            TrainState(config, (1, 32, 32)).restore(part)


def test_networks_of_another_size_than_the_data_are_refused(
    tiny_config: Callable[..., TrainConfig],
) -> None:
    with pytest.raises(Incompatible, match="makes 32x32 images but the dataset has 64x64"):
        TrainState(tiny_config(), (1, 64, 64))
    assert TrainState(tiny_config(), (3, 32, 32)).generator(torch.zeros(1, 8)).shape[1] == 3


def test_a_missing_gpu_is_named(
    tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Incompatible, match="no usable GPU"):
        TrainState(tiny_config(device="cuda"), (1, 32, 32))
