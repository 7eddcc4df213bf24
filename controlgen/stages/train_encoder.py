"""Train an encoder on unlabelled images: a feature space for the user's own data."""

from pathlib import Path
from typing import Any

import numpy as np

from controlgen import figures
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.model_card import write_model_card
from controlgen.config import EncoderConfig
from controlgen.datasets import with_content_hash
from controlgen.evaluation.encoder_retrieval import (
    RetrievalGallery,
    nearest_neighbours,
    participation_ratio,
    raw_pixel_features,
)
from controlgen.features import FeatureSpace, SelfSupervisedConfig
from controlgen.images import grid, to_pixels, to_signed_float, write_png
from controlgen.rng import stream, torch_stream
from controlgen.stages.artifact_refs import STATE, WHAT_ENCODER, artifact_ref, provenance
from controlgen.training import vicreg as training
from controlgen.training.history import Row, mean_row, read_history, to_text
from controlgen.utils.array_files import load_tensors, save_tensors
from controlgen.utils.files import write_json, write_text
from controlgen.utils.progress import ProgressReporter, TqdmReporter

CURVES = ("loss", "invariance", "variance", "covariance")
MOST = 1000  # images in the retrieval gallery
ROWS, ACROSS = 8, 8  # images on the sheets
NEIGHBOURS, VIEWS = "neighbours.png", "views.png"  # pictures with real images
LIMITS = (
    "Features forget whatever two views differ in, and know only what its images show.",
    "Knows no text: directions are groups of images or measured attributes.",
)


def train_encoder(
    config: EncoderConfig, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """Train an encoder on the images of `config.dataset`, without labels; a stopped training is
    resumed.

    Raises DataError, Incompatible if the views do not fit the images, Diverged.
    """
    config = config.model_copy(update={"dataset": with_content_hash(config.dataset)})
    ref = artifact_ref("encoder", config.name, config)
    if store.has(ref):
        return ref
    dataset = config.dataset.open()
    state = training.EncoderState(config, dataset.image_shape)
    held = config.dataset.with_split("test").open()
    gallery = RetrievalGallery.sample(held, config.augment, MOST, config.seed)
    with store.create(ref, {}) as folder:
        if (folder / STATE).is_file():
            state.restore(load_tensors(folder / STATE))
        else:  # remains if training diverges before its first checkpoint
            save_tensors(folder / STATE, state.tensors())
        _train_and_save(config, dataset, state, folder, ref, report or TqdmReporter())
        training.export(state, folder)

        # Pictures: the views that count as one image, and nearest neighbours.
        space = SelfSupervisedConfig(path=folder).open()
        scores = _scores(config, dataset, space, gallery)
        _views_sheet(folder / VIEWS, config, gallery, _real(ref, "an image, then views of it"))
        _neighbours_sheet(folder / NEIGHBOURS, config, space, gallery, ref)
        write_json(folder / "scores.json", scores)
        write_json(folder / "config.json", config.to_dict())
        (folder / STATE).unlink()
        card(folder, f"Encoder {ref.name}", config, scores, f"configs/{config.name}.toml")
    return ref


def card(
    folder: Path, title: str, config: EncoderConfig, scores: dict[str, Any], command: str
) -> None:
    """Write the model card for the files in `folder`."""
    recalls = {
        f"views known again, {name}": "{mean:.3f} ({low:.3f} to {high:.3f})".format(**value)
        for name, value in scores["recognised"].items()
    }
    write_model_card(
        folder,
        title,
        WHAT_ENCODER,
        {
            "data": config.about or config.dataset.kind,
            "images shown": f"{config.images:,}, each in two views",
            "views": config.augment.kind,
            "tower": config.tower,
            "parameters": scores["parameters"],
            "feature size": f"{config.feature_size}, of which {scores['dimensions']:.1f} are used",
            "gallery": f"{scores['gallery']} held-out images of {scores['sources']} sources",
            **recalls,
            "licence": "Apache-2.0 (code); the weights are made from the images named",
        },
        LIMITS,
        f"python -m flows.train_encoder {command}",
        [picture for picture in ("losses.png", VIEWS, NEIGHBOURS) if (folder / picture).is_file()],
    )


def _train_and_save(
    config: EncoderConfig,
    dataset: Any,
    state: training.EncoderState,
    folder: Path,
    ref: ArtifactRef,
    report: ProgressReporter,
) -> None:
    # Rows after the saved state belong to steps that will be repeated.
    rows = read_history(folder / "history.jsonl", state.images_seen)
    every = max(config.checkpoint_images // 10, config.batch_size)
    steps, next_row = [], state.images_seen + every
    next_save = state.images_seen + config.checkpoint_images
    title = f"train {ref.name}"
    with report.start(title, config.images, state.images_seen, "images") as meter:
        for step in training.train_encoder(config, dataset, state):
            steps.append(step)
            if step.images_seen >= next_row or step.images_seen >= config.images:
                rows.append(mean_row(steps))
                steps, next_row = [], step.images_seen + every
                meter.update_to(
                    min(step.images_seen, config.images), f"loss {rows[-1]['loss']:.2f}"
                )
            if step.images_seen >= next_save:
                next_save += config.checkpoint_images
                _checkpoint(state, rows, folder, ref)
    _checkpoint(state, rows, folder, ref)


def _checkpoint(
    state: training.EncoderState, rows: list[Row], folder: Path, ref: ArtifactRef
) -> None:
    # The state is saved last: it decides how many rows of the history are valid.
    write_text(folder / "history.jsonl", to_text(rows))
    if rows:
        origin = provenance(ref, "learning curves", 0)
        figures.loss_curves(folder / "losses.png", rows, origin, CURVES)
    save_tensors(folder / STATE, state.tensors())


def _scores(
    config: EncoderConfig, dataset: Any, space: FeatureSpace, gallery: RetrievalGallery
) -> dict[str, Any]:
    # The same measure for the untrained encoder and raw pixels, as baselines.
    floor = training.untrained(config, dataset)
    described = training.description(config, dataset.image_shape)
    embeddings = {
        "trained": space.embed,
        "untrained": described.space(floor).embed,
        "plain pixels": raw_pixel_features,
    }
    recalls = {name: gallery.recall_at_1(embed, config.seed) for name, embed in embeddings.items()}
    return {
        "recognised": {name: value._asdict() for name, value in recalls.items()},
        "dimensions": participation_ratio(space.embed(gallery.pixels)),
        "gallery": len(gallery.pixels),
        "sources": gallery.sources,
        "parameters": sum(p.numel() for p in floor.parameters()),
    }


def _views_sheet(path: Path, config: EncoderConfig, gallery: RetrievalGallery, origin: Any) -> None:
    images = to_signed_float(gallery.pixels[:ROWS])
    draws = torch_stream(config.seed, "shown views")
    views = [to_pixels(config.augment.view(images, draws)) for _ in range(ACROSS)]
    rows = np.stack([gallery.pixels[:ROWS], *views], 1)
    write_png(path, grid(rows.reshape(-1, *rows.shape[2:]), 1 + ACROSS), origin, zoom=2)


def _neighbours_sheet(
    path: Path,
    config: EncoderConfig,
    space: FeatureSpace,
    gallery: RetrievalGallery,
    ref: ArtifactRef,
) -> None:
    count = min(ROWS, len(gallery.pixels))
    queries = stream(config.seed, "shown queries").permutation(len(gallery.pixels))[:count]
    features = space.embed(gallery.pixels)
    nearest = nearest_neighbours(features, queries, min(ACROSS, len(gallery.pixels) - 1))
    cosines = np.einsum("md,mkd->mk", features[queries], features[nearest])
    columns = [figures.Column("query", gallery.pixels[queries])]
    for at in range(nearest.shape[1]):
        captions = [f"{value:.2f}" for value in cosines[:, at]]
        columns.append(figures.Column(f"{at + 1}", gallery.pixels[nearest[:, at]], captions))
    figures.contact_sheet(
        path,
        columns,
        _real(ref, "held-out images and their nearest others"),
        f"{len(gallery.pixels)} held-out images: a query and its nearest others, by cosine",
    )


def _real(ref: ArtifactRef, recipe: str) -> dict[str, Any]:
    return {**provenance(ref, recipe, 0), "synthetic": "no: real images"}
