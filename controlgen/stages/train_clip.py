"""Train the embedded CLIP."""

from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.model_card import write_model_card
from controlgen.config import ClipConfig
from controlgen.images import grid, write_png
from controlgen.stages.artifact_refs import CLIP_LIMITS, GRID, STATE, WHAT_CLIP, name_of, provenance
from controlgen.training import clip
from controlgen.utils.array_files import load_tensors, save_tensors
from controlgen.utils.files import write_json
from controlgen.utils.progress import ProgressReporter, TqdmReporter


def train_clip(
    config: ClipConfig, store: Store, report: ProgressReporter | None = None
) -> ArtifactRef:
    """Train the embedded CLIP on procedural captioned images only, resuming where it stopped."""
    ref = name_of("clip", config.name, config)
    if store.has(ref):
        return ref
    state = clip.ClipState(config)
    with store.create(ref, {}) as folder:
        if (folder / STATE).is_file():
            state.restore(load_tensors(folder / STATE))
        else:  # what is left should training diverge before its first checkpoint
            save_tensors(folder / STATE, state.tensors())
        next_save = state.images_seen + config.checkpoint_images
        title, seen = f"train {ref.name}", state.images_seen
        with (report or TqdmReporter()).meter(title, config.images, seen, "images") as meter:
            for step in clip.train_clip(config, config.world, state):
                meter.to(min(step.images_seen, config.images), f"loss {step.loss:.3f}")
                if step.images_seen >= next_save:
                    next_save += config.checkpoint_images
                    save_tensors(folder / STATE, state.tensors())

        # What is kept: what open_clip loads, and a look at the world it learned from.
        clip.export(state, folder)
        shown = config.world.draw(config.seed, 0, GRID)
        recipe = f"procedural {config.world.kind}"
        write_png(folder / "world.png", grid(shown.pixels, 10), provenance(ref, recipe, 0), zoom=2)
        write_json(folder / "config.json", config.effective())
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
                "first captions of the world": "; ".join(shown.captions[:5]),
                "licence": "Apache-2.0",
            },
            CLIP_LIMITS,
            f"python -m flows.train_clip configs/{config.name}.toml",
            ["world.png"],
        )
    return ref
