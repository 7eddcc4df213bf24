"""Draw a bank of images and embed it."""

import math
from functools import partial
from typing import Any

import numpy as np

from controlgen import rng
from controlgen.artifacts import Ref, Store
from controlgen.artifacts.formats import create_mapped, open_mapped
from controlgen.artifacts.store import write_json
from controlgen.config import EmbedConfig, SampleConfig
from controlgen.control.bundle import load_generator
from controlgen.control.editor import SAMPLES
from controlgen.features import FeatureSpace
from controlgen.images import generated, grid, write_png
from controlgen.progress import Bars, Reporter
from controlgen.stages.common import GRID, name_of, provenance
from controlgen.threads import AT_ONCE, in_parts
from controlgen.types import Pixels


def draw_samples(
    name: str, config: SampleConfig, gan: Ref, store: Store, report: Reporter | None = None
) -> Ref:
    """Draw a bank of latents and images; item i depends on the seed and i alone."""
    ref = name_of("bank", name, config, gan.fingerprint)
    if store.has(ref):
        return ref
    generator, shape = load_generator(store.open(gan))
    with store.making(ref, {"gan": gan}) as folder:
        # Every image is drawn among as many others, so that its last bit depends on nothing else.
        whole, step = (math.ceil(n / AT_ONCE) * AT_ONCE for n in (config.n, config.batch_size))
        latents = rng.normals(config.seed, SAMPLES, 0, whole, generator.latent_size)
        stored = create_mapped(
            folder / "latents.npy", (config.n, generator.latent_size), np.float32
        )
        stored[:] = latents[: config.n]
        pixels = create_mapped(folder / "pixels.npy", (config.n, *shape), np.uint8)
        with (report or Bars()).meter(f"sample {ref.name}", config.n, unit="images") as meter:
            for start in range(0, config.n, step):
                part = slice(start, min(start + step, config.n))
                drawn = in_parts(partial(generated, generator), latents[start : start + step])
                pixels[part] = drawn[: part.stop - start]
                meter.to(part.stop)
        for array in (stored, pixels):
            array.flush()
        origin = provenance(ref, "the bank's first items", config.seed)
        write_png(folder / "grid.png", grid(pixels[:GRID], 10), origin, zoom=2)
        write_json(folder / "config.json", config.effective())
    return ref


def embed_images(
    name: str, config: EmbedConfig, bank: Ref, store: Store, report: Reporter | None = None
) -> Ref:
    """Embed every image of a bank in the steering feature space."""
    space: FeatureSpace = config.space.open()
    ref = name_of("features", name, config, bank.fingerprint, space.fingerprint)
    if store.has(ref):
        return ref
    pixels = open_mapped(store.open(bank) / "pixels.npy")
    with store.making(ref, {"bank": bank}) as folder:
        features = create_mapped(folder / "features.npy", (len(pixels), space.size), np.float32)
        with (report or Bars()).meter(f"embed {ref.name}", len(pixels), unit="images") as meter:
            for start in range(0, len(pixels), config.batch_size):
                part = slice(start, min(start + config.batch_size, len(pixels)))
                features[part] = space.embed(np.array(pixels[part]))
                meter.to(part.stop)
        features.flush()
        sheet = grid(_along_components(features, pixels), 11)
        recipe = "bank images along the first eight principal components of their features"
        write_png(folder / "components.png", sheet, provenance(ref, recipe, 0), zoom=2)
        write_json(folder / "config.json", config.effective())
        write_json(folder / "space.json", {"fingerprint": space.fingerprint})
    return ref


def _along_components(
    features: Any, pixels: Pixels, components: int = 8, steps: int = 11
) -> Pixels:
    # One row a principal component: the images at evenly spaced ranks along it.
    part = np.array(features[:5000])
    _, _, axes = np.linalg.svd(part - part.mean(0), full_matrices=False)
    order = np.argsort(part @ axes[:components].T, axis=0)
    ranks = np.linspace(0, len(part) - 1, steps).round().astype(int)
    return np.asarray(pixels[order[ranks].T.ravel()])
