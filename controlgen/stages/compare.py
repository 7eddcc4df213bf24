"""Train in several ways on the same data, network and budget, and score the results."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from controlgen import figures, rng
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.model_card import write_model_card
from controlgen.artifacts.store import read_manifest
from controlgen.config import CompareConfig
from controlgen.datasets import with_content_hash
from controlgen.editing.checkpoint import load_generator
from controlgen.editing.generative_model import SAMPLES
from controlgen.errors import ConfigError, DataError, Diverged
from controlgen.evaluation.convergence import Observation, Verdict, classify_run
from controlgen.evaluation.objective_table import (
    RunOutcome,
    score_notes,
    scores_csv,
    scores_table,
    verdicts_table,
)
from controlgen.evaluation.scores import MEASURES, ReferenceSet, Score, path_length_score
from controlgen.features import ClassifierSpace, FeatureSpace
from controlgen.images import generate_pixels
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.perceptual import ImageDistance, open_distance
from controlgen.stages.artifact_refs import RESEARCH, VERSION, provenance
from controlgen.stages.train_gan import gan_ref, train_gan
from controlgen.stages.training_monitor import diagnostics_of, load_observations
from controlgen.types import Latents, Pixels
from controlgen.utils.files import read_json, write_json, write_text
from controlgen.utils.progress import ProgressReporter, TqdmReporter

KIND = "comparison"
N_SAMPLES_SHOWN = 14  # samples per member in the picture
NO_COPIES = (
    "Duplicates of training images are not sought here, on purpose: they are a matter of one model "
    "before it is shipped (`controlgen score`, `evaluate.memorisation`), and an objective is not "
    "chosen by them. No score above says that a member copied nothing."
)


class TrainingAttempt(NamedTuple):
    """A requested training: its GAN, or the reason why there is none."""

    member: str
    seed: int
    gan: ArtifactRef
    failure: str | None = None
    diverged: bool = False


class ScoringContext(NamedTuple):
    """What all members are scored with: real images of both splits and a perceptual distance."""

    reference: ReferenceSet
    perceptual: ImageDistance


def train_member(
    config: CompareConfig,
    member: str,
    seed: int,
    store: Store,
    report: ProgressReporter | None = None,
) -> TrainingAttempt:
    """Train one member with one seed, or reuse its GAN. A failure is recorded and does not stop
    others.

    Raises DataError if the data set cannot be read; every other error is recorded as the member's.
    """
    training = config.training(member, seed)
    name = f"{config.name}-{member}"
    ref = gan_ref(name, training)
    try:
        return TrainingAttempt(member, seed, train_gan(name, training, store, report))
    except DataError:
        raise
    except Exception as error:
        return TrainingAttempt(
            member, seed, ref, describe_error(error), isinstance(error, Diverged)
        )


def describe_error(error: Exception) -> str:
    # A single line; the name of a divergence is its message.
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, Diverged) else f"{type(error).__name__}: {first}"


def compare(
    config: CompareConfig,
    attempts: Sequence[TrainingAttempt],
    store: Store,
    report: ProgressReporter | None = None,
) -> ArtifactRef:
    """Score every GAN and write tables, curves, grids and verdicts.

    A failed training, or a GAN that cannot be scored (e.g. non-finite images), is a row of the
    tables; repeated with success it makes a new artifact. Raises ConfigError if no training started
    or no GAN could be scored, and DataError for the images. Full disks and exhausted memory are
    raised as well; finished scores are kept.
    """
    broken = [
        finished.failure for finished in attempts if finished.failure and not finished.diverged
    ]
    if len(broken) == len(attempts):
        raise ConfigError(f"{config.name}: no member could be trained; the first said: {broken[0]}")
    marks = [f"{finished.gan.name} {finished.failure or ''}" for finished in attempts]
    config = config.model_copy(update={"train": _pinned(config)})
    ref = ArtifactRef(KIND, f"{config.name}-{config.fingerprint(*marks, version=VERSION[KIND])}")
    if store.has(ref):
        return ref

    judges = _judges(config)
    parents = {
        f"{finished.member} {finished.seed}": finished.gan
        for finished in attempts
        if finished.failure is None
    }
    with store.create(ref, parents) as folder:
        (folder / "scores").mkdir(exist_ok=True)
        outcomes = []
        with (report or TqdmReporter()).start(
            f"score {ref.name}", len(attempts), unit="it"
        ) as meter:
            for done, attempt in enumerate(attempts, 1):
                outcomes.append(_outcome(config, attempt, judges, store, folder))
                meter.update_to(done, f"{attempt.member} {attempt.seed}")
        _refuse_unscored(config, attempts, outcomes)
        _write(config, attempts, outcomes, store, folder, ref)
        shutil.rmtree(folder / "scores")  # report.json holds the full message
    return ref


def _refuse_unscored(
    config: CompareConfig, attempts: Sequence[TrainingAttempt], outcomes: Sequence[RunOutcome]
) -> None:
    # If no GAN can be scored, the scoring itself is at fault: no report is written.
    trained = [
        outcome.failure
        for attempt, outcome in zip(attempts, outcomes, strict=True)
        if attempt.failure is None
    ]
    if trained and all(trained):
        raise ConfigError(f"{config.name}: no member could be scored; the first said: {trained[0]}")


def _pinned(config: CompareConfig) -> Any:
    return config.train.model_copy(update={"dataset": with_content_hash(config.train.dataset)})


def _judges(config: CompareConfig) -> ScoringContext:
    perceptual = open_distance(config.perceptual)
    real, other = (_draw_images(config, split) for split in ("test", "train"))
    extractor = (config.extractor.open(), config.extractor.name)
    return ScoringContext(
        ReferenceSet(real, other, *extractor, 0, config.bootstraps, perceptual), perceptual
    )


def _draw_images(config: CompareConfig, split: Literal["test", "train"]) -> Pixels:
    data = config.train.dataset.with_split(split).open()
    order = rng.stream(0, f"compared {split}").permutation(len(data))
    return data.pixels(np.sort(order[: config.n]))


def _outcome(
    config: CompareConfig,
    attempt: TrainingAttempt,
    judges: ScoringContext,
    store: Store,
    folder: Path,
) -> RunOutcome:
    # Scores are saved per run, so that a stopped comparison continues.
    place = store.path(attempt.gan)
    if attempt.failure is not None:
        left = load_observations(place.with_name(f"{place.name}.partial"))
        rows, judged = left or ([], None)
        return RunOutcome(attempt.member, attempt.seed, (), tuple(rows), judged, attempt.failure)
    evidence = load_observations(place)
    assert evidence is not None  # the config requires train.watch
    observations, seconds = tuple(evidence[0]), read_manifest(place).seconds
    scores_path = folder / "scores" / f"{attempt.member}-{attempt.seed}.json"
    if not scores_path.is_file():
        gan = store.open(attempt.gan)
        try:
            write_json(scores_path, [score.to_dict() for score in _scores(config, gan, judges)])
        except (DataError, OSError, MemoryError):
            raise
        except Exception as error:
            failure = f"could not be scored: {describe_error(error)}"
            return RunOutcome(
                attempt.member, attempt.seed, (), observations, None, failure, seconds
            )
    return RunOutcome(
        attempt.member,
        attempt.seed,
        tuple(_score(score) for score in read_json(scores_path)),
        observations,
        _verdict(config, attempt, observations, place),
        None,
        seconds,
    )


def _verdict(
    config: CompareConfig,
    attempt: TrainingAttempt,
    observations: Sequence[Observation],
    place: Path,
) -> Verdict:
    # All runs are judged by the current rules.
    name, reasons = classify_run(observations)
    signs = diagnostics_of(config.training(attempt.member, attempt.seed), place)
    return Verdict(name, (*reasons, *signs))


def _scores(config: CompareConfig, gan: Path, judges: ScoringContext) -> list[Score]:
    generator, _ = load_generator(gan)

    def images(latents: torch.Tensor | Latents) -> torch.Tensor:
        # Converted to bytes, NaN would look black.
        with torch.no_grad():
            generated: torch.Tensor = generator(torch.as_tensor(latents))
        if not generated.isfinite().all():
            raise Diverged("the generator's images are not finite")
        return generated

    n = len(judges.reference.real)
    latents = rng.normals(0, "compared samples", 0, n, generator.latent_size)
    only = _measures(judges.reference.extractor)
    scores = judges.reference.scores(generate_pixels(images, latents), only)
    path = path_length_score(
        images, generator.latent_size, seed=0, n=config.paths, perceptual=judges.perceptual
    )
    return [*scores, path]


def _measures(extractor: FeatureSpace) -> list[str]:
    # See NO_COPIES: eight poses cost eight embeddings per image.
    left_out = (
        {"copies"} if isinstance(extractor, ClassifierSpace) else {"copies", "inception-score"}
    )
    return [measure for measure in MEASURES if measure not in left_out]


def _score(values: dict[str, Any]) -> Score:
    value, floor = (
        None if interval is None else Interval(**interval)
        for interval in (values["value"], values["floor"])
    )
    assert value is not None
    return Score(values["name"], value, floor, values["better"], values["note"])


def _write(
    config: CompareConfig,
    attempts: Sequence[TrainingAttempt],
    outcomes: Sequence[RunOutcome],
    store: Store,
    folder: Path,
    ref: ArtifactRef,
) -> None:
    write_json(folder / "config.json", config.to_dict())
    write_text(folder / "table1.md", scores_table(outcomes) + "\n")
    write_text(folder / "table1.csv", scores_csv(outcomes))
    write_json(folder / "report.json", {"outcomes": [_plain(outcome) for outcome in outcomes]})

    seeds = len(config.seeds)
    origin = provenance(ref, f"{seeds} trainings a member", config.seeds[0])
    curves = {
        member: [
            [asdict(moment) for moment in outcome.observations]
            for outcome in outcomes
            if outcome.member == member
        ]
        for member in config.members
    }
    figures.training_diagnostics(folder / "convergence.png", curves, origin)
    pictures = {"convergence.png": "Evidence while training, one line a run"}
    if rows := _samples(attempts, outcomes, store):
        figures.inversion_strips(folder / "samples.png", rows, origin, "the same latents a column")
        pictures = {"samples.png": "Samples, first seed that was finished"} | pictures

    shared = config.train
    write_text(
        folder / "report.md",
        "\n\n".join(
            [
                f"# Objectives compared: {ref.name}",
                f"{config.about or shared.dataset.kind}. {config.budget}. The same "
                f"{shared.network.kind} network, {seeds} seeds; "
                f"{config.n} samples at most against as many real test images. In brackets "
                "Student's 95 % interval over seeds; table1.csv has every run with the bootstrap "
                "interval over its images. Real images: training against test images, at the same "
                "n. Compare equal n only.",
                scores_table(outcomes),
                *score_notes(outcomes),
                NO_COPIES,
                "## Verdicts",
                verdicts_table(outcomes),
                *(f"![{title}]({name})" for name, title in pictures.items()),
            ]
        )
        + "\n",
    )
    write_model_card(
        folder,
        f"Comparison {ref.name}",
        f"Objectives on the same data, network and budget. {RESEARCH}",
        {
            "data": config.about or shared.dataset.kind,
            "members": ", ".join(config.members),
            "seeds": ", ".join(map(str, config.seeds)),
            "real images shown to each critic": f"{shared.total_images:,}",
            "failed": ", ".join(f"{a.member} {a.seed}" for a in outcomes if a.failure) or "none",
        },
        [
            "A budget this small ranks how fast objectives learn here, not how far they get.",
            "Settings other than the objective suit some members better than others.",
        ],
        f"python -m flows.compare CONFIG  # the config.json here, named {config.name}",
        list(pictures),
    )


def _samples(
    attempts: Sequence[TrainingAttempt], outcomes: Sequence[RunOutcome], store: Store
) -> dict[str, Pixels]:
    # The first scored run of each member, at the same latents as every grid.
    rows: dict[str, Pixels] = {}
    for attempt, outcome in zip(attempts, outcomes, strict=True):
        if outcome.failure is None and attempt.member not in rows:
            generator, _ = load_generator(store.path(attempt.gan))
            latents = rng.normals(0, SAMPLES, 0, N_SAMPLES_SHOWN, generator.latent_size)
            rows[attempt.member] = generate_pixels(generator, latents)
    return rows


def _plain(outcome: RunOutcome) -> dict[str, Any]:
    return {
        "member": outcome.member,
        "seed": outcome.seed,
        "scores": [score.to_dict() for score in outcome.scores],
        "verdict": None if outcome.verdict is None else outcome.verdict._asdict(),
        "failure": outcome.failure,
        "seconds": outcome.seconds,
    }
