"""Observations of a training in its folder: watch.jsonl, and a verdict with a picture."""

import json
from dataclasses import asdict
from pathlib import Path

from controlgen import figures
from controlgen.artifacts import ArtifactRef
from controlgen.config import MonitorConfig, TrainConfig
from controlgen.evaluation.convergence import (
    Observation,
    TrainingObserver,
    Verdict,
    classify_run,
    diagnose_gamma,
    parse_observation,
)
from controlgen.objectives import R3GAN
from controlgen.rng import torch_stream
from controlgen.stages.artifact_refs import provenance
from controlgen.training import TrainState
from controlgen.training.history import read_history, to_text
from controlgen.types import Dataset
from controlgen.utils.files import write_json, write_text

HISTORY = "history.jsonl"  # written by the training itself
ROWS, VERDICT, PICTURE = "watch.jsonl", "verdict.json", "convergence.png"


class TrainingMonitor:
    """Observes a training at regular intervals; a resumed run repeats unsaved observations."""

    def __init__(
        self,
        config: TrainConfig,
        settings: MonitorConfig,
        dataset: Dataset,
        state: TrainState,
        folder: Path,
    ) -> None:
        # The baseline: the same network with untrained weights.
        weights = torch_stream(config.seed, "untrained weights")
        untrained = config.network.generator(dataset.image_shape[0], weights)
        size, embed = config.network.latent_size, settings.extractor.open().embed
        self._watcher = TrainingObserver(dataset, embed, untrained, size, settings.n, config.seed)
        self._config, self._settings = config, settings
        self._state, self._folder = state, folder
        # The verdict of an earlier, failed attempt does not apply to this one.
        (folder / VERDICT).unlink(missing_ok=True)
        rows = read_history(folder / ROWS, state.images_seen)
        self.observations: list[Observation] = [parse_observation(row) for row in rows]
        if not self.observations:
            self._look()

    def after_step(self) -> None:
        """Observe the run if an observation is due."""
        last = self.observations[-1].images_seen
        if self._state.images_seen >= last + self._settings.every_images:
            self._look()

    def save(self) -> None:
        """Write watch.jsonl."""
        write_text(
            self._folder / ROWS, to_text([asdict(observation) for observation in self.observations])
        )

    def end(self, ref: ArtifactRef, stopped: str | None = None) -> Verdict:
        """Observe once more, unless training failed, and write the verdict and its picture.

        Signs of a wrong gamma are listed among the reasons without effect on the verdict.
        """
        if stopped is None and self.observations[-1].images_seen < self._state.images_seen:
            self._look()
        self.save()
        name, reasons = classify_run(self.observations, stopped)
        signs = diagnostics_of(self._config, self._folder, self._state.images_seen)
        verdict = Verdict(name, (*reasons, *signs))
        write_json(self._folder / VERDICT, verdict._asdict())
        origin = provenance(ref, "evidence gathered while training; no image is shown", 0)
        rows = [asdict(observation) for observation in self.observations]
        figures.training_diagnostics(self._folder / PICTURE, {ref.name: [rows]}, origin)
        return verdict

    def _look(self) -> None:
        state = self._state
        self.observations.append(
            self._watcher.observe(state.images_seen, state.generator, state.average, state.critic)
        )


def diagnostics_of(
    config: TrainConfig, folder: Path, images_seen: int | None = None
) -> tuple[str, ...]:
    """Diagnostics of gamma from the losses in a training's folder; empty for other objectives.

    Rows after `images_seen` are ignored.
    """
    objective, burn_in = config.objective, config.burn_in_images
    if not isinstance(objective, R3GAN):
        return ()

    # The same computation as in training.
    def at(images: float) -> float:
        return objective.gamma.at(images / burn_in if burn_in else 1.0)

    return diagnose_gamma(read_history(folder / HISTORY, images_seen), at)


def load_observations(folder: Path) -> tuple[list[Observation], Verdict] | None:
    """The observations of a run and its verdict; None if it was not monitored or not finished."""
    if not (folder / VERDICT).is_file():
        return None
    verdict = json.loads((folder / VERDICT).read_text())
    observations = [parse_observation(row) for row in read_history(folder / ROWS)]
    return observations, Verdict(verdict["name"], tuple(verdict["reasons"]))
