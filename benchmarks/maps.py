"""Every rung of the ladder of maps, fitted on the same pairs and tried on the same targets.

python benchmarks/maps.py [MAP_FOLDER] [--bank BANK --features FEATURES] [--n 500] [--seeds 0 1 2]

Generator and feature space are those of MAP_FOLDER, the shipped MNIST model unless another is
named. The pairs are a bank and its features, the last --held-out of which are targets; without a
bank --pairs of them are drawn. Prints a markdown table, one row a map and seed. Fit is in processor
seconds of all threads, p95 is feature to image one at a time. f2 is the audit space, which no map
was taught with. The last columns are of k answers to each target in the order of their draws, not
ranked (retrieval's are the k nearest of the bank; those of maps that give one are its own moved by
what it leaves out of others, the best k of 4 k tried): the mean distance of two of them in f2,
their mean f2 cosine with the target, and how much less that is than what cycle-mlp's one answer
has.
--share 0.1 takes a tenth of the steps of every fit.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from controlgen import Editor
from controlgen.artifacts.bank import SampleBank
from controlgen.editing.candidates import sample_latents
from controlgen.evaluation.markdown import markdown_table
from controlgen.features import EfficientNetLite0Config
from controlgen.metrics.diversity import euclidean, group_diversity
from controlgen.metrics.inversion import latent_r2, paired_cosine, recall_at_1, relative_latent_norm
from controlgen.regressors import (
    CycleMLPConfig,
    FlowConfig,
    Regressor,
    RetrievalConfig,
    RetrievalRegressor,
    RidgeConfig,
    SupportsSampling,
)
from controlgen.stages.fit_map import FrozenRoundTrip

ROOT = Path(__file__).parents[1]
LADDER = {
    "retrieval": RetrievalConfig(),
    "ridge": RidgeConfig(),
    "least squares": CycleMLPConfig(cycle_steps=0),
    "cycle-mlp": CycleMLPConfig(),
    "flow": FlowConfig(),
}
HEAD = [
    *("map", "seed", "fit s", "p95 ms", "cosine f1", "R@1", "cosine f2", "latent R2"),
    *("norm of z / sqrt(size)", "diversity of k", "cosine f2 of k", "loss"),
]
SINGLES = 50  # edits timed one at a time


def pairs_of(asked: argparse.Namespace, editor: Editor) -> SampleBank:
    """The bank named, or one drawn."""
    if asked.bank:
        return SampleBank.open(asked.bank, asked.features, asked.held_out)
    samples = editor.sample(asked.pairs, seed=1)
    return SampleBank(*samples, editor.embed(samples.pixels), asked.held_out)


def quicker(settings, share: float):
    """The same settings with that share of every phase's steps."""
    fewer = {
        name: round(getattr(settings, name) * share)
        for name in type(settings).model_fields
        if name.endswith("_steps") and name != "sampler_steps"
    }
    return settings.model_copy(update=fewer)


class Trial:
    """Held-out targets, and what maps are judged by on them."""

    def __init__(self, editor: Editor, bank: SampleBank, n: int, k: int) -> None:
        part = slice(bank.held_out.start, min(bank.held_out.stop, bank.held_out.start + n))
        self.editor, self.k = editor, k
        self.latents, pixels, self.asked = (
            np.array(rows[part]) for rows in (bank.latents, bank.pixels, bank.features)
        )
        self.audit = EfficientNetLite0Config().open()
        self.audit_asked = self.audit.embed(pixels)

    def of(self, fitted: Regressor, seed: int) -> list[float]:
        """The columns from p95 to the f2 cosine of the k answers."""
        taken = []
        for i in range(SINGLES + 1):
            began = time.perf_counter()
            single = self.asked[i % len(self.asked)][None]
            self.editor.generate(np.asarray(fitted.predict(single), np.float32))
            taken.append(1000 * (time.perf_counter() - began))
        latents = np.asarray(fitted.predict(self.asked), np.float32)
        pixels = self.editor.generate(latents)
        obtained = self.editor.embed(pixels)
        return [
            float(np.percentile(taken[1:], 95)),
            paired_cosine(self.asked, obtained).mean(),
            recall_at_1(self.asked, obtained).mean(),
            paired_cosine(self.audit_asked, self.audit.embed(pixels)).mean(),
            latent_r2(self.latents, latents),
            relative_latent_norm(latents).mean(),
            *self.many(fitted, seed),
        ]

    def many(self, fitted: Regressor, seed: int) -> tuple[float, float]:
        """Diversity of the k answers in f2, and their mean f2 cosine with the target."""
        if isinstance(fitted, RetrievalRegressor):
            # The floor for many answers: the k nearest of the bank.
            order = np.argsort(-(self.asked @ fitted.features_.T), axis=1)[:, : self.k]
            latents = np.asarray(fitted.latents_[order], np.float32)
        elif isinstance(fitted, SupportsSampling):
            latents = sample_latents(fitted, self.asked, self.k, seed)
        else:
            seen_with = (self.editor.statistics, self.editor.image_shape)
            result = Editor(self.editor.generator, self.editor.space, fitted, *seen_with)
            latents = result.candidates(self.asked, self.k, seed).latents
        recorded = self.audit.embed(self.editor.generate(latents.reshape(-1, latents.shape[2])))
        groups = np.repeat(np.arange(len(self.asked)), self.k)
        spread = group_diversity(recorded, groups, euclidean, seed).mean
        return spread, paired_cosine(self.audit_asked[groups], recorded).mean()


def main() -> None:
    """Fit, try and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("map", nargs="?", default=ROOT / "artifacts" / "pretrained" / "mnist")
    parser.add_argument("--bank", type=Path, help="artifact folder; with --features")
    parser.add_argument("--features", type=Path)
    parser.add_argument("--pairs", type=int, default=50_000, help="drawn where no bank is named")
    parser.add_argument("--held-out", type=int, default=2_000, help="pairs never fitted on")
    parser.add_argument("--n", type=int, default=500, help="targets, of those held out")
    parser.add_argument("--k", type=int, default=8, help="answers to each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the steps of every fit")
    parser.add_argument("--maps", nargs="+", choices=LADDER, default=list(LADDER))
    parser.add_argument("-o", "--output", type=Path, help="folder for maps.md")
    asked = parser.parse_args()
    if bool(asked.bank) != bool(asked.features):
        parser.error("--bank and --features belong together")
    editor = Editor.load(asked.map)
    bank = pairs_of(asked, editor)
    features, latents = (np.array(rows[bank.train]) for rows in (bank.features, bank.latents))
    trial = Trial(editor, bank, asked.n, asked.k)
    rows: dict[tuple[str, int], list[float]] = {}
    for seed in asked.seeds:
        for name in asked.maps:
            fitted = quicker(LADDER[name], asked.share).build(seed)
            began = time.process_time()
            fitted.fit(features, latents, FrozenRoundTrip(editor.generator, editor.space))
            rows[name, seed] = [time.process_time() - began, *trial.of(fitted, seed)]
    lines = []
    for (name, seed), numbers in rows.items():
        single = rows.get(("cycle-mlp", seed))
        loss = 1 - numbers[-1] / single[4] if single else np.nan
        displayed = [f"{number:.3f}" for number in (*numbers, loss)]
        lines.append([name, str(seed), *("-" if text == "nan" else text for text in displayed)])
    steps = f"{asked.share:g} of the usual steps"
    text = (
        f"{len(features):,} pairs, {len(trial.asked)} targets, k = {asked.k}, {steps}\n\n"
        f"{markdown_table(HEAD, lines)}\n"
    )
    print(text)
    if asked.output:
        (asked.output / "maps.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
