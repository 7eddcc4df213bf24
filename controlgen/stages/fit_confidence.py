"""Fit the confidence of a map's edits and write it into the map's folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from controlgen.artifacts.bank import SampleBank
from controlgen.config import ReachabilityConfig
from controlgen.datasets import AnyDataset
from controlgen.editing import Editor
from controlgen.editing.checkpoint import save_confidence
from controlgen.editing.confidence.fit import (
    ConfidenceReport,
    RoundTripResult,
    fit_confidence,
    round_trip,
)
from controlgen.editing.confidence.probe_targets import SHARES, draw_probe_targets
from controlgen.editing.confidence.score import ConfidenceModel
from controlgen.features import FeatureSpace
from controlgen.metrics.classifier import source_ids
from controlgen.rng import stream
from controlgen.types import Dataset, Pixels


@dataclass(frozen=True)
class ConfidenceFit:
    """The data of the fit apart from map and bank: an audit space and held-out real images."""

    config: ReachabilityConfig
    audit: FeatureSpace
    unseen: Dataset

    @classmethod
    def of(cls, config: ReachabilityConfig | None, dataset: AnyDataset) -> Self | None:
        """Open both before anything is fitted; None if the config has no `reachability`."""
        if config is None:
            return None
        return cls(config, config.audit.open(), dataset.with_split("test").open())

    def fit(self, editor: Editor, items: SampleBank, folder: Path) -> dict[str, Any]:
        """Write reachability.json and .safetensors; return the figures for the model card."""
        model, judged = self.learn(editor, items)
        save_confidence(folder, self.config, model, judged)
        facts: dict[str, Any] = {}
        for name, value in (("all targets", judged.auroc), ("samples alone", judged.auroc_bank)):
            if value is not None:
                auroc = f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"
                facts[f"reachability, AUROC among {name}"] = auroc
        return facts | {"reachability, calibration error": f"{judged.calibration_error:.3f}"}

    def learn(self, editor: Editor, items: SampleBank) -> tuple[ConfidenceModel, ConfidenceReport]:
        """Fit the confidence model and evaluate it.

        One half of the held-out bank images sets the scale; targets are made from the other half
        and from real images of the test split, whose labels are not used.
        """
        config = self.config
        start, stop = items.held_out.start, items.held_out.stop
        middle = (start + stop) // 2
        order = stream(config.seed, "reachability real").permutation(len(self.unseen))
        indices = np.sort(order[: max(round(SHARES["real"] * config.targets), 1)])
        trials = draw_probe_targets(
            np.array(items.pixels[middle:stop]),
            self.unseen.pixels(indices),
            source_ids(self.unseen, indices),
            config.targets,
            config.seed,
        )

        def round_trip_of(pixels: Pixels) -> RoundTripResult:
            answer = lambda features: editor.generate(editor.invert(features))  # noqa: E731
            return round_trip(pixels, editor.embed, answer, self.audit.embed)

        return fit_confidence(
            config,
            editor.statistics,
            items.features[items.train],
            round_trip_of(np.array(items.pixels[start:middle])),
            trials,
            round_trip_of(trials.pixels),
        )
