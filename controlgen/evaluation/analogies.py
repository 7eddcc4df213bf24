"""Analogies c + (a - b): are they correct, reversible and independent of the order of changes?

By the judge, a and b are of one class and c of another. The answer should be of c's class, with
measured attributes changed as a's differ from b's. Subtracting the change from the answer should
return c, and two changes should commute, each applied to the image of the other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen import figures
from controlgen.editing import feature_math
from controlgen.evaluation.context import MIN_CONFIDENCE, EvaluationContext
from controlgen.evaluation.goals import Goal
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.evaluation.sliders import AttributesLike
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.inversion import paired_cosine, weighted_correlation
from controlgen.rng import stream
from controlgen.types import Features, Indices, Latents, Pixels

Floats = NDArray[np.float64]
MAX_ANALOGIES = 256
MIN_IMAGES = 20  # held-out images
STRIP_IMAGES = 8
FIGURE_FILE = "analogies.png"


class _Images(NamedTuple):
    """Latents (n z), features (n d) and pixels (n c h w) of images that a change is applied to."""

    latents: Latents
    features: Features
    pixels: Pixels


class _Change(NamedTuple):
    """a - b in features (n d) and in latents (n z)."""

    features: Features
    latents: Latents


AnalogyMethod = Callable[[_Images, _Change], Latents]


@dataclass(frozen=True)
class AnalogyRow:
    """Results of one method. `class_kept`: share of answers that the judge assigns to c's class.

    `attributes` holds for each measured attribute the correlation of the requested change (a - b)
    with the achieved one (answer - c), `agreement` their mean. `back` is the audit cosine of c with
    the answer after the change is subtracted again, `order` that of the two answers to the same two
    changes in either order.
    """

    method: str
    class_kept: Interval | None = field(metadata={"json": "kept"})
    agreement: Interval | None
    attributes: dict[str, Interval]
    back: Interval
    order: Interval


@dataclass(frozen=True)
class AnalogyResults:
    """One row per method; `unrelated` is the audit cosine of c with another c."""

    n: int
    names: list[str]
    rows: list[AnalogyRow]
    unrelated: Interval
    strips: dict[str, Pixels] = field(repr=False)

    def goals(self) -> list[Goal]:
        """The protocol sets no goal for analogies."""
        return []

    def markdown(self) -> list[str]:
        """Return the section of the report."""
        judged = self.rows[0].class_kept is not None
        head = ["method", *(["class of c kept"] if judged else [])]
        head += ["attributes, mean", *self.names] if self.names else []
        rows = [
            [
                row.method,
                *([format_interval(row.class_kept)] if judged else []),
                *([format_interval(row.agreement)] if self.names else []),
                *(format_interval(row.attributes[name], 2) for name in self.names),
                format_interval(row.back),
                format_interval(row.order),
            ]
            for row in self.rows
        ]
        classes = ", a and b of one class and c of another by the judge" if judged else ""
        attributes = ""
        if self.names:
            attributes = (
                "Attributes: correlation of the requested change (a - b) with the achieved change "
                "(answer - c). "
            )
        return [
            "## Analogies: c + (a - b)",
            f"{self.n} triples of held-out generated images{classes}. {attributes}There and back: "
            "audit cosine of c with the answer after the change is subtracted again. Either order: "
            "audit cosine of the two answers to two changes. Another c has "
            f"{format_interval(self.unrelated)}. Intervals are over c.",
            markdown_table([*head, "there and back", "either order"], rows),
            f"![Above a, b and c, below them the answers]({FIGURE_FILE})",
        ]

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write analogies.png."""
        title = "c + (a - b): one column per triple"
        figures.inversion_strips(folder / FIGURE_FILE, self.strips, provenance, title)


def evaluate_analogies(context: EvaluationContext) -> AnalogyResults | None:
    """Evaluate c + (a - b) of held-out images by class and measured attributes.

    None with fewer than 20 images, or without both a judge and attributes. Without a judge the
    triples are of any classes.
    """
    model: AttributesLike | None = getattr(context.editor, "attributes", None)
    latents, pixels, features = context.held_out_items(len(context.bank.latents))
    images = _Images(latents, features, pixels)
    if len(images.latents) < MIN_IMAGES or (model is None and context.judge is None):
        return None
    triples = _draw_triples(context, images.pixels)
    if triples is None:
        return None
    run = _AnalogyRun(context, model, images, triples)
    results = {name: run.evaluate(name, method) for name, method in _methods(context).items()}
    others = np.roll(run.audit, 1, axis=0)
    strips = {
        name: images.pixels[indices[:STRIP_IMAGES]]
        for name, indices in zip("abc", triples[:3], strict=True)
    }
    return AnalogyResults(
        n=len(triples.c),
        names=list(model.names) if model else [],
        rows=[row for row, _ in results.values()],
        unrelated=context.mean_interval(paired_cosine(run.audit, others), triples.c),
        strips=strips | {name: answers[:STRIP_IMAGES] for name, (_, answers) in results.items()},
    )


class _Triples(NamedTuple):
    """Indices of a, b and c, and the classes of c where there is a judge."""

    a: Indices
    b: Indices
    c: Indices
    classes: Indices | None


def _draw_triples(context: EvaluationContext, pixels: Pixels) -> _Triples | None:
    # a and b differ, and c repeats as rarely as possible.
    n = min(MAX_ANALOGIES, context.config.inversions)
    draws = stream(context.config.seed, "analogies")
    if context.judge is None:
        a, b, c = draws.permuted(np.tile(np.arange(len(pixels)), (n, 1)), axis=1)[:, :3].T
        return _Triples(a, b, c, None)
    probabilities = context.judge_probabilities(pixels)
    labels, confident = probabilities.argmax(1), probabilities.max(1) > MIN_CONFIDENCE
    pools = [np.flatnonzero((labels == k) & confident) for k in range(probabilities.shape[1])]
    pools = [draws.permutation(pool) for pool in pools]
    with_pairs = [k for k, pool in enumerate(pools) if len(pool) > 1]
    for_c = [k for k, pool in enumerate(pools) if len(pool) and set(with_pairs) - {k}]
    if not for_c:
        return None
    rows = []
    for index in range(n):
        label = for_c[index % len(for_c)]
        others = [k for k in with_pairs if k != label]
        a, b = draws.choice(pools[others[draws.integers(len(others))]], 2, replace=False)
        c = pools[label][index // len(for_c) % len(pools[label])]
        rows.append((a, b, c, label))
    return _Triples(*np.array(rows, np.int64).T)


def _methods(context: EvaluationContext) -> dict[str, AnalogyMethod]:
    map_name = context.map_name

    def add(name: str, images: _Images, change: Features) -> Latents:
        return context.predict(name, feature_math.add_direction(images.features, change))

    def residual(images: _Images, change: _Change) -> Latents:
        edited = add(map_name, images, change.features)
        unedited = context.predict(map_name, images.features)
        return np.asarray(images.latents + edited - unedited, np.float32)

    return {
        "feature arithmetic": lambda images, change: add(map_name, images, change.features),
        "residual edit": residual,
        "latent arithmetic": lambda images, change: np.asarray(
            images.latents + change.latents, np.float32
        ),
        "retrieval": lambda images, change: add("retrieval", images, change.features),
        "another pair's change": lambda images, change: add(
            map_name, images, np.roll(change.features, 1, axis=0)
        ),
        "nothing added": lambda images, _: context.predict(map_name, images.features),
    }


class _AnalogyRun:
    """The triples with their changes, applied by one method at a time."""

    def __init__(
        self,
        context: EvaluationContext,
        model: AttributesLike | None,
        images: _Images,
        triples: _Triples,
    ) -> None:
        self.context, self.model, self.triples = context, model, triples
        a, b, c, _ = triples
        latents, features, pixels = images
        self.start = _Images(latents[c], features[c], pixels[c])
        self.change = _Change(features[a] - features[b], latents[a] - latents[b])
        self.audit = context.audit.embed(pixels[c])
        if model is not None:
            self.requested = model.standardize(pixels[a]) - model.standardize(pixels[b])
            self.before = model.standardize(pixels[c])

    def evaluate(self, name: str, method: AnalogyMethod) -> tuple[AnalogyRow, Pixels]:
        """Return the results of one method, and the answers' pixels (n c h w)."""
        context, change = self.context, self.change
        answers = self._apply(method, self.start, change)
        back = self._apply(method, answers, _Change(-change.features, -change.latents))

        # The second change is that of the next triple.
        second = _Change(*(np.roll(rows, 1, axis=0) for rows in change))
        forward = self._apply(method, answers, second)
        backward = self._apply(method, self._apply(method, self.start, second), change)
        audits = [context.audit.embed(images.pixels) for images in (back, forward, backward)]
        row = AnalogyRow(
            method=name,
            class_kept=self._class_kept(answers.pixels),
            **self._attributes(answers.pixels),
            back=context.mean_interval(paired_cosine(self.audit, audits[0]), self.triples.c),
            order=context.mean_interval(paired_cosine(audits[1], audits[2]), self.triples.c),
        )
        return row, answers.pixels

    def _apply(self, method: AnalogyMethod, images: _Images, change: _Change) -> _Images:
        # Embed the answers again: the next change starts from their images.
        latents = np.asarray(method(images, change), np.float32)
        pixels = self.context.editor.generate(latents)
        return _Images(latents, self.context.editor.embed(pixels), pixels)

    def _class_kept(self, pixels: Pixels) -> Interval | None:
        if self.triples.classes is None:
            return None
        labels = self.context.judge_probabilities(pixels).argmax(1)
        return self.context.mean_interval(labels == self.triples.classes, self.triples.c)

    def _attributes(self, pixels: Pixels) -> dict[str, Any]:
        if self.model is None:
            return {"agreement": None, "attributes": {}}
        achieved = self.model.standardize(pixels) - self.before
        correlations = {
            name: partial(weighted_correlation, self.requested[:, k], achieved[:, k])
            for k, name in enumerate(self.model.names)
        }

        def mean_correlation(weights: Floats) -> Floats:
            values = [correlation(weights) for correlation in correlations.values()]
            return np.asarray(np.mean(values, axis=0))

        sources = self.triples.c
        return {
            "agreement": self.context.statistic_interval(mean_correlation, sources),
            "attributes": {
                name: self.context.statistic_interval(correlation, sources)
                for name, correlation in correlations.items()
            },
        }
