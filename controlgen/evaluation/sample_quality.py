"""Part three: how good and how varied are plain samples, beside real images at the same n?"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.evaluation.context import CONFIDENT, Subject
from controlgen.metrics import naming
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.classifier import sources_of
from controlgen.metrics.frechet import frechet_interval
from controlgen.metrics.kernel import kernel_distance
from controlgen.rng import normals, stream
from controlgen.types import Features, Indices, Pixels

STREAM = "quality samples"
PICTURED = 128  # samples shown in the picture


@dataclass(frozen=True)
class EveryDraw:
    """The same measures of n first draws, none refused, and the share of them that is kept."""

    kept: Interval
    confident: Interval | None
    class_shares: dict[str, Interval] | None
    frechet: Interval
    kernel: Interval


@dataclass(frozen=True)
class Quality:
    """n generated, n real test and n real training images.

    The floor of a distance is real training against real test images: what a perfect generator
    would score at this n. Distances see unit features of `feature_size` numbers; the kernel's are
    times sqrt(feature_size), the scale it is for. The floor of the judge's confidence, and of the
    class shares, is the real test images alone, by source. What only a judge can say is None where
    nobody judges. `every_draw` is there where samples are kept by their likeness to real images.
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
    every_draw: EveryDraw | None = None

    @property
    def smallest_share(self) -> float | None:
        """Share of the rarest class among the samples, by the judge."""
        return min(one.mean for one in self.class_shares.values()) if self.class_shares else None

    @property
    def few_images(self) -> str | None:
        """What is to be said beside the Frechet distances where n is too small for them."""
        return naming.few_images(self.n, self.feature_size)


def sample_quality(subject: Subject) -> Quality:
    """Fresh samples against real test images in the audit space, and the real-vs-real floor."""
    config = subject.config
    n = min(config.samples, len(subject.real_test), len(subject.real_train))
    samples = subject.editor.drawn(n, config.seed, STREAM).pixels
    tested = _some(subject, len(subject.real_test), n, "test")
    test = subject.real_test.pixels(tested)
    train = subject.real_train.pixels(_some(subject, len(subject.real_train), n, "train"))

    # The judge says how many are clear and which classes they show, of samples and real images.
    ours, theirs = _Judged(), _Judged()
    if subject.judge is not None:
        ours = _judged(subject, samples, np.arange(n))
        theirs = _judged(subject, test, sources_of(subject.real_test, tested))
    generated, real, other = (subject.audit.embed(part) for part in (samples, test, train))
    return Quality(
        n=n,
        feature_size=real.shape[1],
        confident=ours.confident,
        confident_floor=theirs.confident,
        class_shares=ours.shares,
        real_class_shares=theirs.shares,
        frechet=frechet_interval(generated, real),
        frechet_floor=frechet_interval(other, real),
        kernel=_kernel(subject, generated, real),
        kernel_floor=_kernel(subject, other, real),
        samples=samples[:PICTURED],
        every_draw=_every_draw(subject, n, real),
    )


def _every_draw(subject: Subject, n: int, real: Features) -> EveryDraw | None:
    # What there would be without likeness: the first draw of each of the same samples.
    likeness = subject.editor.likeness
    if likeness is None:
        return None
    latents = normals(subject.config.seed, STREAM, 0, n, subject.editor.latent_size)
    pixels = subject.editor.generate(latents)
    judged = _judged(subject, pixels, np.arange(n)) if subject.judge is not None else _Judged()
    seen = subject.audit.embed(pixels)
    return EveryDraw(
        kept=subject.mean(likeness.keeps(subject.editor.embed(pixels))),
        confident=judged.confident,
        class_shares=judged.shares,
        frechet=frechet_interval(seen, real),
        kernel=_kernel(subject, seen, real),
    )


def _some(subject: Subject, available: int, n: int, purpose: str) -> Indices:
    draws = stream(subject.config.seed, f"quality {purpose}")
    return np.sort(draws.permutation(available)[:n])


class _Judged(NamedTuple):
    confident: Interval | None = None
    shares: dict[str, Interval] | None = None


def _judged(subject: Subject, pixels: Pixels, sources: NDArray[np.int64]) -> _Judged:
    probabilities = subject.probabilities(pixels)
    calls = probabilities.argmax(1)
    shares = {
        name: subject.mean(calls == label, sources)
        for label, name in enumerate(subject.class_names)
    }
    return _Judged(subject.mean(probabilities.max(1) > CONFIDENT, sources), shares)


def _kernel(subject: Subject, a: Features, b: Features) -> Interval:
    scale = np.sqrt(a.shape[1])
    return kernel_distance(a * scale, b * scale, subject.config.seed, subject.config.bootstraps)
