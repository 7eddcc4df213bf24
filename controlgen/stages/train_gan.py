"""Train a GAN."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from controlgen import figures, rng
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.model_card import write_model_card
from controlgen.config import RunConfig, TrainConfig
from controlgen.datasets import pinned
from controlgen.editing.checkpoint import CRITIC, open_critic, open_generator, save_generator
from controlgen.editing.editor import SAMPLES
from controlgen.errors import Diverged
from controlgen.evaluation.convergence import Verdict, qualified
from controlgen.images import generated, grid, write_png
from controlgen.stages.artifact_refs import GRID, RESEARCH, STATE, name_of, provenance
from controlgen.stages.reuse_generator import take_generator
from controlgen.stages.training_monitor import PICTURE, Watch
from controlgen.training import Progress, TrainState, train
from controlgen.training.history import Row, mean_row, read_history, to_text
from controlgen.utils.array_files import load_tensors, save_tensors
from controlgen.utils.files import write_json, write_text
from controlgen.utils.progress import ProgressReporter, TqdmReporter


def train_gan(
    name: str, config: TrainConfig, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """Train a GAN, resuming where an earlier attempt stopped.

    Raises DataError, Diverged; ArtifactMissing and Incompatible where `start_from` does not serve.
    """
    ref = gan_of(name, config)
    if store.has(ref):
        return ref
    config = config.model_copy(update={"dataset": pinned(config.dataset)})
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    critic_goes_on = _begin(config, state)
    with store.create(ref, _parents(config)) as folder:
        if (folder / STATE).is_file():
            state.restore(load_tensors(folder / STATE))
        else:  # what is left should training diverge before its first checkpoint
            save_tensors(folder / STATE, state.tensors())
        found, told = _train_and_save(config, dataset, state, folder, ref, report or TqdmReporter())

        # What is kept: the averaged generator, the critic, the curves and the pictures.
        save_generator(folder, state.average.cpu(), config.network, dataset.image_shape[0])
        save_tensors(folder / CRITIC, state.critic.state_dict())
        write_json(folder / "config.json", config.effective())
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
                **({"verdict": f"{told}: {found.reasons[0]}"} if found else {}),
            },
            ["Not evaluated by itself: see the report of the run."],
            f"python -m flows.train_gan CONFIG  # with the [train] of config.json, name {name}",
            ["grid.png", "losses.png", *([PICTURE] if found else [])],
        )
    return ref


def train_run(
    config: RunConfig, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """The GAN of a run; what it has of warm-ups is trained first and gone on from.

    One whose generator is named takes that. Raises what `train_gan` and `take_generator` raise.
    """
    if config.generator is not None:
        return take_generator(config, config.generator, store)
    first, *later = config.trainings()
    ref = train_gan(config.name, first, store, report)
    for training in later:
        going_on = training.model_copy(update={"start_from": store.path(ref)})
        ref = train_gan(config.name, going_on, store, report)
    return ref


def gan_of(name: str, config: TrainConfig) -> ArtifactRef:
    """What `train_gan` makes of these settings, whether it is there or not.

    Raises DataError where the data set cannot be read, ArtifactMissing over `start_from`.
    """
    config = config.model_copy(update={"dataset": pinned(config.dataset)})
    return name_of("gan", name, config, *_parents(config).values())


def _parents(config: TrainConfig) -> dict[str, str]:
    # Fingerprints of the weights that training begins with, where it does not begin anew.
    if config.start_from is None:
        return {}
    parents = {"generator weights": open_generator(config.start_from)[1]}
    if kept := open_critic(config.start_from):
        parents["critic weights"] = kept[1]
    return parents


def _begin(config: TrainConfig, state: TrainState) -> bool:
    # Whether a critic goes on.
    if config.start_from is None:
        return False
    kept = open_critic(config.start_from)
    return state.start_from(open_generator(config.start_from)[0], kept[0] if kept else None)


def _train_and_save(
    config: TrainConfig,
    dataset: Any,
    state: TrainState,
    folder: Path,
    ref: ArtifactRef,
    report: ProgressReporter,
) -> tuple[Verdict | None, str]:
    # The verdict of a run that is watched, and its name as people are told it.
    # Rows later than the saved state belong to steps that are about to be made again.
    rows = read_history(folder / "history.jsonl", state.images_seen)
    watch = None if config.watch is None else Watch(config, config.watch, dataset, state, folder)
    every = max(config.checkpoint_images // 10, config.batch_size)
    steps, next_row = [], state.images_seen + every
    next_save = state.images_seen + config.checkpoint_images
    title = f"train {ref.name}"
    with report.meter(title, config.total_images, state.images_seen, "images") as meter:
        for step in _steps(config, dataset, state, watch, ref):
            steps.append(step)
            if step.images_seen >= next_row or step.images_seen >= config.total_images:
                rows.append(mean_row(steps))
                steps, next_row = [], step.images_seen + every
                row = rows[-1]
                note = f"gap {row['gap']:.2f} penalty {row['penalty']:.3f}"
                meter.to(min(step.images_seen, config.total_images), note)
            if step.images_seen >= next_save:
                next_save += config.checkpoint_images
                _checkpoint(state, rows, watch, folder, ref)
    _checkpoint(state, rows, watch, folder, ref)
    if watch is None:
        return None, ""
    found = watch.end(ref)
    return found, qualified(found, watch.seen)


def _steps(
    config: TrainConfig, dataset: Any, state: TrainState, watch: Watch | None, ref: ArtifactRef
) -> Iterator[Progress]:
    # The steps of training, watched; one that breaks off leaves its verdict in the folder.
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
    state: TrainState, rows: list[Row], watch: Watch | None, folder: Path, ref: ArtifactRef
) -> None:
    # The state comes last: it decides how many rows of the history count.
    write_text(folder / "history.jsonl", to_text(rows))
    if watch:
        watch.save()
    origin = provenance(ref, f"averaged generator after {state.images_seen} images", 0)
    latents = rng.normals(0, SAMPLES, 0, GRID, state.average.latent_size)
    pixels = generated(state.average, torch.from_numpy(latents).to(state.device))
    snapshots = folder / "grids"
    snapshots.mkdir(exist_ok=True)
    sheet = grid(pixels, 10)
    write_png(snapshots / f"{state.images_seen:09d}.png", sheet, origin)
    write_png(folder / "grid.png", sheet, origin, zoom=2)
    if rows:
        figures.loss_curves(folder / "losses.png", rows, origin)
    save_tensors(folder / STATE, state.tensors())
