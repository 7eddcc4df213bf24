"""Does the generator hand out its training images? The memorisation audit of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen import figures
from controlgen.evaluation.context import Subject
from controlgen.evaluation.goals import Target
from controlgen.metrics.classifier import LabelledDataset
from controlgen.metrics.memorisation import (
    Audit,
    Nearest,
    audit,
    has_poses,
    in_pose,
    nearest,
    posed_blocks,
)
from controlgen.rng import stream
from controlgen.types import Indices, Pixels

MOST_TRAINING = 20_000  # training images searched; of a larger set as many, drawn by seed
MOST_HELD_OUT = 2_000  # held-out images that give the scale
PICTURED = 12  # closest pairs in the picture
SHARE_BOUND = 0.02  # twice what is expected of samples as new as held-out images
PAIRS, DISTANCES = "closest-pairs.png", "nearest-distances.png"


@dataclass(frozen=True)
class Pair:
    """An image (1 c s s), its nearest training image in the pose that matched, and how near."""

    image: Pixels = field(repr=False)
    training: Pixels = field(repr=False)
    distance: float
    training_index: int
    pose: int


@dataclass(frozen=True)
class Copies:
    """What the audit found. `audit_space` names the features that distances are measured in."""

    audit_space: str
    training: int
    training_available: int
    poses: bool
    found: Audit
    closest: list[Pair]
    closest_held_out: list[Pair]
    distances: NDArray[np.float64] = field(repr=False)
    held_out_distances: NDArray[np.float64] = field(repr=False)

    # Pictures in which real source images can be seen.
    shows_real = (PAIRS,)

    def targets(self) -> list[Target]:
        """At most 2 % of the samples nearer than the 1st percentile of held-out images.

        As new as held-out images means 1 %; the bound leaves as much again to the coarseness of a
        percentile that rests on few images. The verdict has a rule of its own, with the interval.
        """
        name = "samples nearer to a training image than 99 % of held-out images"
        return [Target(name, "at most", SHARE_BOUND, self.found.share.mean)]

    def markdown(self) -> list[str]:
        """The section of the report."""
        found = self.found
        share = found.share
        where = f"{self.training}"
        if self.training < self.training_available:
            where += f" of {self.training_available}"
        posed = ", each in all eight poses of the square" if self.poses else ""
        coarse = ""
        if found.held_out < 500:
            coarse = (
                f" With {found.held_out} held-out images that percentile rests on the nearest "
                f"{-(-found.held_out // 100)} of them and is coarse."
            )
        return [
            "## Memorisation",
            f"**{found.verdict[0].upper()}{found.verdict[1:]}.** {found.samples} samples against "
            f"{where} training images{posed}, by cosine distance in the audit space "
            f"`{self.audit_space}`; {found.held_out} held-out real images of {found.sources} other "
            "sources give the scale.",
            f"{share.mean:.2%} of the samples ({share.low:.2%} to {share.high:.2%}) lie nearer to "
            f"a training image than {found.threshold:.4f}, the 1st percentile of the held-out "
            "distances; 1 % is what images as new as held-out ones give, and then, every source "
            f"counted once, at least as many lie so near with probability {found.chance:.2g}. "
            "Copies are suspected where the lower end of the interval is above 1 % and that "
            "probability below 2.5 %. "
            f"{found.nearer_than_all:.2%} are nearer than any held-out image. The median distance "
            f"is {found.median:.4f} for samples and {found.held_out_median:.4f} for held-out "
            f"images.{coarse}",
            "A few copies among many samples do not raise the share enough, and samples that look "
            "like no real image are far from all of them: read the figure beside the quality of "
            "the samples, and look at the pairs.",
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
            self.found.threshold,
            provenance,
        )


def copies(subject: Subject, poses: bool | None = None) -> Copies | None:
    """Audit `memorisation` fresh samples for copies of training images; None where that is 0.

    `poses=None`: in all eight poses by the rule of `has_poses`. Held-out images are the real test
    set, whose sources are not in the training set. Of sets larger than MOST_TRAINING and
    MOST_HELD_OUT as many are drawn by seed.
    """
    config, editor = subject.config, subject.editor
    if not config.memorisation:
        return None
    if poses is None:
        poses = has_poses(editor.image_shape)
    samples = editor.drawn(config.memorisation, config.seed, "memorisation").pixels
    train, test = subject.real_train, subject.real_test
    searched = _some(subject, train, MOST_TRAINING, "training")
    chosen = _some(subject, test, MOST_HELD_OUT, "held out")
    held_out = test.pixels(chosen)

    # Both kinds of query are searched for in one pass over the training images.
    queries = np.concatenate([subject.audit.embed(samples), subject.audit.embed(held_out)])
    blocks = posed_blocks(train.pixels, searched, subject.audit.embed, poses)
    answer = nearest(queries, blocks)
    n = len(samples)
    ours, theirs = answer.part(slice(n)), answer.part(slice(n, None))
    groups = getattr(test, "groups", None)
    found = audit(
        ours.distance,
        theirs.distance,
        config.seed,
        config.bootstraps,
        None if groups is None else groups(chosen),
    )
    return Copies(
        audit_space=config.audit.name,
        training=len(searched),
        training_available=len(train),
        poses=poses,
        found=found,
        closest=_pairs(samples, ours, train, poses),
        closest_held_out=_pairs(held_out, theirs, train, poses),
        distances=ours.distance,
        held_out_distances=theirs.distance,
    )


def _some(subject: Subject, dataset: LabelledDataset, most: int, purpose: str) -> Indices:
    if len(dataset) <= most:
        return np.arange(len(dataset))
    draws = stream(subject.config.seed, f"memorisation {purpose}")
    return np.sort(draws.permutation(len(dataset))[:most])


def _pairs(pixels: Pixels, found: Nearest, train: LabelledDataset, poses: bool) -> list[Pair]:
    pairs = []
    for row in np.argsort(found.distance, kind="stable")[:PICTURED]:
        tile = train.pixels(found.item[row : row + 1])
        pose = int(found.pose[row])
        pairs.append(
            Pair(
                image=pixels[row : row + 1],
                training=in_pose(tile, pose) if poses else tile,
                distance=float(found.distance[row]),
                training_index=int(found.item[row]),
                pose=pose,
            )
        )
    return pairs
