"""GAN training as a generator function: one step per item."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from controlgen import rng
from controlgen.config import TrainConfig
from controlgen.errors import Diverged
from controlgen.images import to_signed_float
from controlgen.networks.spectral_norm import power_iteration_step
from controlgen.objectives import Objective
from controlgen.training.state import TrainState
from controlgen.types import Dataset


class Progress(NamedTuple):
    """The metrics of one step; batch means."""

    images_seen: int
    critic_loss: float
    generator_loss: float
    gap: float  # D(real) - D(fake)
    penalty: float
    augment_p: float = 0.0  # augmentation probability of this step


def ema_decay(batch_images: int, half_life_images: float) -> float:
    """0.5^(batch / half-life); 0 for half-life 0, so that the average is the network itself."""
    return 0.5 ** (batch_images / half_life_images) if half_life_images > 0 else 0.0


def train(config: TrainConfig, dataset: Dataset, state: TrainState) -> Iterator[Progress]:
    """Advance `state` in place to `total_images`, one critic and generator step per item.

    The caller stops by not asking for more and may save `state` between two items. Every step draws
    from its own stream (seed, images_seen), so a resumed run equals an uninterrupted one bit by bit
    on a CPU. Raises Diverged at the first non-finite loss or gradient, before it reaches the
    weights.
    """
    while state.images_seen < config.total_images:
        yield _step(config, dataset, state)


def _step(config: TrainConfig, dataset: Dataset, state: TrainState) -> Progress:
    draws = rng.torch_stream(config.seed, "train", state.images_seen)
    step_images = config.batch_size * config.objective.critic_steps

    # One burn-in position drives every schedule.
    position = state.images_seen / config.burn_in_images if config.burn_in_images else 1.0
    objective: Objective = config.objective.at(position)
    state.schedule(config.learning_rate.at(position), config.beta2.at(position))
    state.augment_p = augment_p = config.augment.probability(position, state.augment_p)

    # The critic first, then the generator with a fresh real batch and fresh latents.
    for _ in range(config.objective.critic_steps):
        critic_loss, gap, penalty, ordering = _critic_step(config, dataset, state, objective, draws)
    generator_loss = _generator_step(config, dataset, state, objective, draws)

    half_life = config.ema_half_life.at(position)
    state.update_average(ema_decay(step_images, half_life))
    state.images_seen += step_images
    state.augment_p = config.augment.updated_probability(augment_p, ordering, step_images)
    return Progress(state.images_seen, critic_loss, generator_loss, gap, penalty, augment_p)


def _critic_step(
    config: TrainConfig,
    dataset: Dataset,
    state: TrainState,
    objective: Objective,
    draws: torch.Generator,
) -> tuple[float, float, float, float]:
    state.critic_optimiser.zero_grad(set_to_none=True)
    totals = torch.zeros(4)
    for _ in range(config.accumulate):
        real, latents = _batch(config, dataset, state, draws)
        with torch.no_grad():
            fake = state.generator(latents)
        real, fake = _progress(config, state, real, fake, draws)
        terms = objective.critic_loss(state.critic, real, fake, draws)
        (terms.loss.mean() / config.accumulate).backward()
        values = [*terms, terms.gap.sign()]
        totals += torch.stack([term.detach().mean() for term in values]).cpu() / config.accumulate
    loss, gap, penalty, ordering = totals.tolist()
    _refuse_non_finite(loss, "critic", state.critic, state)
    state.critic_optimiser.step()
    objective.after_critic_step(state.critic)
    power_iteration_step(state.critic)
    return loss, gap, penalty, ordering


def _generator_step(
    config: TrainConfig,
    dataset: Dataset,
    state: TrainState,
    objective: Objective,
    draws: torch.Generator,
) -> float:
    state.generator_optimiser.zero_grad(set_to_none=True)
    state.critic.requires_grad_(False)
    total = 0.0
    for _ in range(config.accumulate):
        real, latents = _batch(config, dataset, state, draws)
        real, fake = _progress(config, state, real, state.generator(latents), draws)
        loss = objective.generator_loss(state.critic, real, fake).mean()
        (loss / config.accumulate).backward()
        total += loss.item() / config.accumulate
    state.critic.requires_grad_(True)
    _refuse_non_finite(total, "generator", state.generator, state)
    state.generator_optimiser.step()
    power_iteration_step(state.generator)
    return total


def _batch(
    config: TrainConfig, dataset: Dataset, state: TrainState, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    n = config.batch_size // config.accumulate
    indices = torch.randint(len(dataset), (n,), generator=draws)
    latents = torch.randn(n, config.network.latent_size, generator=draws)
    real = to_signed_float(dataset.pixels(indices.numpy()))
    return real.to(state.device), latents.to(state.device)


def _progress(
    config: TrainConfig, state: TrainState, real: Tensor, fake: Tensor, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    # What the critic sees in both steps; without augmentation, no random numbers are drawn.
    return (
        config.augment.augment_real(real, state.augment_p, draws),
        config.augment.augment_fake(fake, state.augment_p, draws),
    )


def _refuse_non_finite(loss: float, who: str, module: nn.Module, state: TrainState) -> None:
    # A finite loss can have a non-finite gradient, which only the next loss would reveal.
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    steepest = nn.utils.get_total_norm(gradients, norm_type=math.inf).item()
    if not (math.isfinite(loss) and math.isfinite(steepest)):
        raise Diverged(
            f"{who} loss became {loss} (steepest gradient {steepest}) "
            f"after {state.images_seen} images; the last checkpoint, if there was one, is kept: "
            "lower train.learning_rate or raise train.objective's penalty, and run again"
        )
