"""Reuse an existing generator, e.g. of a pretrained model, instead of training."""

import shutil
from pathlib import Path

from controlgen import rng
from controlgen.artifacts import ArtifactRef, Store, open_artifact
from controlgen.artifacts.model_card import write_model_card
from controlgen.artifacts.store import read_manifest
from controlgen.config import RunConfig
from controlgen.editing.checkpoint import CRITIC, GENERATOR, load_generator, load_verified_generator
from controlgen.editing.generative_model import SAMPLES
from controlgen.errors import Incompatible
from controlgen.images import generate_pixels, grid, write_png
from controlgen.stages.artifact_refs import GRID, RESEARCH, artifact_ref, provenance
from controlgen.utils.files import write_json

TAKEN = ("generator.json", GENERATOR, CRITIC, "losses.png")  # copied if they exist


def check_generator(run: RunConfig) -> None:
    """Refuse a generator whose images do not have the shape of the data; writes nothing.

    Raises ArtifactMissing, ArtifactCorrupt, Incompatible.
    """
    if run.generator is None:
        return
    load_verified_generator(run.generator)
    _, shape = load_generator(run.generator)
    image_shape = run.train.dataset.open().image_shape
    if shape != image_shape:
        raise Incompatible(
            f"generator: {run.generator} makes images of {_size(shape)}, the data's are of "
            f"{_size(image_shape)}; name another one, or set train.dataset to its training data"
        )


def reuse_generator(run: RunConfig, folder: Path, store: Store) -> ArtifactRef:
    """A GAN artifact with the generator of another GAN, map or pretrained folder, byte for byte.

    Raises ArtifactMissing, ArtifactCorrupt, Incompatible.
    """
    check_generator(run)
    generator, weights = load_verified_generator(folder)
    source = read_manifest(open_artifact(folder))
    ref = artifact_ref("gan", run.name, generator.spec, "taken", weights)
    if store.has(ref):
        return ref
    source_name = f"{source.kind} {source.name}"
    with store.create(ref, {"generator weights": weights}) as partial:
        for name in TAKEN:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, partial / name)
        latents = rng.normals(0, SAMPLES, 0, GRID, generator.latent_size)
        origin = provenance(ref, f"the generator of {source_name}", 0)
        write_png(
            partial / "grid.png", grid(generate_pixels(generator, latents), 10), origin, zoom=2
        )
        write_json(
            partial / "config.json", {"taken from": source_name, "generator weights": weights}
        )
        write_model_card(
            partial,
            f"GAN {ref.name}",
            f"An unconditional generator that was taken, not trained, here. {RESEARCH}",
            {"taken from": f"{source_name} ({source.fingerprint})", "generator weights": weights},
            ["Not evaluated by itself: see the report of the run."],
            f"--set generator=FOLDER, that of {source_name}",
            [name for name in ("grid.png", "losses.png") if (partial / name).is_file()],
        )
    return ref


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
