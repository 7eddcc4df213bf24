"""`controlgen score A B`: compare a model, a data set or a folder of images with another."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen._version import __version__
from controlgen.cli.image_sources import (
    DatasetSource,
    GeneratorSource,
    ImageSource,
    open_image_sources,
)
from controlgen.errors import ConfigError, DataError
from controlgen.evaluation.class_scores import CLASSES, class_scores, class_shares
from controlgen.evaluation.scores import (
    MEASURES,
    MIN_IMAGES,
    PATH_LENGTH,
    PATH_STEPS,
    ReferenceSet,
    Score,
    path_length_score,
    scores_markdown,
)
from controlgen.features import (
    AnyFeatureSpace,
    EfficientNetLite0Config,
    InceptionV3Config,
    LpipsConfig,
    OpenClipConfig,
    SelfSupervisedConfig,
)
from controlgen.metrics.classifier import train_judge
from controlgen.metrics.perceptual import open_distance
from controlgen.types import Pixels
from controlgen.utils.files import ensure_writable_file, write_json
from controlgen.utils.progress import TqdmReporter

DEFAULT_IMAGES = 1_000  # of each side, or fewer where a side has fewer
CLASSIFIER_EPOCHS = 3
DEFAULT_IMAGE_SIZE = 128  # of EfficientNet inputs
SIZED_EXTRACTOR = re.compile(r"(efficientnet-lite0|inception-v3)(?:-(\d{1,6}))?")


def run_score(
    a_name: str,
    b_name: str,
    find: Callable[[str], Path],
    extractor: str,
    weights: Path | None,
    n: int | None,
    seed: int,
    metrics: str,
    lpips: LpipsConfig | None,
    json: Path | None,
) -> list[str]:
    """Score A against B; return lines to print, and write `json` last.

    `find` resolves the name of an artifact to its folder. All options are validated before anything
    is computed: raises ConfigError, DataError, Incompatible and the errors of loading models, data
    and the extractor.
    """
    measures = parse_metrics(metrics)
    space_config = parse_extractor(extractor, weights)
    if json is not None:
        ensure_writable_file(json, "--json")
    a, b = open_image_sources(a_name, b_name, find)
    generator = _path_generator(a_name, a, measures, required=bool(metrics))
    shares = _class_shares(b_name, b) if CLASSES in measures else None
    name, space = space_config.name, space_config.open()
    perceptual = None if lpips is None else open_distance(lpips)
    available = {a_name: a.available(seed, halves=False)}
    available[f"{b_name} in two parts"] = b.available(seed, halves=True)
    n = _image_count(available, n)
    images, reference = a.draw(n, seed), b.draw(n, seed)
    held_out = b.held_out_images(n, seed)
    selected = [measure for measure in measures if measure in MEASURES] if metrics else None

    # Path length takes about a tenth of the time; the classifier comes last.
    scores: list[Score] = []
    with TqdmReporter().start("score", 100, unit="%") as progress:
        if selected is None or selected:
            references = ReferenceSet(reference, held_out, space, name, seed, perceptual=perceptual)
            scores += references.scores(
                images, selected, lambda label, done: progress.update_to(90 * done, label)
            )
        if generator is not None:
            progress.update_to(90, PATH_LENGTH)
            steps = min(n, PATH_STEPS)
            size = generator.latent_size
            scores.append(path_length_score(generator.generate, size, seed, steps, perceptual))
        if shares is not None and isinstance(b, DatasetSource):
            progress.update_to(95, "training a classifier")
            judge = train_judge(b.training, CLASSIFIER_EPOCHS, seed)
            unseen = reference if b.split == "test" else held_out
            scores += class_scores(judge, shares, images, unseen, seed)
        progress.update_to(100, "done")
    lines = [
        f"{a_name} against {b_name}: {n} images a side, seed {seed}, features of {name}",
        "",
        *scores_markdown(scores),
        *_notes(a_name, b_name, images, reference, held_out),
    ]
    if json is not None:
        sides = {"a": a_name, "b": b_name}
        features = {"extractor": name, "extractor_fingerprint": space.fingerprint}
        write_json(json, {**sides, **features, "n": n, "seed": seed, **_to_json(scores)})
        lines.append(f"written to {json}")
    return lines


def _path_generator(
    name: str, source: ImageSource, measures: Sequence[str], required: bool
) -> GeneratorSource | None:
    # The generator that path length is measured on, if it is measured.
    if PATH_LENGTH not in measures:
        return None
    if isinstance(source, GeneratorSource):
        return source
    if required:
        raise ConfigError(f"--metrics {PATH_LENGTH}: {name} is not a model; leave it out")
    return None


def _to_json(scores: Sequence[Score]) -> dict[str, Any]:
    return {"version": __version__, "scores": [score.to_dict() for score in scores]}


def parse_metrics(text: str) -> list[str]:
    """Measures between commas, in canonical order. Raises ConfigError.

    An empty text selects all but the class scores, which need labels and a minute of training.
    """
    available = (*MEASURES, PATH_LENGTH, CLASSES)
    selected = [part.strip() for part in text.split(",")] if text else available[:-1]
    for name in selected:
        if name not in available:
            raise ConfigError(f"--metrics {name}: unknown; choose from {', '.join(available)}")
    return [name for name in available if name in selected]


def parse_extractor(text: str, weights: Path | None = None) -> AnyFeatureSpace:
    """A space by kind and size, an encoder by folder or name, or a CLIP. Raises ConfigError."""
    where = f"--extractor {text}"
    sized = SIZED_EXTRACTOR.fullmatch(text)
    if sized and sized[1] == "inception-v3":
        features = {"features": int(sized[2])} if sized[2] else {}
        return InceptionV3Config.parse({**features, "weights": weights}, where)
    if weights is not None:
        raise ConfigError(f"--weights {weights}: requires --extractor inception-v3")
    if sized:
        return EfficientNetLite0Config.parse(
            {"image_size": int(sized[2] or DEFAULT_IMAGE_SIZE)}, where
        )
    if not text.strip():
        raise ConfigError("--extractor: is empty; name efficientnet-lite0, clip-mini, ...")
    encoder = SelfSupervisedConfig(path=Path(text))
    return encoder if encoder.folder() else OpenClipConfig.parse({"model": text}, where)


def _class_shares(name: str, source: ImageSource) -> NDArray[np.float64]:
    shares = class_shares(source.training) if isinstance(source, DatasetSource) else None
    if shares is None:
        raise ConfigError(
            f"--metrics {CLASSES}: {name} has no class labels; as B name a data set that has them, "
            f"as in mnist:test, or leave {CLASSES} out"
        )
    return shares


def _image_count(available: Mapping[str, int | None], n: int | None) -> int:
    # As many as both sides have; None means unlimited.
    for name, count in available.items():
        if count is not None and count < (n or MIN_IMAGES):
            reason = "--n asks for more" if count >= MIN_IMAGES else f"a score needs {MIN_IMAGES}"
            raise DataError(f"{name}: {count} images a side; {reason}")
    return min(n or DEFAULT_IMAGES, *(count for count in available.values() if count is not None))


def _notes(
    a_name: str, b_name: str, images: Pixels, reference: Pixels, held_out: Pixels | None
) -> list[str]:
    contents = {image.tobytes() for image in reference}
    shared = sum(image.tobytes() in contents for image in images)
    lines = []
    if shared:
        lines.append(f"{shared} of {len(images)} images of {a_name} are images of {b_name}.")
    if held_out is None:
        lines.append(f"No floor: all images of {b_name} are of one source, so none are held out.")
    return lines
