"""Train a GAN."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from controlgen import figures, rng
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.model_card import write_model_card
from controlgen.config import RunConfig, TrainConfig
from controlgen.datasets import with_content_hash
from controlgen.editing.checkpoint import (
    CRITIC,
    load_critic,
    load_verified_generator,
    save_generator,
)
from controlgen.editing.generative_model import SAMPLES
from controlgen.errors import Diverged
from controlgen.evaluation.convergence import Verdict, verdict_label
from controlgen.images import generate_pixels, grid, write_png
from controlgen.stages.artifact_refs import GRID, RESEARCH, STATE, artifact_ref, provenance
from controlgen.stages.reuse_generator import reuse_generator
from controlgen.stages.training_monitor import PICTURE, TrainingMonitor
from controlgen.training import Progress, TrainState, train
from controlgen.training.history import Row, mean_row, read_history, to_text
from controlgen.utils.array_files import load_tensors, save_tensors
from controlgen.utils.files import write_json, write_text
from controlgen.utils.progress import ProgressReporter, TqdmReporter


def train_gan(
    name: str, config: TrainConfig, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """Train a GAN; a stopped training is resumed.

    Raises DataError, Diverged; ArtifactMissing and Incompatible if `start_from` cannot be used.
    """
    ref = gan_ref(name, config)
    if store.has(ref):
        return ref
    config = config.model_copy(update={"dataset": with_content_hash(config.dataset)})
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    critic_goes_on = _begin(config, state)
    with store.create(ref, _parents(config)) as folder:
        if (folder / STATE).is_file():
            state.restore(load_tensors(folder / STATE))
        else:  # remains if training diverges before its first checkpoint
            save_tensors(folder / STATE, state.tensors())
        facts, verdict = _train_and_save(
            config, dataset, state, folder, ref, report or TqdmReporter()
        )

        # Written: the averaged generator, the critic, the curves and the pictures.
        save_generator(folder, state.average.cpu(), config.network, dataset.image_shape[0])
        save_tensors(folder / CRITIC, state.critic.state_dict())
        write_json(folder / "config.json", config.to_dict())
        (folder / STATE).unlink()
        write_model_card(
            folder,
            f"GAN {ref.name}",
            f"An unconditional generator trained on unlabelled images. {RESEARCH}",
            {
                "data": config.dataset.kind,
                "objective": config.objective.kind,
                "real images shown": state.images_seen,
                "augmentation": config.augment.kind,
                "started from": config.start_from or "random weights",
                "critic": "trained on" if critic_goes_on else "new",
                "parameters, generator": sum(p.numel() for p in state.average.parameters()),
                "precision": "bf16 above 4x4" if state.bf16 else "fp32",
                **({"verdict": f"{verdict}: {facts.reasons[0]}"} if facts else {}),
            },
            ["Not evaluated by itself: see the report of the run."],
            f"python -m flows.train_gan CONFIG  # with the [train] of config.json, name {name}",
            ["grid.png", "losses.png", *([PICTURE] if facts else [])],
        )
    return ref


def train_all_phases(
    config: RunConfig, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """The GAN of a run, after its warm-up trainings if there are any.

    If `generator` is set, that generator is reused. Raises what `train_gan` and `reuse_generator`
    raise.
    """
    if config.generator is not None:
        return reuse_generator(config, config.generator, store)
    first, *later = config.training_phases()
    ref = train_gan(config.name, first, store, report)
    for training in later:
        going_on = training.model_copy(update={"start_from": store.path(ref)})
        ref = train_gan(config.name, going_on, store, report)
    return ref


def gan_ref(name: str, config: TrainConfig) -> ArtifactRef:
    """The reference of the GAN that `train_gan` makes of these settings, trained or not.

    Raises DataError if the data set cannot be read, ArtifactMissing for `start_from`.
    """
    config = config.model_copy(update={"dataset": with_content_hash(config.dataset)})
    return artifact_ref("gan", name, config, *_parents(config).values())


def _parents(config: TrainConfig) -> dict[str, str]:
    # Fingerprints of the initial weights, unless training starts from scratch.
    if config.start_from is None:
        return {}
    parents = {"generator weights": load_verified_generator(config.start_from)[1]}
    if critic := load_critic(config.start_from):
        parents["critic weights"] = critic[1]
    return parents


def _begin(config: TrainConfig, state: TrainState) -> bool:
    # Whether a critic is continued.
    if config.start_from is None:
        return False
    critic = load_critic(config.start_from)
    return state.start_from(
        load_verified_generator(config.start_from)[0], critic[0] if critic else None
    )


def _train_and_save(
    config: TrainConfig,
    dataset: Any,
    state: TrainState,
    folder: Path,
    ref: ArtifactRef,
    report: ProgressReporter,
) -> tuple[Verdict | None, str]:
    # The verdict of a monitored run, and its label in tables.
    # Rows after the saved state belong to steps that will be repeated.
    rows = read_history(folder / "history.jsonl", state.images_seen)
    watch = (
        None
        if config.watch is None
        else TrainingMonitor(config, config.watch, dataset, state, folder)
    )
    every = max(config.checkpoint_images // 10, config.batch_size)
    steps, next_row = [], state.images_seen + every
    next_save = state.images_seen + config.checkpoint_images
    title = f"train {ref.name}"
    with report.start(title, config.total_images, state.images_seen, "images") as meter:
        for step in _steps(config, dataset, state, watch, ref):
            steps.append(step)
            if step.images_seen >= next_row or step.images_seen >= config.total_images:
                rows.append(mean_row(steps))
                steps, next_row = [], step.images_seen + every
                row = rows[-1]
                note = f"gap {row['gap']:.2f} penalty {row['penalty']:.3f}"
                meter.update_to(min(step.images_seen, config.total_images), note)
            if step.images_seen >= next_save:
                next_save += config.checkpoint_images
                _checkpoint(state, rows, watch, folder, ref)
    _checkpoint(state, rows, watch, folder, ref)
    if watch is None:
        return None, ""
    verdict = watch.end(ref)
    return verdict, verdict_label(verdict, watch.observations)


def _steps(
    config: TrainConfig,
    dataset: Any,
    state: TrainState,
    watch: TrainingMonitor | None,
    ref: ArtifactRef,
) -> Iterator[Progress]:
    # Monitored training steps; a failing run leaves its verdict in the folder.
    try:
        for step in train(config, dataset, state):
            if watch:
                watch.after_step()
            yield step
    except Diverged as error:
        if watch:
            watch.end(ref, stopped=str(error))
        raise


def _checkpoint(
    state: TrainState,
    rows: list[Row],
    watch: TrainingMonitor | None,
    folder: Path,
    ref: ArtifactRef,
) -> None:
    # The state is saved last: it decides how many rows of the history are valid.
    write_text(folder / "history.jsonl", to_text(rows))
    if watch:
        watch.save()
    origin = provenance(ref, f"averaged generator after {state.images_seen} images", 0)
    latents = rng.normals(0, SAMPLES, 0, GRID, state.average.latent_size)
    pixels = generate_pixels(state.average, torch.from_numpy(latents).to(state.device))
    snapshots = folder / "grids"
    snapshots.mkdir(exist_ok=True)
    sheet = grid(pixels, 10)
    write_png(snapshots / f"{state.images_seen:09d}.png", sheet, origin)
    write_png(folder / "grid.png", sheet, origin, zoom=2)
    if rows:
        figures.loss_curves(folder / "losses.png", rows, origin)
    save_tensors(folder / STATE, state.tensors())
