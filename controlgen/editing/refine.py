"""Refine latents towards target features: a few steps of Adam from a map's result.

A map is fast but approximate; gradients through the frozen generator and feature space move its
result nearer to the target. Adam is Kingma and Ba 2015, "Adam: a method for stochastic
optimization".

The prior is the squared distance from the start, a trust region (Parikh and Boyd 2014, "Proximal
algorithms"): it preserves the norm of the latent, whatever that is. Samples have |z| / sqrt(z) = 1,
but a map fitted by a cycle loss may return latents well inside that sphere (at 0.3), and a prior
that pulls them out to 1, or in to 0 where the density is highest, loses what the map achieved.
A small learning rate serves the same end: with a larger one the cosine that is optimised rises no
further, while the cosine in another feature space falls.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from controlgen.errors import ConfigError
from controlgen.types import Features, Latents
from controlgen.utils.cancellation import raise_if_cancelled

LEARNING_RATE = 0.005  # of Adam on the latents, for a warm start
PRIOR_WEIGHT = 10.0  # of the distance from the start, where 1 - cosine has 1
MIN_GAIN = 1e-6  # in cosine; a smaller difference is rounding and no improvement
BATCH = 256  # rows refined together; memory holds their images and gradients


def refine_latents(
    generate: Callable[[Tensor], Tensor],
    embed: Callable[[Tensor], Tensor],
    latents: Latents,
    target_features: Features,
    steps: int,
    prior_weight: float = PRIOR_WEIGHT,
    learning_rate: float = LEARNING_RATE,
) -> Latents:
    """Latents (n z) whose images' features are at least as near to the targets (n d) as before.

    `generate` turns latents into Images and `embed` Images into unit features; both differentiable.
    `steps` of Adam minimise 1 - cos(f(G(z)), target) + prior_weight * |z - start|^2 / size. Rows
    are independent. Each returns its best step by cosine, the start included: none gets worse, and
    more steps are never worse than fewer. Cosines are those of images rounded to 256 levels;
    gradients pass the rounding unchanged (Bengio et al. 2013, "Estimating or propagating gradients
    through stochastic neurons").
    """
    if steps == 0 or not len(latents):
        return latents

    def features_of(z: Tensor) -> Tensor:
        images = generate(z).clamp(-1, 1)
        rounded = ((images.detach() + 1) * 127.5).round() / 127.5 - 1
        return embed(images + (rounded - images.detach()))

    parts = []
    for first in range(0, len(latents), BATCH):
        rows = slice(first, first + BATCH)
        targets = target_features[rows]
        path = adam_path(features_of, latents[rows], targets, prior_weight, learning_rate)
        parts.append(_best_latents(features_of, islice(path, steps), targets))
    return np.concatenate(parts)


def validate_steps(steps: int) -> None:
    """Raise ConfigError for a negative number of steps."""
    if steps < 0:
        raise ConfigError(f"refine = {steps}: give 0 steps or more; 10 to 50 are usual")


class RefinementStep(NamedTuple):
    """Latents (n z), the cosine (n) of their images with the targets, and the next latents."""

    latents: Tensor
    cosine: Tensor
    following: Tensor


def adam_path(
    features_of: Callable[[Tensor], Tensor],
    latents: Latents,
    target_features: Features,
    prior_weight: float,
    learning_rate: float,
) -> Iterator[RefinementStep]:
    """Steps of Adam from `latents` (n z) towards `target_features` (n d), without end.

    The loss of a row is 1 - cosine + prior_weight * |z - start|^2 / size; k steps cost k gradients.
    """
    start = torch.from_numpy(np.array(latents, np.float32))
    z = start.clone().requires_grad_(True)
    targets = torch.from_numpy(np.array(target_features, np.float32))
    adam = torch.optim.Adam([z], lr=learning_rate)
    while True:
        raise_if_cancelled()
        # Rows are independent in the loss, and Adam scales each number separately.
        cosine = (features_of(z) * targets).sum(1)
        loss = 1 - cosine
        if prior_weight:
            loss = loss + prior_weight * (z - start).square().mean(1)
        (z.grad,) = torch.autograd.grad(loss.sum(), [z])
        before = z.detach().clone()
        adam.step()
        yield RefinementStep(before, cosine.detach(), z.detach().clone())


def _best_latents(
    features_of: Callable[[Tensor], Tensor],
    path: Iterator[RefinementStep],
    target_features: Features,
) -> Latents:
    # Row by row, the start or the step with the highest cosine.
    first = next(path)
    best, highest, last = first.latents, first.cosine, first.following
    for step in path:
        best, highest = _better(best, highest, step.latents, step.cosine)
        last = step.following
    targets = torch.from_numpy(np.array(target_features, np.float32))
    with torch.no_grad():
        cosine = (features_of(last) * targets).sum(1)
    return np.asarray(_better(best, highest, last, cosine)[0].numpy())


def _better(
    best: Tensor, highest: Tensor, latents: Tensor, cosine: Tensor
) -> tuple[Tensor, Tensor]:
    better = cosine > highest + MIN_GAIN
    return torch.where(better[:, None], latents, best), torch.where(better, cosine, highest)
