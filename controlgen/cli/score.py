"""`controlgen score A B`: a model, a data set or a folder of images judged against another."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from controlgen._version import __version__
from controlgen.utils.files import write_json
from controlgen.cli.image_sources import Model, Source, Split, open_pair
from controlgen.errors import ConfigError, DataError
from controlgen.evaluation.class_scores import CLASSES, class_scores, shares_of
from controlgen.evaluation.scores import (
    LEAST,
    MEASURES,
    PATH_LENGTH,
    PATHS,
    Reference,
    Score,
    markdown,
    path_length_score,
)
from controlgen.features import (
    AnyFeatureSpace,
    EfficientNetLite0,
    InceptionV3,
    Lpips,
    OpenClip,
    SelfSupervised,
)
from controlgen.metrics.classifier import train_judge
from controlgen.metrics.perceptual import open_distance
from controlgen.types import Pixels
from controlgen.utils.files import ensure_writable_file
from controlgen.utils.progress import TqdmReporter

DRAWN = 1_000  # images a side, where there are as many and no number is asked for
EPOCHS = 3  # of the judge of classes
SIDE = 128  # pixels a side that EfficientNet looks at, unless others are asked for
SIZED = re.compile(r"(efficientnet-lite0|inception-v3)(?:-(\d{1,6}))?")


@dataclass(frozen=True)
class Request:
    """What was asked on the command line; `n` None means 1000, or as many as there are."""

    a: str
    b: str
    extractor: str
    weights: Path | None
    n: int | None
    seed: int
    metrics: str
    json: Path | None
    lpips: Lpips | None = None


def score(request: Request, find: Callable[[str], Path]) -> list[str]:
    """Score A against B; returns lines to be printed, and writes `json` last.

    `find` gives the folder of an artifact by its name. What can be refused is refused before
    anything is computed: raises ConfigError, DataError, Incompatible and what opening models, data
    and extractor raises.
    """
    measures = parse_metrics(request.metrics)
    settings = parse_extractor(request.extractor, request.weights)
    if request.json is not None:
        ensure_writable_file(request.json, "--json")
    a, b = open_pair(request.a, request.b, find)
    walked = a if PATH_LENGTH in measures and isinstance(a, Model) else None
    if request.metrics and PATH_LENGTH in measures and walked is None:
        raise ConfigError(f"--metrics {PATH_LENGTH}: {request.a} is no model; leave it out")
    shares = _shares(request.b, b) if CLASSES in measures else None
    name, space = settings.name, settings.open()
    perceptual = None if request.lpips is None else open_distance(request.lpips)
    n = _count(request, a, b)
    ours, real = a.images(n, request.seed), b.images(n, request.seed)
    other = b.others(n, request.seed)
    only = [one for one in measures if one in MEASURES] if request.metrics else None

    # The path comes after them and takes about a tenth; the judge comes last.
    scores: list[Score] = []
    with TqdmReporter().meter("score", 100, unit="%") as meter:
        if only is None or only:
            reference = Reference(real, other, space, name, request.seed, perceptual=perceptual)
            scores += reference.scores(ours, only, lambda what, done: meter.to(90 * done, what))
        if walked is not None:
            meter.to(90, PATH_LENGTH)
            steps = min(n, PATHS)
            scores.append(
                path_length_score(
                    walked.generate, walked.latent_size, request.seed, steps, perceptual
                )
            )
        if shares is not None and isinstance(b, Split):
            meter.to(95, "a judge learns")
            judge = train_judge(b.training, EPOCHS, request.seed)
            unseen = real if b.split == "test" else other
            scores += class_scores(judge, shares, ours, unseen, request.seed)
        meter.to(100, "done")
    lines = [
        f"{request.a} against {request.b}: {n} images a side, seed {request.seed}, seen by {name}",
        "",
        *markdown(scores),
        *_notes(request, ours, real, other),
    ]
    if request.json is not None:
        write_json(request.json, _record(request, name, space.fingerprint, n, scores))
        lines.append(f"written to {request.json}")
    return lines


def parse_metrics(text: str) -> list[str]:
    """Measures between commas, in their own order. Raises ConfigError.

    Of an empty text all but the classes, which take labels and a judge's minute.
    """
    known = (*MEASURES, PATH_LENGTH, CLASSES)
    asked = [part.strip() for part in text.split(",")] if text else known[:-1]
    for name in asked:
        if name not in known:
            raise ConfigError(f"--metrics {name}: unknown; choose from {', '.join(known)}")
    return [name for name in known if name in asked]


def parse_extractor(text: str, weights: Path | None = None) -> AnyFeatureSpace:
    """A space by kind and size, an encoder by folder or name, else a CLIP. Raises ConfigError."""
    where = f"--extractor {text}"
    sized = SIZED.fullmatch(text)
    if sized and sized[1] == "inception-v3":
        features = {"features": int(sized[2])} if sized[2] else {}
        return InceptionV3.parse({**features, "weights": weights}, where)
    if weights is not None:
        raise ConfigError(f"--weights {weights}: goes with --extractor inception-v3 only")
    if sized:
        return EfficientNetLite0.parse({"image_size": int(sized[2] or SIDE)}, where)
    if not text.strip():
        raise ConfigError("--extractor: is empty; name efficientnet-lite0, clip-mini, ...")
    encoder = SelfSupervised(path=Path(text))
    return encoder if encoder.folder() else OpenClip.parse({"model": text}, where)


def _shares(name: str, b: Source) -> NDArray[np.float64]:
    shares = shares_of(b.training) if isinstance(b, Split) else None
    if shares is None:
        raise ConfigError(
            f"--metrics {CLASSES}: {name} tells no classes; as B name a data set that does, as in "
            f"mnist:test, or leave {CLASSES} out"
        )
    return shares


def _count(request: Request, a: Source, b: Source) -> int:
    # As many as both sides have, B twice.
    there = {
        request.a: a.count(request.seed, two=False),
        f"{request.b} in two parts": b.count(request.seed, two=True),
    }
    for name, count in there.items():
        if count is not None and count < (request.n or LEAST):
            way = "--n asks for more" if count >= LEAST else f"a score needs {LEAST}"
            raise DataError(f"{name}: {count} images a side; {way}")
    return min(request.n or DRAWN, *(count for count in there.values() if count is not None))


def _notes(request: Request, ours: Pixels, real: Pixels, other: Pixels | None) -> list[str]:
    known = {image.tobytes() for image in real}
    same = sum(image.tobytes() in known for image in ours)
    lines = []
    if same:
        lines.append(f"{same} of {len(ours)} images of {request.a} are images of {request.b}.")
    if other is None:
        lines.append(
            f"No floor: all images of {request.b} are of one source, so no others of it are left."
        )
    return lines


def _record(
    request: Request, extractor: str, fingerprint: str, n: int, scores: Sequence[Score]
) -> dict[str, object]:
    return {
        "a": request.a,
        "b": request.b,
        "extractor": extractor,
        "extractor_fingerprint": fingerprint,
        "n": n,
        "seed": request.seed,
        "version": __version__,
        "scores": [one.effective() for one in scores],
    }
