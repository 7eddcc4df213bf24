"""The stages of a run: (config, refs, store) -> ArtifactRef; existing artifacts are returned at
once.

An artifact's name ends with the fingerprint of its config, its parents and the stage's version: a
changed setting makes a new artifact, an unchanged one is never computed twice.
"""

from controlgen.stages.compare import TrainingAttempt, compare, train_member
from controlgen.stages.compare_spaces import compare_spaces
from controlgen.stages.evaluate import evaluate
from controlgen.stages.export import export_clip, export_comparison, export_encoder, export_model
from controlgen.stages.fit_map import fit_map
from controlgen.stages.preflight import preflight_evaluation, preflight_fit
from controlgen.stages.sample_bank import draw_samples, embed_images
from controlgen.stages.train_clip import train_clip
from controlgen.stages.train_encoder import train_encoder
from controlgen.stages.train_gan import train_all_phases, train_gan

__all__ = [
    "TrainingAttempt",
    "compare",
    "compare_spaces",
    "draw_samples",
    "embed_images",
    "evaluate",
    "export_clip",
    "export_comparison",
    "export_encoder",
    "export_model",
    "fit_map",
    "preflight_evaluation",
    "preflight_fit",
    "train_all_phases",
    "train_clip",
    "train_encoder",
    "train_gan",
    "train_member",
]
