"""Refinement of answers: a few warm-started steps of Adam on the latents, kept near their start.

A map answers at once and nearly right; gradients through the frozen generator and feature space
then take the answer nearer to what was asked. Adam is Kingma and Ba 2015, "Adam: a method for
stochastic optimization".

The prior is the squared distance from the start, a trust region (Parikh and Boyd 2014, "Proximal
algorithms"): it keeps a latent on the shell it came from, whichever that is. Samples lie at
|z| / sqrt(z) = 1, but a map fitted by a cycle loss may answer well inside of it (at 0.3), and being
pulled out to 1, or in to 0 where the density is highest, costs what the answer was good for.
A small rate is part of the same: at a larger one the cosine that is descended on rises no further,
while that in another feature space falls.
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
PRIOR_WEIGHT = 10.0  # of leaving the start, beside 1 - cosine
GAIN = 1e-6  # in cosine, below which a step is rounding and no improvement
AT_ONCE = 256  # rows refined together; memory holds their images and gradients


def refine(
    generate: Callable[[Tensor], Tensor],
    embed: Callable[[Tensor], Tensor],
    latents: Latents,
    asked: Features,
    steps: int,
    prior_weight: float = PRIOR_WEIGHT,
    learning_rate: float = LEARNING_RATE,
) -> Latents:
    """Latents (n z) whose images' features are at least as near to `asked` (n d) as before.

    `generate` turns latents into Images and `embed` Images into unit features; both differentiable.
    `steps` of Adam descend 1 - cos(f(G(z)), asked) + prior_weight * |z - start|^2 / size. Each row
    keeps its best step by cosine, the start included, so none gets worse and more steps are never
    worse than fewer. Cosines are those of images in 256 levels, as they are shown; gradients pass
    the rounding as if it were not there (Bengio et al. 2013, "Estimating or propagating gradients
    through stochastic neurons"). A row does not depend on the others. 0 steps change nothing.
    """
    if steps == 0 or not len(latents):
        return latents

    def shown(z: Tensor) -> Tensor:
        images = generate(z).clamp(-1, 1)
        levels = ((images.detach() + 1) * 127.5).round() / 127.5 - 1
        return embed(images + (levels - images.detach()))

    parts = []
    for first in range(0, len(latents), AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        path = descend(shown, latents[rows], asked[rows], prior_weight, learning_rate)
        parts.append(_best(shown, islice(path, steps), asked[rows]))
    return np.concatenate(parts)


def check_steps(steps: int) -> None:
    """Raise ConfigError where there is no such number of steps."""
    if steps < 0:
        raise ConfigError(f"refine = {steps}: give 0 steps or more; 10 to 50 are usual")


class Step(NamedTuple):
    """Latents (n z), the cosine (n) of their images with what was asked, and what follows (n z)."""

    latents: Tensor
    cosine: Tensor
    following: Tensor


def descend(
    features_of: Callable[[Tensor], Tensor],
    latents: Latents,
    asked: Features,
    prior_weight: float,
    learning_rate: float,
) -> Iterator[Step]:
    """Adam from `latents` (n z) towards `asked` (n d), without end: stop by not asking again.

    The loss of a row is 1 - cosine + prior_weight * |z - start|^2 / size; k steps cost k gradients.
    """
    start = torch.from_numpy(np.array(latents, np.float32))
    z = start.clone().requires_grad_(True)
    targets = torch.from_numpy(np.array(asked, np.float32))
    adam = torch.optim.Adam([z], lr=learning_rate)
    while True:
        raise_if_cancelled()
        # Each row has a loss of its own, and Adam scales each number by itself.
        cosine = (features_of(z) * targets).sum(1)
        loss = 1 - cosine
        if prior_weight:
            loss = loss + prior_weight * (z - start).square().mean(1)
        (z.grad,) = torch.autograd.grad(loss.sum(), [z])
        before = z.detach().clone()
        adam.step()
        yield Step(before, cosine.detach(), z.detach().clone())


def _best(
    features_of: Callable[[Tensor], Tensor], path: Iterator[Step], asked: Features
) -> Latents:
    # Of the start and all steps, row by row, the one of the highest cosine.
    first = next(path)
    best, highest, last = first.latents, first.cosine, first.following
    for step in path:
        best, highest = _better(best, highest, step.latents, step.cosine)
        last = step.following
    with torch.no_grad():
        cosine = (features_of(last) * torch.from_numpy(np.array(asked, np.float32))).sum(1)
    return np.asarray(_better(best, highest, last, cosine)[0].numpy())


def _better(
    best: Tensor, highest: Tensor, latents: Tensor, cosine: Tensor
) -> tuple[Tensor, Tensor]:
    better = cosine > highest + GAIN
    return torch.where(better[:, None], latents, best), torch.where(better, cosine, highest)
