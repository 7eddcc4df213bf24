"""Take a generator that is there, as a shipped model's, in the place of training one."""

import shutil
from pathlib import Path

from controlgen import rng
from controlgen.artifacts import ArtifactRef, Store, open_artifact
from controlgen.artifacts.model_card import write_model_card
from controlgen.artifacts.store import read_manifest
from controlgen.config import RunConfig
from controlgen.editing.checkpoint import CRITIC, GENERATOR, load_generator, open_generator
from controlgen.editing.editor import SAMPLES
from controlgen.errors import Incompatible
from controlgen.images import generated, grid, write_png
from controlgen.stages.artifact_refs import GRID, RESEARCH, name_of, provenance
from controlgen.utils.files import write_json

TAKEN = ("generator.json", GENERATOR, CRITIC, "losses.png")  # where they are there


def check_generator(run: RunConfig) -> None:
    """Refuse a generator that makes no images like the data's; makes nothing.

    Raises ArtifactMissing, ArtifactCorrupt, Incompatible.
    """
    if run.generator is None:
        return
    open_generator(run.generator)
    _, shape = load_generator(run.generator)
    wanted = run.train.dataset.open().image_shape
    if shape != wanted:
        raise Incompatible(
            f"generator: {run.generator} makes images of {_size(shape)}, the data's are of "
            f"{_size(wanted)}; name another one, or set train.dataset to what it was trained on"
        )


def take_generator(run: RunConfig, folder: Path, store: Store) -> ArtifactRef:
    """A GAN artifact with the generator of a GAN's, a map's or a shipped folder, byte for byte.

    Raises ArtifactMissing, ArtifactCorrupt, Incompatible.
    """
    check_generator(run)
    generator, weights = open_generator(folder)
    source = read_manifest(open_artifact(folder))
    ref = name_of("gan", run.name, generator.spec, "taken", weights)
    if store.has(ref):
        return ref
    named = f"{source.kind} {source.name}"
    with store.create(ref, {"generator weights": weights}) as made:
        for name in TAKEN:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, made / name)
        latents = rng.normals(0, SAMPLES, 0, GRID, generator.latent_size)
        origin = provenance(ref, f"the generator of {named}", 0)
        write_png(made / "grid.png", grid(generated(generator, latents), 10), origin, zoom=2)
        write_json(made / "config.json", {"taken from": named, "generator weights": weights})
        write_model_card(
            made,
            f"GAN {ref.name}",
            f"An unconditional generator that was taken, not trained, here. {RESEARCH}",
            {"taken from": f"{named} ({source.fingerprint})", "generator weights": weights},
            ["Not evaluated by itself: see the report of the run."],
            f"--set generator=FOLDER, that of {named}",
            [name for name in ("grid.png", "losses.png") if (made / name).is_file()],
        )
    return ref


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
