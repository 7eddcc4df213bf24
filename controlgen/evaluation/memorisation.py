"""Memorisation audit: does the generator reproduce its training images?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen import figures
from controlgen.evaluation.context import EvaluationContext
from controlgen.evaluation.goals import Goal
from controlgen.metrics.classifier import LabelledDataset
from controlgen.metrics.memorisation import (
    Audit,
    NearestMatch,
    apply_pose,
    audit,
    has_poses,
    iter_pose_features,
    nearest,
)
from controlgen.rng import stream
from controlgen.types import Indices, Pixels

MAX_TRAINING = 20_000  # training images that are searched
MAX_HELD_OUT = 2_000  # held-out images that give the scale
FIGURE_PAIRS = 12  # closest pairs in the figure
MAX_SHARE = 0.02  # twice the expected share of samples as new as held-out images
PAIRS, DISTANCES = "closest-pairs.png", "nearest-distances.png"


@dataclass(frozen=True)
class ClosePair:
    """An image (1 c s s), its nearest training image in the matching pose, and their distance."""

    image: Pixels = field(repr=False)
    training: Pixels = field(repr=False)
    distance: float
    training_index: int
    pose: int


@dataclass(frozen=True)
class MemorisationAudit:
    """Results of the audit; `audit_space` names the feature space of the distances."""

    audit_space: str
    training: int
    training_available: int
    poses: bool
    statistics: Audit = field(metadata={"json": "found"})
    closest: list[ClosePair]
    closest_held_out: list[ClosePair]
    distances: NDArray[np.float64] = field(repr=False)
    held_out_distances: NDArray[np.float64] = field(repr=False)

    # Figures that contain real images.
    shows_real = (PAIRS,)

    def goals(self) -> list[Goal]:
        """At most 2 % of the samples nearer than the 1st percentile of held-out images.

        New samples give 1 %; the bound allows for a percentile that rests on few images. The
        verdict of the audit uses the interval instead.
        """
        name = "samples nearer to a training image than 99 % of held-out images"
        return [Goal(name, "at most", MAX_SHARE, self.statistics.share.mean)]

    def markdown(self) -> list[str]:
        """Return the section of the report."""
        statistics, share = self.statistics, self.statistics.share
        searched = f"{self.training}"
        if self.training < self.training_available:
            searched += f" of {self.training_available}"
        poses = ", each in all eight poses of the square" if self.poses else ""
        coarse = ""
        if statistics.held_out < 500:
            coarse = (
                f" With {statistics.held_out} held-out images that percentile rests on the nearest "
                f"{-(-statistics.held_out // 100)} of them and is coarse."
            )
        return [
            "## Memorisation",
            f"**{statistics.verdict[0].upper()}{statistics.verdict[1:]}.** {statistics.samples} "
            f"samples against {searched} training images{poses}, by cosine distance in the audit "
            f"space `{self.audit_space}`; the scale comes from {statistics.held_out} held-out real "
            f"images of {statistics.sources} other sources.",
            f"{share.mean:.2%} of the samples ({share.low:.2%} to {share.high:.2%}) are nearer to "
            f"a training image than {statistics.threshold:.4f}, the 1st percentile of the held-out "
            "distances. For samples as new as held-out images the expected share is 1 %, and the "
            "probability of at least as many near samples, counting every source once, is "
            f"{statistics.chance:.2g}. Copies are suspected if the lower end of the interval is "
            f"above 1 % and that probability is below 2.5 %. {statistics.nearer_than_all:.2%} are "
            f"nearer than any held-out image. The median distance is {statistics.median:.4f} for "
            f"samples and {statistics.held_out_median:.4f} for held-out images.{coarse}",
            "A few copies among many samples do not raise the share enough, and samples unlike any "
            "real image are far from all of them: compare the share with the quality of the "
            "samples, and look at the pairs.",
            f"![The closest pairs of samples, and of held-out images for scale]({PAIRS})",
            f"![Distances to the nearest training image]({DISTANCES})",
        ]

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write closest-pairs.png, which shows training images, and nearest-distances.png."""
        blocks = {
            "samples and their nearest training images": self.closest,
            "held-out real images and theirs": self.closest_held_out,
        }
        figures.closest_pairs(
            folder / PAIRS,
            {
                title: [figures.Pairing(p.image, p.training, f"{p.distance:.4f}") for p in pairs]
                for title, pairs in blocks.items()
            },
            {
                **provenance,
                "synthetic": "in part",
                "real": "all but the samples, left in their pairs",
            },
        )
        figures.nearest_distances(
            folder / DISTANCES,
            {"samples": self.distances, "held-out real images": self.held_out_distances},
            self.statistics.threshold,
            provenance,
        )


def audit_memorisation(
    context: EvaluationContext, poses: bool | None = None
) -> MemorisationAudit | None:
    """Audit `config.memorisation` fresh samples for copies of training images; None for 0 samples.

    `poses=None` compares all eight poses if `has_poses`. Held-out images are the real test set,
    whose sources are not in the training set. At most MAX_TRAINING and MAX_HELD_OUT images are
    used, drawn by seed.
    """
    config, editor = context.config, context.editor
    if not config.memorisation:
        return None
    if poses is None:
        poses = has_poses(editor.image_shape)
    samples = editor.sample_stream(config.memorisation, config.seed, "memorisation").pixels
    train, test = context.real_train, context.real_test
    searched = _sample_indices(context, train, MAX_TRAINING, "training")
    held_out_indices = _sample_indices(context, test, MAX_HELD_OUT, "held out")
    held_out = test.pixels(held_out_indices)

    # Search for samples and held-out images in one pass over the training images.
    queries = np.concatenate([context.audit.embed(samples), context.audit.embed(held_out)])
    blocks = iter_pose_features(train.pixels, searched, context.audit.embed, poses)
    matches = nearest(queries, blocks)
    n = len(samples)
    of_samples, of_held_out = matches.part(slice(n)), matches.part(slice(n, None))
    groups = getattr(test, "groups", None)
    statistics = audit(
        of_samples.distance,
        of_held_out.distance,
        config.seed,
        config.bootstraps,
        None if groups is None else groups(held_out_indices),
    )
    return MemorisationAudit(
        audit_space=config.audit.name,
        training=len(searched),
        training_available=len(train),
        poses=poses,
        statistics=statistics,
        closest=_closest_pairs(samples, of_samples, train, poses),
        closest_held_out=_closest_pairs(held_out, of_held_out, train, poses),
        distances=of_samples.distance,
        held_out_distances=of_held_out.distance,
    )


def _sample_indices(
    context: EvaluationContext, dataset: LabelledDataset, limit: int, purpose: str
) -> Indices:
    if len(dataset) <= limit:
        return np.arange(len(dataset))
    draws = stream(context.config.seed, f"memorisation {purpose}")
    return np.sort(draws.permutation(len(dataset))[:limit])


def _closest_pairs(
    pixels: Pixels, matches: NearestMatch, train: LabelledDataset, poses: bool
) -> list[ClosePair]:
    pairs = []
    for row in np.argsort(matches.distance, kind="stable")[:FIGURE_PAIRS]:
        tile = train.pixels(matches.item[row : row + 1])
        pose = int(matches.pose[row])
        pairs.append(
            ClosePair(
                image=pixels[row : row + 1],
                training=apply_pose(tile, pose) if poses else tile,
                distance=float(matches.distance[row]),
                training_index=int(matches.item[row]),
                pose=pose,
            )
        )
    return pairs
