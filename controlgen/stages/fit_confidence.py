"""Fit how far a map's answers can be believed, and write it beside the map."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from controlgen.artifacts.bank import SampleBank
from controlgen.config import ReachabilityConfig
from controlgen.datasets import AnyDataset
from controlgen.editing import Editor
from controlgen.editing.checkpoint import save_reachability
from controlgen.editing.confidence.fit import Judged, Trip, calibrate, trip
from controlgen.editing.confidence.probe_targets import SHARES, draw_trials
from controlgen.editing.confidence.score import Reachability
from controlgen.features import FeatureSpace
from controlgen.metrics.classifier import sources_of
from controlgen.rng import stream
from controlgen.types import Dataset, Pixels


@dataclass(frozen=True)
class Believing:
    """What it takes beside a map and a bank: an audit space, and real images never trained on."""

    config: ReachabilityConfig
    audit: FeatureSpace
    unseen: Dataset

    @classmethod
    def of(cls, config: ReachabilityConfig | None, dataset: AnyDataset) -> Self | None:
        """Open both before anything is fitted; None where no reachability is asked for."""
        if config is None:
            return None
        return cls(config, config.audit.open(), dataset.judging("test").open())

    def fit(self, editor: Editor, items: SampleBank, folder: Path) -> dict[str, Any]:
        """Write reachability.json and .safetensors; what they are worth, for the card."""
        found, judged = self.learn(editor, items)
        save_reachability(folder, self.config, found, judged)
        facts: dict[str, Any] = {}
        for name, value in (("all targets", judged.auroc), ("samples alone", judged.auroc_bank)):
            if value is not None:
                said = f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"
                facts[f"reachability, AUROC among {name}"] = said
        return facts | {"reachability, calibration error": f"{judged.calibration_error:.3f}"}

    def learn(self, editor: Editor, items: SampleBank) -> tuple[Reachability, Judged]:
        """Fit and judge.

        One half of the held-out bank images makes the scale; targets are made from the other half,
        and from real images of the data set's test split, whose labels are not asked for.
        """
        config = self.config
        start, stop = items.held_out.start, items.held_out.stop
        middle = (start + stop) // 2
        drawn = stream(config.seed, "reachability real").permutation(len(self.unseen))
        indices = np.sort(drawn[: max(round(SHARES["real"] * config.targets), 1)])
        trials = draw_trials(
            np.array(items.pixels[middle:stop]),
            self.unseen.pixels(indices),
            sources_of(self.unseen, indices),
            config.targets,
            config.seed,
        )

        def seen(pixels: Pixels) -> Trip:
            answer = lambda features: editor.generate(editor.invert(features))  # noqa: E731
            return trip(pixels, editor.embed, answer, self.audit.embed)

        return calibrate(
            config,
            editor.statistics,
            items.features[items.train],
            seen(np.array(items.pixels[start:middle])),
            trials,
            seen(trials.pixels),
        )
