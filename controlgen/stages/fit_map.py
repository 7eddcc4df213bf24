"""Fit the feature-to-latent map."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from controlgen import rng
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.bank import SampleBank
from controlgen.artifacts.model_card import write_model_card
from controlgen.attributes import AnyAttributes
from controlgen.config import RunConfig
from controlgen.editing import Editor
from controlgen.editing.attribute_feedback import RESPONSE_ITEMS, measure_response
from controlgen.editing.attribute_model import AttributeModel, measure_batched
from controlgen.editing.checkpoint import (
    load_generator,
    load_realism_filter,
    save_attributes,
    save_bank,
    save_generator,
    save_map,
    save_realism_filter,
)
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ConfigError
from controlgen.features import FeatureSpace
from controlgen.images import grid, to_signed_float, write_png
from controlgen.networks import AnyGenerator
from controlgen.regressors import RealTargets
from controlgen.stages.artifact_refs import RESEARCH, artifact_ref, provenance
from controlgen.stages.fit_confidence import ConfidenceFit
from controlgen.training.state import supports_native_bf16
from controlgen.utils.files import write_json
from controlgen.utils.progress import ProgressReporter, TqdmReporter


def fit_map(
    run: RunConfig,
    gan: ArtifactRef,
    bank: ArtifactRef,
    features: ArtifactRef,
    store: Store,
    report: ProgressReporter | None = None,
) -> ArtifactRef:
    """Fit the feature -> latent map; its folder holds all that an Editor needs."""
    config = run.fit
    ref = artifact_ref(
        "map", run.name, config, gan.fingerprint, bank.fingerprint, features.fingerprint
    )
    if store.has(ref):
        return ref
    items = SampleBank.open(store.open(bank), store.open(features), config.held_out)
    if len(items.latents) < 2 * config.held_out:
        raise ConfigError(
            f"fit.held_out = {config.held_out} leaves less than half of sample.n = "
            f"{len(items.latents)} to fit on; draw more samples or hold out fewer"
        )
    generator, shape = load_generator(store.open(gan))
    if config.attributes is not None:
        config.attributes.check(shape)
    space: FeatureSpace = run.embed.space.open()
    estimator = config.map.build(config.seed)
    confidence_fit = ConfidenceFit.of(config.reachability, run.train.dataset)
    with store.create(ref, {"gan": gan, "bank": bank, "features": features}) as folder:
        part = items.train
        steps = estimator.fit_steps(
            np.array(items.features[part]),
            np.array(items.latents[part]),
            FrozenRoundTrip(generator, space, _real_targets(run, space)),
        )
        with (report or TqdmReporter()).start(f"fit {ref.name}", 100, unit="%") as meter:
            for share in steps:
                meter.update_to(math.floor(1000 * share) / 10)

        save_generator(folder, generator, generator.spec, shape[0])
        statistics = FeaturePCA.fit(np.array(items.features[part]))
        space_settings = run.embed.space
        save_map(folder, config.map, estimator, statistics, space_settings, space.fingerprint)
        save_bank(folder, run.sample.seed, run.sample.n)
        realism_filter = load_realism_filter(store.path(bank), space.size)
        if realism_filter and run.sample.likeness:
            save_realism_filter(folder, run.sample.likeness, realism_filter)
        write_json(folder / "config.json", config.to_dict())
        facts: dict[str, Any] = {
            "map": config.map.kind,
            "fitted on": f"{part.stop} generated images, no labels",
        }
        editor = Editor(generator, space, estimator, statistics, shape)
        if config.attributes is not None:
            attributes = _fit_attributes(config.attributes, items, statistics, ref, report)
            attributes = _with_response(attributes, editor, items)
            save_attributes(folder, attributes)
            facts |= {
                f"R2 of {name} on features": f"{value:.3f} (images not fitted on)"
                for name, value in zip(attributes.names, attributes.r2, strict=True)
            }
        if confidence_fit is not None:
            facts |= confidence_fit.fit(editor, items, folder)
        _draw_reconstructions(editor, items, folder, ref)
        write_model_card(
            folder,
            f"Map {ref.name}",
            f"Generator, feature space and feature-to-latent map: all an Editor needs. {RESEARCH}",
            facts,
            ["Not evaluated by itself: see the report of the run."],
            f"python -m flows.fit_map CONFIG  # name {run.name}",
            ["inversion.png"],
        )
    return ref


class FrozenRoundTrip:
    """Frozen generator and feature space for the cycle loss; in bf16 where that is native."""

    def __init__(
        self, generator: AnyGenerator, space: FeatureSpace, real: RealTargets | None = None
    ) -> None:
        self._generator, self._space, self.real = copy.deepcopy(generator), space, real
        self._bf16 = self._generator.bf16 = supports_native_bf16(torch.device("cpu"))

    def generate(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (n z) -> images (n c h w) in -1..1, differentiable."""
        images: torch.Tensor = self._generator(latents).clamp(-1, 1)
        return images

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n c h w) in -1..1 -> unit features (n d), differentiable."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            return self._space.embed_images(images).float()


def _real_targets(run: RunConfig, space: FeatureSpace) -> RealTargets | None:
    # A random share of the training images, in index order.
    if not run.fit.real:
        return None
    dataset = run.train.dataset.open()
    order = rng.stream(run.fit.seed, "real targets").permutation(len(dataset))
    pixels = dataset.pixels(np.sort(order[: run.fit.real]))
    return RealTargets(torch.from_numpy(space.embed(pixels)), to_signed_float(pixels))


def _fit_attributes(
    settings: AnyAttributes,
    items: SampleBank,
    statistics: FeaturePCA,
    ref: ArtifactRef,
    report: ProgressReporter | None,
) -> AttributeModel:
    # Measured on the images that the map was fitted on, in batches to bound memory.
    part, rows = items.train, []
    with (report or TqdmReporter()).start(f"measure {ref.name}", part.stop, unit="images") as meter:
        for done, block in measure_batched(settings, items.pixels[part]):
            rows.append(block)
            meter.update_to(done)
    features = np.array(items.features[part])
    return AttributeModel.fit(settings, np.concatenate(rows), features, statistics)


def _with_response(attributes: AttributeModel, editor: Editor, items: SampleBank) -> AttributeModel:
    # The response of attributes to requested changes, on images that the map was fitted on.
    first = slice(0, min(RESPONSE_ITEMS, items.train.stop))
    latents, features = (np.array(rows[first]) for rows in (items.latents, items.features))
    response = measure_response(attributes, editor.generate, editor.invert, latents, features)
    return replace(attributes, response=response)


def _draw_reconstructions(
    editor: Editor, items: SampleBank, folder: Path, ref: ArtifactRef
) -> None:
    # Held-out bank images above their reconstructions.
    first = items.held_out.start
    originals = np.array(items.pixels[first : first + 16])
    reconstructions = editor.generate(editor.invert(np.array(items.features[first : first + 16])))
    recipe = "held-out bank images (top) and their reconstructions by the map (bottom)"
    sheet = grid(np.concatenate([originals, reconstructions]), 16)
    write_png(folder / "inversion.png", sheet, provenance(ref, recipe, 0), zoom=2)
