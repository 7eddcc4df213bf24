"""Quality and variety of samples compared with real images, at equal n."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.evaluation.context import MIN_CONFIDENCE, EvaluationContext
from controlgen.metrics import naming
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.classifier import source_ids
from controlgen.metrics.frechet import frechet_interval
from controlgen.metrics.kernel import kernel_distance
from controlgen.rng import normals, stream
from controlgen.types import Features, Indices, Pixels

SAMPLE_STREAM = "quality samples"
FIGURE_SAMPLES = 128  # samples in the figure


@dataclass(frozen=True)
class UnfilteredQuality:
    """The same measures of n unfiltered draws, and the share of them that the filter accepts."""

    accepted: Interval = field(metadata={"json": "kept"})
    confident: Interval | None
    class_shares: dict[str, Interval] | None
    frechet: Interval
    kernel: Interval


@dataclass(frozen=True)
class SampleQuality:
    """Scores of n generated against n real test images.

    The floor of a distance is n real training images against the same test images: what a perfect
    generator would score at this n. Distances use unit features of `feature_size` numbers; the
    kernel's are scaled by sqrt(feature_size), which its definition assumes. The floor of confidence
    and class shares is the real test images, by source. What needs a judge is None without one.
    `unfiltered` is None unless samples pass a realism filter.
    """

    n: int
    feature_size: int
    confident: Interval | None
    confident_floor: Interval | None
    class_shares: dict[str, Interval] | None
    real_class_shares: dict[str, Interval] | None
    frechet: Interval
    frechet_floor: Interval
    kernel: Interval
    kernel_floor: Interval
    samples: Pixels = field(repr=False)
    unfiltered: UnfilteredQuality | None = field(default=None, metadata={"json": "every_draw"})

    @property
    def smallest_share(self) -> float | None:
        """Share of the rarest class among the samples, according to the judge."""
        return (
            min(share.mean for share in self.class_shares.values()) if self.class_shares else None
        )

    @property
    def sample_size_warning(self) -> str | None:
        """Why n is too small for Frechet distances, or None."""
        return naming.few_images(self.n, self.feature_size)


def evaluate_sample_quality(context: EvaluationContext) -> SampleQuality:
    """Compare fresh samples, and real training images, with real test images in the audit space."""
    config = context.config
    n = min(config.samples, len(context.real_test), len(context.real_train))
    samples = context.editor.sample_stream(n, config.seed, SAMPLE_STREAM).pixels
    test_indices = _random_indices(context, len(context.real_test), n, "test")
    test = context.real_test.pixels(test_indices)
    train = context.real_train.pixels(_random_indices(context, len(context.real_train), n, "train"))
    sample_classes = _classify(context, samples, np.arange(n))
    test_classes = _classify(context, test, source_ids(context.real_test, test_indices))
    generated, real, other = (context.audit.embed(part) for part in (samples, test, train))
    return SampleQuality(
        n=n,
        feature_size=real.shape[1],
        confident=sample_classes.confident,
        confident_floor=test_classes.confident,
        class_shares=sample_classes.shares,
        real_class_shares=test_classes.shares,
        frechet=frechet_interval(generated, real),
        frechet_floor=frechet_interval(other, real),
        kernel=_scaled_kernel_distance(context, generated, real),
        kernel_floor=_scaled_kernel_distance(context, other, real),
        samples=samples[:FIGURE_SAMPLES],
        unfiltered=_unfiltered_quality(context, n, real),
    )


def _unfiltered_quality(
    context: EvaluationContext, n: int, real: Features
) -> UnfilteredQuality | None:
    # The first draw of each of the same samples, whether the filter accepts it or not.
    realism_filter = context.editor.realism_filter
    if realism_filter is None:
        return None
    latents = normals(context.config.seed, SAMPLE_STREAM, 0, n, context.editor.latent_size)
    pixels = context.editor.generate(latents)
    classes = _classify(context, pixels, np.arange(n))
    audit = context.audit.embed(pixels)
    return UnfilteredQuality(
        accepted=context.mean_interval(realism_filter.accepts(context.editor.embed(pixels))),
        confident=classes.confident,
        class_shares=classes.shares,
        frechet=frechet_interval(audit, real),
        kernel=_scaled_kernel_distance(context, audit, real),
    )


def _random_indices(context: EvaluationContext, available: int, n: int, purpose: str) -> Indices:
    draws = stream(context.config.seed, f"quality {purpose}")
    return np.sort(draws.permutation(available)[:n])


class _Classes(NamedTuple):
    confident: Interval | None
    shares: dict[str, Interval] | None


def _classify(context: EvaluationContext, pixels: Pixels, sources: NDArray[np.int64]) -> _Classes:
    # The share of images whose class is clear to the judge, and the share of each class.
    if context.judge is None:
        return _Classes(None, None)
    probabilities = context.judge_probabilities(pixels)
    labels = probabilities.argmax(1)
    shares = {
        name: context.mean_interval(labels == label, sources)
        for label, name in enumerate(context.class_names)
    }
    return _Classes(context.mean_interval(probabilities.max(1) > MIN_CONFIDENCE, sources), shares)


def _scaled_kernel_distance(context: EvaluationContext, a: Features, b: Features) -> Interval:
    scale = np.sqrt(a.shape[1])
    return kernel_distance(a * scale, b * scale, context.config.seed, context.config.bootstraps)
