"""Part three: how good and how varied are plain samples, beside real images at the same n?"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controlgen.evaluation.base import CONFIDENT, Subject
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.frechet import frechet_distance
from controlgen.metrics.kernel import kernel_distance
from controlgen.rng import normals, stream
from controlgen.types import Features, Indices, Pixels

PICTURED = 128  # samples shown in the picture


@dataclass(frozen=True)
class Quality:
    """n generated, n real test and n real training images.

    The floor is real training against real test images: what a perfect generator would score at
    this n. The kernel distance sees unit features times sqrt(size), the scale its kernel is for.
    What only a judge can say is None where nobody judges.
    """

    n: int
    confident: Interval | None
    class_shares: dict[str, float] | None
    real_class_shares: dict[str, float] | None
    frechet: float
    frechet_floor: float
    kernel: Interval
    kernel_floor: Interval
    samples: Pixels = field(repr=False)

    @property
    def smallest_share(self) -> float | None:
        """Share of the rarest class among the samples, by the judge."""
        return min(self.class_shares.values()) if self.class_shares else None


def sample_quality(subject: Subject) -> Quality:
    """Fresh samples against real test images in the audit space, and the real-vs-real floor."""
    config = subject.config
    n = min(config.samples, len(subject.real_test), len(subject.real_train))
    latents = normals(config.seed, "quality samples", 0, n, subject.editor.latent_size)
    samples = subject.editor.generate(latents)
    test = subject.real_test.pixels(_some(subject, len(subject.real_test), n, "test"))
    train = subject.real_train.pixels(_some(subject, len(subject.real_train), n, "train"))

    # The judge says how many samples are clear and which classes they show.
    confident, shares, real_shares = None, None, None
    if subject.judge is not None:
        probabilities = subject.judge.probabilities(samples)
        confident = subject.mean(probabilities.max(1) > CONFIDENT)
        shares = _shares(subject, probabilities)
        real_shares = _shares(subject, subject.judge.probabilities(test))
    generated, real, other = (subject.audit.embed(part) for part in (samples, test, train))
    return Quality(
        n=n,
        confident=confident,
        class_shares=shares,
        real_class_shares=real_shares,
        frechet=frechet_distance(generated, real),
        frechet_floor=frechet_distance(other, real),
        kernel=_kernel(subject, generated, real),
        kernel_floor=_kernel(subject, other, real),
        samples=samples[:PICTURED],
    )


def _some(subject: Subject, available: int, n: int, purpose: str) -> Indices:
    draws = stream(subject.config.seed, f"quality {purpose}")
    return np.sort(draws.permutation(available)[:n])


def _shares(subject: Subject, probabilities: NDArray[np.float32]) -> dict[str, float]:
    calls = probabilities.argmax(1)
    counts = np.bincount(calls, minlength=len(subject.class_names))
    return {name: float(counts[k] / len(calls)) for k, name in enumerate(subject.class_names)}


def _kernel(subject: Subject, a: Features, b: Features) -> Interval:
    scale = np.sqrt(a.shape[1])
    return kernel_distance(a * scale, b * scale, subject.config.seed, subject.config.bootstraps)
