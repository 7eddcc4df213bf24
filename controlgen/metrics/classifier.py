"""Judges of images: the interface, and a small classifier trained on real images.

A judge scores results and never takes part in a training.
"""

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from controlgen.errors import Incompatible
from controlgen.images import to_signed_float
from controlgen.rng import torch_stream
from controlgen.types import Dataset, Indices, Pixels
from controlgen.utils.parallel import single_threaded_torch

WIDTHS = (16, 32, 64)
HIDDEN = 128
SHIFT = 2  # pixels; the largest shift of training images in each direction
PEAK_RATE = 1e-2
BATCH = 256
MIN_STEPS = 40  # per epoch, for small data sets
CHUNK = 1000  # images per batch of predictions


class LabelledDataset(Dataset, Protocol):
    """Images with a class 0..k-1 each."""

    def labels(self, indices: Indices) -> NDArray[np.int64]: ...


class Judge(Protocol):
    """Predicts the probabilities of `classes` classes."""

    @property
    def classes(self) -> int: ...

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Pixels (n c h w) -> (n classes), rows sum to 1."""
        ...


def is_correct(judge: Judge, dataset: LabelledDataset) -> NDArray[np.bool_]:
    """Whether the judge predicts the label of each image of a labelled set: (n)."""
    right = [np.empty(0, np.bool_)]
    for start in range(0, len(dataset), CHUNK):
        indices = np.arange(start, min(start + CHUNK, len(dataset)))
        called = judge.probabilities(dataset.pixels(indices)).argmax(1)
        right.append(called == dataset.labels(indices))
    return np.concatenate(right)


def source_ids(dataset: Dataset, indices: Indices) -> NDArray[np.int64]:
    """The number of each image's source: (n). Without sources, each image is its own."""
    groups = getattr(dataset, "groups", None)
    return np.asarray(indices if groups is None else groups(indices), np.int64)


class ClassifierJudge:
    """Class probabilities of pixels, as trained by `train_judge`."""

    def __init__(self, network: nn.Module, channels: int, classes: int) -> None:
        self._network = network
        self.channels = channels
        self.classes = classes

    def probabilities(self, pixels: Pixels) -> NDArray[np.float32]:
        """Pixels (n c h w) -> (n classes), rows sum to 1. Raises Incompatible for other
        channels.
        """
        if pixels.shape[1] != self.channels:
            raise Incompatible(
                f"judge: learned {self.channels}-channel images, got {pixels.shape[1]} channels"
            )
        rows = [np.empty((0, self.classes), np.float32)]
        with torch.no_grad():
            for start in range(0, len(pixels), CHUNK):
                logits = self._network(to_signed_float(pixels[start : start + CHUNK]))
                rows.append(logits.softmax(1).numpy())
        return np.concatenate(rows)

    def accuracy(self, dataset: LabelledDataset) -> float:
        """Share of a labelled set that is predicted as labelled."""
        return float(is_correct(self, dataset).mean())


def train_judge(dataset: LabelledDataset, epochs: int, seed: int) -> ClassifierJudge:
    """Train a judge on labelled real images with Adam and a one-cycle schedule (Smith, 2018).

    Images are shifted by up to two pixels. The same seed gives the same judge on one machine, with
    any number of threads; differences in the last bit would grow over the steps.
    """
    with single_threaded_torch():
        return _taught(dataset, epochs, seed)


def _taught(dataset: LabelledDataset, epochs: int, seed: int) -> ClassifierJudge:
    everything = np.arange(len(dataset))
    images = to_signed_float(dataset.pixels(everything))
    labels = torch.from_numpy(dataset.labels(everything))
    channels, classes = images.shape[1], int(labels.max()) + 1
    network = _network(channels, classes, torch_stream(seed, "judge weights"))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # One cycle over all steps: a short rise of the learning rate, a long cosine fall to zero.
    batch = min(BATCH, max(len(images) // MIN_STEPS, 2))
    steps = epochs * (len(images) // batch)
    adam = torch.optim.Adam(network.parameters(), lr=0.0, betas=(0.9, 0.99))
    for step in range(steps):
        epoch, position = divmod(step, len(images) // batch)
        draws = torch_stream(seed, "judge step", step)
        if position == 0:
            order = torch.randperm(len(images), generator=torch_stream(seed, "judge order", epoch))
        chosen = order[position * batch : (position + 1) * batch]

        # A step of cross-entropy on shifted images.
        adam.param_groups[0]["lr"] = _rate((step + 1) / steps)
        loss = functional.cross_entropy(network(_shifted(images[chosen], draws)), labels[chosen])
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
    return ClassifierJudge(network.eval().requires_grad_(False), channels, classes)


def _rate(done: float) -> float:
    rise = 0.25
    if done < rise:
        return PEAK_RATE * done / rise
    return PEAK_RATE * (1 + math.cos(math.pi * (done - rise) / (1 - rise))) / 2


def _shifted(images: Tensor, draws: torch.Generator) -> Tensor:
    # Each image is shifted by a whole number of pixels; the edges are filled with black.
    n, channels, height, width = images.shape
    framed = functional.pad(images, [SHIFT] * 4, value=-1.0)
    moves = torch.randint(0, 2 * SHIFT + 1, (2, n, 1), generator=draws)
    rows = (torch.arange(height) + moves[0])[:, None, :, None]
    columns = (torch.arange(width) + moves[1])[:, None, None, :]
    items, planes = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    return framed[items, planes, rows, columns]


def _network(channels: int, classes: int, draws: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in WIDTHS:
        layers += [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        channels = width
    layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(channels * 16, HIDDEN), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(HIDDEN, classes))

    # Weights come from their own stream: normal with variance 2 / fan-in (He et al., 2015).
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            std = math.sqrt(2 / layer.weight[0].numel())
            with torch.no_grad():
                layer.weight.normal_(0, std, generator=draws)
                if layer.bias is not None:
                    layer.bias.zero_()
    return network
