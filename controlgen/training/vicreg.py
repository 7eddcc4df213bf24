"""A self-supervised encoder: two views of one image get the same feature.

VICReg: Bardes, Ponce and LeCun 2022, "VICReg: Variance-Invariance-Covariance Regularization for
Self-Supervised Learning" (arXiv:2105.04906). It is preferred to SimCLR because it has no negatives:
sets of tiles contain near copies, which a contrastive loss would push apart; it also needs neither
large batches nor a temperature. The loss is written out here, because libraries that provide it
require a training framework.
"""

import json
import math
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from safetensors.torch import save
from torch import Tensor, nn

from controlgen import rng
from controlgen.config import EncoderConfig
from controlgen.errors import ConfigError, Diverged, Incompatible
from controlgen.features.preprocessing import Preprocessing
from controlgen.features.self_supervised import ENCODER, WEIGHTS, EncoderDescription
from controlgen.images import to_signed_float
from controlgen.training.optim import (
    build_adamw,
    restore_state,
    set_learning_rate,
    state_tensors,
    warmup_cosine,
)
from controlgen.training.state import resolve_device, supports_native_bf16
from controlgen.types import Dataset, Shape

FLOOR = 1e-4  # epsilon of equation 2
SETTLING = 8  # batches for the normalisation statistics of an untrained network


class EncoderProgress(NamedTuple):
    """The metrics of one step: the loss and its three terms before weighting."""

    images_seen: int
    loss: float
    invariance: float
    variance: float
    covariance: float
    learning_rate: float


class EncoderState:
    """Encoder, expander, AdamW and `images_seen`: the complete state between two steps."""

    def __init__(self, config: EncoderConfig, shape: Shape) -> None:
        """Raises Incompatible if the views or the encoder do not fit images of `shape` (c h w).

        Raises ConfigError if the tower is not a timm model or takes other images.
        """
        config.augment.check(shape)
        self.device = resolve_device(config.device)
        self.bf16 = supports_native_bf16(self.device)
        self.described = description(config, shape)
        self.encoder = _encoder(self.described, rng.key(config.seed, "initial weights"))
        expander = _expander(config)
        self.model = nn.Sequential(OrderedDict(encoder=self.encoder, expander=expander))
        # torch's stubs lack this form of `to`.
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.adam = build_adamw(self.model, config.weight_decay)
        self.images_seen = 0

    def tensors(self) -> dict[str, Tensor]:
        """The complete state as named tensors, for safetensors."""
        return state_tensors(self.model, self.adam, self.images_seen)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from `tensors()`. Raises ArtifactCorrupt if they do not match."""
        self.images_seen = restore_state(self.model, self.adam, tensors)


def description(config: EncoderConfig, shape: Shape) -> EncoderDescription:
    """The description of the encoder for images of `shape` (c h w). Raises Incompatible."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise Incompatible(f"encoder: images have {channels} channels; give grey or colour")
    half = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing(size=(height, width), mean=half, std=half, resize_mode="squash")
    return EncoderDescription.parse(
        {
            "tower": config.tower,
            "channels": channels,
            "feature_size": config.feature_size,
            "preprocessing": preprocessing.to_dict(),
        }
    )


def train_encoder(
    config: EncoderConfig, dataset: Dataset, state: EncoderState
) -> Iterator[EncoderProgress]:
    """Advance `state` in place to `config.images`, one batch per item.

    Every step draws from its own stream (seed, images_seen), so a resumed run equals an
    uninterrupted one bit by bit on a CPU. The caller stops by not asking for more. Raises Diverged
    at a non-finite loss or gradient, before it reaches the weights.
    """
    state.model.train()
    while state.images_seen < config.images:
        yield _step(config, state, two_views(config, dataset, state.images_seen))


def two_views(config: EncoderConfig, dataset: Dataset, images_seen: int) -> Tensor:
    """The batch of the step after `images_seen`: one view of each image, then a second one of each.

    Images (2 batch_size c h w), on the CPU.
    """
    draws = rng.torch_stream(config.seed, "views", images_seen)
    chosen = torch.randint(len(dataset), (config.batch_size,), generator=draws)
    images = to_signed_float(dataset.pixels(chosen.numpy()))
    return torch.cat([config.augment.view(images, draws), config.augment.view(images, draws)])


def untrained(config: EncoderConfig, dataset: Dataset) -> nn.Module:
    """The initial encoder, with its normalisation statistics from views of the data.

    Its features come from the architecture alone: the baseline of a trained encoder.
    """
    state = EncoderState(config, dataset.image_shape)
    for module in state.encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for at in range(SETTLING):
            views = two_views(config, dataset, at * config.batch_size)
            state.encoder(_on(state, views))
    return state.encoder


def export(state: EncoderState, folder: Path) -> None:
    """Write encoder.json and encoder.safetensors (float16) into an existing folder."""
    weights = {
        name: value.detach().cpu().half().contiguous() if value.is_floating_point() else value.cpu()
        for name, value in state.encoder.state_dict().items()
    }
    text = json.dumps(state.described.to_dict(), indent=2) + "\n"
    (folder / ENCODER).write_text(text, encoding="utf-8")
    (folder / WEIGHTS).write_bytes(save(weights))


def invariance(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of the views' embeddings (n d).

    Equation 5 sums over d; algorithm 1 of the paper, and the published weights, use the mean.
    """
    return functional.mse_loss(first, second)


def variance(embeddings: Tensor) -> Tensor:
    """Equation 1: the mean over d of max(0, 1 - S), S = sqrt(Var + FLOOR) over the batch (n d)."""
    spread = (embeddings.var(0) + FLOOR).sqrt()
    return functional.relu(1 - spread).mean()


def covariance(embeddings: Tensor) -> Tensor:
    """Equations 3 and 4: squared covariances of different columns (n d), summed, over d."""
    n, d = embeddings.shape
    centred = embeddings - embeddings.mean(0)
    matrix = centred.T @ centred / (n - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / d


def _step(config: EncoderConfig, state: EncoderState, views: Tensor) -> EncoderProgress:
    rate = warmup_cosine(config.learning_rate, state.images_seen / config.images)
    set_learning_rate(state.adam, rate)
    with torch.autocast(state.device.type, torch.bfloat16, enabled=state.bf16):
        embeddings = state.model(_on(state, views))

    # Equation 6; variance and covariance of both views are summed.
    first, second = embeddings.float().chunk(2)
    alike = invariance(first, second)
    spread = variance(first) + variance(second)
    shared = covariance(first) + covariance(second)
    loss = config.invariance * alike + config.variance * spread + config.covariance * shared
    state.adam.zero_grad(set_to_none=True)
    loss.backward()
    _refuse_non_finite(loss, state)
    state.adam.step()
    state.images_seen += config.batch_size
    terms = (loss.item(), alike.item(), spread.item(), shared.item())
    return EncoderProgress(state.images_seen, *terms, rate)


def _on(state: EncoderState, views: Tensor) -> Tensor:
    return views.to(state.device).contiguous(memory_format=torch.channels_last)


def _refuse_non_finite(loss: Tensor, state: EncoderState) -> None:
    # A finite loss can have a non-finite gradient, which only the next loss would reveal.
    gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
    steepest = nn.utils.get_total_norm(gradients, norm_type=math.inf).item()
    if not (math.isfinite(loss.item()) and math.isfinite(steepest)):
        raise Diverged(
            f"encoder loss became {loss.item()} (steepest gradient {steepest}) after "
            f"{state.images_seen} images; the last checkpoint, if there was one, is kept: lower "
            "learning_rate and run again"
        )


def _encoder(described: EncoderDescription, seed: int) -> nn.Module:
    # Some towers take only one image size; timm reports this in several ways.
    height, width = described.preprocessing.size
    try:
        network = described.network(seed).eval()
        with torch.no_grad():
            network(torch.zeros(2, described.channels, height, width))
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ConfigError(
            f"tower {described.tower}: does not take {described.channels}x{height}x{width} images "
            f"({lines[0][:100]}); choose another, such as resnet10t"
        ) from None
    return network


def _expander(config: EncoderConfig) -> nn.Sequential:
    # Three layers, as in the paper; a bias before a normalisation has no effect.
    width = config.expander
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(config.seed, "initial expander"))
        return nn.Sequential(
            nn.Linear(config.feature_size, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
        )
