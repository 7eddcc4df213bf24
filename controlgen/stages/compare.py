"""Train the same data, network and budget in several ways, and judge what each of them made."""

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
from controlgen.datasets import pinned
from controlgen.editing.checkpoint import load_generator
from controlgen.editing.editor import SAMPLES
from controlgen.errors import ConfigError, DataError, Diverged
from controlgen.evaluation.convergence import Evidence, Verdict, verdict
from controlgen.evaluation.objective_table import (
    Outcome,
    csv_of,
    notes_of,
    table_of,
    verdicts_of,
)
from controlgen.evaluation.scores import MEASURES, Reference, Score, path_length_score
from controlgen.features import ClassSpace, FeatureSpace
from controlgen.images import generated
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.perceptual import ImageDistance, open_distance
from controlgen.stages.artifact_refs import RESEARCH, VERSION, provenance
from controlgen.stages.train_gan import gan_of, train_gan
from controlgen.stages.training_monitor import read_evidence, signs_of
from controlgen.types import Latents, Pixels
from controlgen.utils.files import read_json, write_json, write_text
from controlgen.utils.progress import ProgressReporter, TqdmReporter

KIND = "comparison"
SHOWN = 14  # samples of each member in the picture
NO_COPIES = (
    "Duplicates of training images are not sought here, on purpose: they are a matter of one model "
    "before it is shipped (`controlgen score`, `evaluate.memorisation`), and an objective is not "
    "chosen by them. No score above says that a member copied nothing."
)


class Attempt(NamedTuple):
    """A training that was asked for: where its GAN is, or why there is none."""

    member: str
    seed: int
    gan: ArtifactRef
    failure: str | None = None
    diverged: bool = False


class Judges(NamedTuple):
    """What every member is judged with: real images of both splits, and a perceptual distance."""

    reference: Reference
    perceptual: ImageDistance


def train_member(
    config: CompareConfig,
    member: str,
    seed: int,
    store: Store,
    report: ProgressReporter | None = None,
) -> Attempt:
    """Train one member with one seed, or find it. What breaks there is told, and loses no other.

    A data set that cannot be read stops everything: it raises DataError. Any other error is the
    member's own, also one that nobody foresaw.
    """
    training = config.training(member, seed)
    name = f"{config.name}-{member}"
    ref = gan_of(name, training)
    try:
        return Attempt(member, seed, train_gan(name, training, store, report))
    except DataError:
        raise
    except Exception as error:
        return Attempt(member, seed, ref, _told(error), isinstance(error, Diverged))


def _told(error: Exception) -> str:
    # One line; a divergence tells itself what it is.
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, Diverged) else f"{type(error).__name__}: {first}"


def compare(
    config: CompareConfig,
    attempts: Sequence[Attempt],
    store: Store,
    report: ProgressReporter | None = None,
) -> ArtifactRef:
    """Score every GAN that was made, and write tables, curves, grids and verdicts side by side.

    A training that failed is a row of the tables; made good later, it makes another artifact. So
    is a GAN that cannot be scored, whose images are not numbers, say. Raises ConfigError where none
    could be begun or none scored, and DataError over the images. What another try may mend, a full
    disk or memory, rises as well: scores that were made are kept for it.
    """
    broken = [one.failure for one in attempts if one.failure and not one.diverged]
    if len(broken) == len(attempts):
        raise ConfigError(f"{config.name}: no member could be trained; the first said: {broken[0]}")
    marks = [f"{one.gan.name} {one.failure or ''}" for one in attempts]
    config = config.model_copy(update={"train": _pinned(config)})
    ref = ArtifactRef(KIND, f"{config.name}-{config.fingerprint(*marks, version=VERSION[KIND])}")
    if store.has(ref):
        return ref

    judges = _judges(config)
    parents = {f"{one.member} {one.seed}": one.gan for one in attempts if one.failure is None}
    with store.create(ref, parents) as folder:
        (folder / "scores").mkdir(exist_ok=True)
        outcomes = []
        with (report or TqdmReporter()).meter(
            f"score {ref.name}", len(attempts), unit="it"
        ) as meter:
            for done, attempt in enumerate(attempts, 1):
                outcomes.append(_outcome(config, attempt, judges, store, folder))
                meter.to(done, f"{attempt.member} {attempt.seed}")
        _refuse_unscored(config, attempts, outcomes)
        _write(config, attempts, outcomes, store, folder, ref)
        shutil.rmtree(folder / "scores")  # all of it is in report.json
    return ref


def _refuse_unscored(
    config: CompareConfig, attempts: Sequence[Attempt], outcomes: Sequence[Outcome]
) -> None:
    # Where not one GAN can be scored, the fault lies with the scoring: no report is made of it.
    trained = [
        outcome.failure
        for attempt, outcome in zip(attempts, outcomes, strict=True)
        if attempt.failure is None
    ]
    if trained and all(trained):
        raise ConfigError(f"{config.name}: no member could be scored; the first said: {trained[0]}")


def _pinned(config: CompareConfig) -> Any:
    return config.train.model_copy(update={"dataset": pinned(config.train.dataset)})


def _judges(config: CompareConfig) -> Judges:
    perceptual = open_distance(config.perceptual)
    real, other = (_drawn(config, split) for split in ("test", "train"))
    seen = (config.extractor.open(), config.extractor.name)
    return Judges(Reference(real, other, *seen, 0, config.bootstraps, perceptual), perceptual)


def _drawn(config: CompareConfig, split: Literal["test", "train"]) -> Pixels:
    data = config.train.dataset.judging(split).open()
    order = rng.stream(0, f"compared {split}").permutation(len(data))
    return data.pixels(np.sort(order[: config.n]))


def _outcome(
    config: CompareConfig, attempt: Attempt, judges: Judges, store: Store, folder: Path
) -> Outcome:
    # Scores are kept one run at a time, so that a stopped comparison goes on where it was.
    place = store.path(attempt.gan)
    if attempt.failure is not None:
        left = read_evidence(place.with_name(f"{place.name}.partial"))
        rows, judged = left or ([], None)
        return Outcome(attempt.member, attempt.seed, (), tuple(rows), judged, attempt.failure)
    evidence = read_evidence(place)
    assert evidence is not None  # the config asks for a watch
    seen, seconds = tuple(evidence[0]), read_manifest(place).seconds
    kept = folder / "scores" / f"{attempt.member}-{attempt.seed}.json"
    if not kept.is_file():
        gan = store.open(attempt.gan)
        try:
            write_json(kept, [one.effective() for one in _scores(config, gan, judges)])
        except (DataError, OSError, MemoryError):
            raise
        except Exception as error:
            told = f"could not be scored: {_told(error)}"
            return Outcome(attempt.member, attempt.seed, (), seen, None, told, seconds)
    return Outcome(
        attempt.member,
        attempt.seed,
        tuple(_score(one) for one in read_json(kept)),
        seen,
        _verdict(config, attempt, seen, place),
        None,
        seconds,
    )


def _verdict(
    config: CompareConfig, attempt: Attempt, seen: Sequence[Evidence], place: Path
) -> Verdict:
    # By the rules of today, for all alike.
    name, reasons = verdict(seen)
    signs = signs_of(config.training(attempt.member, attempt.seed), place)
    return Verdict(name, (*reasons, *signs))


def _scores(config: CompareConfig, gan: Path, judges: Judges) -> list[Score]:
    generator, _ = load_generator(gan)

    def images(latents: torch.Tensor | Latents) -> torch.Tensor:
        # As bytes, what is not a number would pass for black.
        with torch.no_grad():
            made: torch.Tensor = generator(torch.as_tensor(latents))
        if not made.isfinite().all():
            raise Diverged("the generator's images are not finite")
        return made

    n = len(judges.reference.real)
    latents = rng.normals(0, "compared samples", 0, n, generator.latent_size)
    only = _measures(judges.reference.extractor)
    found = judges.reference.scores(generated(images, latents), only)
    path = path_length_score(
        images, generator.latent_size, seed=0, n=config.paths, perceptual=judges.perceptual
    )
    return [*found, path]


def _measures(extractor: FeatureSpace) -> list[str]:
    # NO_COPIES says why; in eight poses they cost as many looks an image.
    left_out = {"copies"} if isinstance(extractor, ClassSpace) else {"copies", "inception-score"}
    return [one for one in MEASURES if one not in left_out]


def _score(values: dict[str, Any]) -> Score:
    value, floor = (
        None if one is None else Interval(**one) for one in (values["value"], values["floor"])
    )
    assert value is not None
    return Score(values["name"], value, floor, values["better"], values["note"])


def _write(
    config: CompareConfig,
    attempts: Sequence[Attempt],
    outcomes: Sequence[Outcome],
    store: Store,
    folder: Path,
    ref: ArtifactRef,
) -> None:
    write_json(folder / "config.json", config.effective())
    write_text(folder / "table1.md", table_of(outcomes) + "\n")
    write_text(folder / "table1.csv", csv_of(outcomes))
    write_json(folder / "report.json", {"outcomes": [_plain(one) for one in outcomes]})

    seeds = len(config.seeds)
    origin = provenance(ref, f"{seeds} trainings a member", config.seeds[0])
    curves = {
        member: [
            [asdict(moment) for moment in one.seen] for one in outcomes if one.member == member
        ]
        for member in config.members
    }
    figures.training_evidence(folder / "convergence.png", curves, origin)
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
                table_of(outcomes),
                *notes_of(outcomes),
                NO_COPIES,
                "## Verdicts",
                verdicts_of(outcomes),
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
    attempts: Sequence[Attempt], outcomes: Sequence[Outcome], store: Store
) -> dict[str, Pixels]:
    # The first scored run of each member, at the latents that every grid begins with.
    rows: dict[str, Pixels] = {}
    for one, outcome in zip(attempts, outcomes, strict=True):
        if outcome.failure is None and one.member not in rows:
            generator, _ = load_generator(store.path(one.gan))
            latents = rng.normals(0, SAMPLES, 0, SHOWN, generator.latent_size)
            rows[one.member] = generated(generator, latents)
    return rows


def _plain(one: Outcome) -> dict[str, Any]:
    return {
        "member": one.member,
        "seed": one.seed,
        "scores": [score.effective() for score in one.scores],
        "verdict": None if one.verdict is None else one.verdict._asdict(),
        "failure": one.failure,
        "seconds": one.seconds,
    }
