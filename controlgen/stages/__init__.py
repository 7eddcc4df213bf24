"""The stages of a run: (config, refs, store) -> Ref, at once where the artifact is there.

An artifact's name ends in the fingerprint of its config, its parents and the stage's version, so a
changed setting makes a new artifact and an unchanged one is never made twice.
"""

from controlgen.stages.compare import Attempt, compare, train_member
from controlgen.stages.compare_spaces import compare_spaces
from controlgen.stages.evaluate import evaluate
from controlgen.stages.export import ship, ship_clip, ship_comparison, ship_encoder
from controlgen.stages.fit_map import fit_map
from controlgen.stages.preflight import check_evaluation, check_fit
from controlgen.stages.sample_bank import draw_samples, embed_images
from controlgen.stages.train_clip import train_clip
from controlgen.stages.train_encoder import train_encoder
from controlgen.stages.train_gan import train_gan, train_run

__all__ = [
    "Attempt",
    "check_evaluation",
    "check_fit",
    "compare",
    "compare_spaces",
    "draw_samples",
    "embed_images",
    "evaluate",
    "fit_map",
    "ship",
    "ship_clip",
    "ship_comparison",
    "ship_encoder",
    "train_clip",
    "train_encoder",
    "train_gan",
    "train_member",
    "train_run",
]
