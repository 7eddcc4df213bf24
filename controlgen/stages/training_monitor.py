"""Evidence of a training kept in its folder: watch.jsonl, and a verdict with a picture."""

import json
from pathlib import Path

from controlgen import figures
from controlgen.artifacts import ArtifactRef
from controlgen.config import TrainConfig, WatchConfig
from controlgen.evaluation.convergence import (
    Evidence,
    Verdict,
    Watcher,
    evidence_of,
    row_of,
    verdict,
)
from controlgen.evaluation.gamma_diagnosis import gamma_signs
from controlgen.objectives import R3GAN
from controlgen.rng import torch_stream
from controlgen.stages.artifact_refs import provenance
from controlgen.training import TrainState
from controlgen.training.history import read_history, to_text
from controlgen.types import Dataset
from controlgen.utils.files import write_json, write_text

HISTORY = "history.jsonl"  # that training itself leaves
ROWS, VERDICT, PICTURE = "watch.jsonl", "verdict.json", "convergence.png"


class Watch:
    """Looks at a run every so many images; what was seen since the last save can be seen again."""

    def __init__(
        self,
        config: TrainConfig,
        settings: WatchConfig,
        dataset: Dataset,
        state: TrainState,
        folder: Path,
    ) -> None:
        # The measure of what was learned: the same network with weights that learned nothing.
        weights = torch_stream(config.seed, "untrained weights")
        untrained = config.network.generator(dataset.image_shape[0], weights)
        size, embed = config.network.latent_size, settings.extractor.open().embed
        self._watcher = Watcher(dataset, embed, untrained, size, settings.n, config.seed)
        self._config, self._settings = config, settings
        self._state, self._folder = state, folder
        # A verdict from an attempt that broke off says nothing about this one.
        (folder / VERDICT).unlink(missing_ok=True)
        rows = read_history(folder / ROWS, state.images_seen)
        self.seen: list[Evidence] = [evidence_of(row) for row in rows]
        if not self.seen:
            self._look()

    def after_step(self) -> None:
        """Look where a look is due."""
        last = self.seen[-1].images_seen
        if self._state.images_seen >= last + self._settings.every_images:
            self._look()

    def save(self) -> None:
        """Write watch.jsonl."""
        write_text(self._folder / ROWS, to_text([row_of(one) for one in self.seen]))

    def end(self, ref: ArtifactRef, stopped: str | None = None) -> Verdict:
        """Look once more, unless training broke off, and write the verdict and its picture.

        Signs of a wrong gamma stand among the reasons, and decide nothing.
        """
        if stopped is None and self.seen[-1].images_seen < self._state.images_seen:
            self._look()
        self.save()
        name, reasons = verdict(self.seen, stopped)
        signs = signs_of(self._config, self._folder, self._state.images_seen)
        found = Verdict(name, (*reasons, *signs))
        write_json(self._folder / VERDICT, found._asdict())
        origin = provenance(ref, "evidence gathered while training; no image is shown", 0)
        rows = [row_of(one) for one in self.seen]
        figures.training_evidence(self._folder / PICTURE, {ref.name: [rows]}, origin)
        return found

    def _look(self) -> None:
        state = self._state
        self.seen.append(
            self._watcher.look(state.images_seen, state.generator, state.average, state.critic)
        )


def signs_of(config: TrainConfig, folder: Path, images_seen: int | None = None) -> tuple[str, ...]:
    """What the losses kept in a training's folder say of its gamma; nothing for other objectives.

    Rows after `images_seen` are left out.
    """
    objective, burn_in = config.objective, config.burn_in_images
    if not isinstance(objective, R3GAN):
        return ()

    # As the training's steps do it.
    def at(images: float) -> float:
        return objective.gamma.at(images / burn_in if burn_in else 1.0)

    return gamma_signs(read_history(folder / HISTORY, images_seen), at)


def read_evidence(folder: Path) -> tuple[list[Evidence], Verdict] | None:
    """What was seen of a run and the verdict; None where it was not watched, or not to its end."""
    if not (folder / VERDICT).is_file():
        return None
    found = json.loads((folder / VERDICT).read_text())
    seen = [evidence_of(row) for row in read_history(folder / ROWS)]
    return seen, Verdict(found["name"], tuple(found["reasons"]))
