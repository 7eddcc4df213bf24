"""Train the small CLIP."""

from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.model_card import write_model_card
from controlgen.config import ClipConfig
from controlgen.images import grid, write_png
from controlgen.stages.artifact_refs import (
    CLIP_LIMITS,
    GRID,
    STATE,
    WHAT_CLIP,
    artifact_ref,
    provenance,
)
from controlgen.training import clip
from controlgen.utils.array_files import load_tensors, save_tensors
from controlgen.utils.files import write_json
from controlgen.utils.progress import ProgressReporter, TqdmReporter


def train_clip(
    config: ClipConfig, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """Train CLIP on procedural captioned images only; a stopped training is resumed."""
    ref = artifact_ref("clip", config.name, config)
    if store.has(ref):
        return ref
    state = clip.ClipState(config)
    with store.create(ref, {}) as folder:
        if (folder / STATE).is_file():
            state.restore(load_tensors(folder / STATE))
        else:  # remains if training diverges before its first checkpoint
            save_tensors(folder / STATE, state.tensors())
        next_save = state.images_seen + config.checkpoint_images
        title, start = f"train {ref.name}", state.images_seen
        with (report or TqdmReporter()).start(title, config.images, start, "images") as meter:
            for step in clip.train_clip(config, config.world, state):
                meter.update_to(min(step.images_seen, config.images), f"loss {step.loss:.3f}")
                if step.images_seen >= next_save:
                    next_save += config.checkpoint_images
                    save_tensors(folder / STATE, state.tensors())

        # Written: the files that open_clip loads and examples of the training images.
        clip.export(state, folder)
        examples = config.world.draw(config.seed, 0, GRID)
        recipe = f"procedural {config.world.kind}"
        write_png(
            folder / "world.png", grid(examples.pixels, 10), provenance(ref, recipe, 0), zoom=2
        )
        write_json(folder / "config.json", config.to_dict())
        (folder / STATE).unlink(missing_ok=True)
        write_model_card(
            folder,
            f"Embedded CLIP {ref.name}",
            WHAT_CLIP,
            {
                "world": config.world.kind,
                "images seen": state.images_seen,
                "parameters": sum(p.numel() for p in state.model.parameters()),
                "feature size": config.embed_dim,
                "first captions of the world": "; ".join(examples.captions[:5]),
                "licence": "Apache-2.0",
            },
            CLIP_LIMITS,
            f"python -m flows.train_clip configs/{config.name}.toml",
            ["world.png"],
        )
    return ref
