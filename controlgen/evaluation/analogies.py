"""Does arithmetic on pictures mean what it says? c + (a - b), there and back, and in either order.

a and b are of one class and c of another, as the judge calls them, so what is asked for is c with
what tells a from b: still of c's class, and its measured attributes changed as b's differ from a's.
Then the change is taken back from the picture that came out, and two changes are made one after the
other in either order, each through the picture between them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen import figures
from controlgen.editing import feature_math
from controlgen.evaluation.context import CONFIDENT, Subject
from controlgen.evaluation.goals import Target
from controlgen.evaluation.markdown import shown, table
from controlgen.evaluation.sliders import AttributesLike
from controlgen.metrics.bootstrap import Interval
from controlgen.metrics.inversion import paired_cosine, weighted_correlation
from controlgen.rng import stream
from controlgen.types import Features, Indices, Latents, Pixels

Floats = NDArray[np.float64]
MOST = 256  # analogies
FEWEST = 20  # pictures from which anything is said
PICTURED = 8
PICTURE = "analogies.png"
# A picture (latents, features) and changes (features, latents) -> the latents of the answer.
Adding = Callable[[Latents, Features, Features, Latents], Latents]


@dataclass(frozen=True)
class AnalogyRow:
    """One way of adding. `kept`: share of the answers that the judge calls c's class.

    `attributes` holds for each measured attribute the correlation of the change asked (a's minus
    b's) with that obtained (the answer's minus c's), `agreement` their mean. `back` is the audit
    cosine of c with what is left of it once the change is taken from the answer again, `order` that
    of the two answers to the same two changes.
    """

    method: str
    kept: Interval | None
    agreement: Interval | None
    attributes: dict[str, Interval]
    back: Interval
    order: Interval


@dataclass(frozen=True)
class Analogies:
    """Rows a method; `unrelated` is the audit cosine of c with another c."""

    n: int
    names: list[str]
    rows: list[AnalogyRow]
    unrelated: Interval
    strips: dict[str, Pixels] = field(repr=False)

    def targets(self) -> list[Target]:
        """None: the protocol sets no goal here."""
        return []

    def markdown(self) -> list[str]:
        """The section of the report."""
        judged = self.rows[0].kept is not None
        head = ["method", *(["class of c kept"] if judged else [])]
        head += ["attributes, mean", *self.names] if self.names else []
        rows = [
            [
                row.method,
                *([shown(row.kept)] if judged else []),
                *([shown(row.agreement)] if self.names else []),
                *(shown(row.attributes[name], 2) for name in self.names),
                shown(row.back),
                shown(row.order),
            ]
            for row in self.rows
        ]
        pairs = "a and b of one class, c of another, as the judge calls them" if judged else ""
        told = f"{self.n} triples of held-out generated images{', ' if pairs else ''}{pairs}. "
        if self.names:
            told += (
                "Attributes: correlation of the change asked, a's minus b's, with the change "
                "obtained, the answer's minus c's. "
            )
        return [
            "## Analogies: c + (a - b)",
            f"{told}There and back: audit cosine of c with what is left once the change is taken "
            "from the answer's picture again. Either order: audit cosine of the two answers to "
            f"two changes. Another c has {shown(self.unrelated)}. Intervals are over c.",
            table([*head, "there and back", "either order"], rows),
            f"![Above a, b and c, below them the answers]({PICTURE})",
        ]

    def draw(self, folder: Path, provenance: Mapping[str, Any]) -> None:
        """Write analogies.png."""
        title = "c + (a - b): a column a triple"
        figures.inversion_strips(folder / PICTURE, self.strips, provenance, title)


def analogies(subject: Subject) -> Analogies | None:
    """Ask for c + (a - b) of held-out images; None below 20 of them, or where nobody can tell.

    Where there is no judge, the three are any images, and attributes alone are told.
    """
    model: AttributesLike | None = getattr(subject.editor, "attributes", None)
    latents, pixels, features = subject.held_out(len(subject.bank.latents))
    if len(latents) < FEWEST or (model is None and subject.judge is None):
        return None
    chosen = _chosen(subject, pixels)
    if chosen is None:
        return None
    trial = _Trial(subject, model, latents, pixels, features, *chosen)
    rows, answers = [], {}
    for name, adding in _methods(subject).items():
        row, made = trial.row(name, adding)
        rows.append(row)
        answers[name] = made[:PICTURED]
    others = np.roll(trial.audit, 1, axis=0)
    return Analogies(
        n=len(trial.c),
        names=list(model.names) if model else [],
        rows=rows,
        unrelated=subject.mean(paired_cosine(trial.audit, others), trial.c),
        strips={
            name: pixels[which[:PICTURED]]
            for name, which in zip("abc", (trial.a, trial.b, trial.c), strict=True)
        }
        | answers,
    )


def _chosen(
    subject: Subject, pixels: Pixels
) -> tuple[Indices, Indices, Indices, Indices | None] | None:
    # Rows of a, b and c, and the class of c; a and b differ, and c is as often new as can be.
    n = min(MOST, subject.config.inversions)
    draws = stream(subject.config.seed, "analogies")
    if subject.judge is None:
        a, b, c = draws.permuted(np.tile(np.arange(len(pixels)), (n, 1)), axis=1)[:, :3].T
        return a, b, c, None
    probabilities = subject.probabilities(pixels)
    calls, sure = probabilities.argmax(1), probabilities.max(1) > CONFIDENT
    pools = [np.flatnonzero((calls == k) & sure) for k in range(probabilities.shape[1])]
    pools = [draws.permutation(pool) for pool in pools]
    pairs = [k for k, pool in enumerate(pools) if len(pool) > 1]
    present = [k for k, pool in enumerate(pools) if len(pool) and set(pairs) - {k}]
    if not present:
        return None
    rows = []
    for turn in range(n):
        of_c = present[turn % len(present)]
        others = [k for k in pairs if k != of_c]
        a, b = draws.choice(pools[others[draws.integers(len(others))]], 2, replace=False)
        c = pools[of_c][turn // len(present) % len(pools[of_c])]
        rows.append((a, b, c, of_c))
    a, b, c, classes = np.array(rows, np.int64).T
    return a, b, c, classes


def _methods(subject: Subject) -> dict[str, Adding]:
    map_name = subject.map_name

    def through(name: str, features: Features, change: Features) -> Latents:
        return subject.predict(name, feature_math.add(features, change))

    def residual(latents: Latents, features: Features, change: Features, _: Latents) -> Latents:
        moved, unmoved = through(map_name, features, change), subject.predict(map_name, features)
        return np.asarray(latents + moved - unmoved, np.float32)

    def in_latents(latents: Latents, _: Features, __: Features, change: Latents) -> Latents:
        return np.asarray(latents + change, np.float32)

    def others(_: Latents, features: Features, change: Features, __: Latents) -> Latents:
        return through(map_name, features, np.roll(change, 1, axis=0))

    def nothing(_: Latents, features: Features, __: Features, ___: Latents) -> Latents:
        return subject.predict(map_name, features)

    return {
        "feature arithmetic": lambda _, features, change, __: through(map_name, features, change),
        "residual edit": residual,
        "latent arithmetic": in_latents,
        "retrieval": lambda _, features, change, __: through("retrieval", features, change),
        "another pair's change": others,
        "nothing added": nothing,
    }


class _Trial:
    """The triples, their changes, and what became of them."""

    def __init__(
        self,
        subject: Subject,
        model: AttributesLike | None,
        latents: Latents,
        pixels: Pixels,
        features: Features,
        a: Indices,
        b: Indices,
        c: Indices,
        classes: Indices | None,
    ) -> None:
        self.subject, self.model, self.classes = subject, model, classes
        self.a, self.b, self.c = a, b, c
        self.start = latents[c], features[c]
        self.changes = features[a] - features[b], latents[a] - latents[b]
        self.audit = subject.audit.embed(pixels[c])
        self.names: tuple[str, ...] = ()
        if model is not None:
            self.names = model.names
            measured = model.standard(pixels[a]), model.standard(pixels[b])
            self.asked, self.before = measured[0] - measured[1], model.standard(pixels[c])

    def row(self, name: str, adding: Adding) -> tuple[AnalogyRow, Pixels]:
        """Everything about one way of adding, and the pictures of c + (a - b)."""
        subject, (change, latent_change) = self.subject, self.changes
        once = self._moved(adding, *self.start, change, latent_change)
        back = self._moved(adding, *once[:2], -change, -latent_change)

        # The second change is the next triple's.
        second, latent_second = (np.roll(one, 1, axis=0) for one in self.changes)
        then = self._moved(adding, *once[:2], second, latent_second)
        first = self._moved(adding, *self.start, second, latent_second)
        other = self._moved(adding, *first[:2], change, latent_change)
        seen = [subject.audit.embed(pixels) for _, _, pixels in (back, then, other)]
        row = AnalogyRow(
            method=name,
            kept=self._kept(once[2]),
            **self._attributes(once[2]),
            back=subject.mean(paired_cosine(self.audit, seen[0]), self.c),
            order=subject.mean(paired_cosine(seen[1], seen[2]), self.c),
        )
        return row, once[2]

    def _moved(
        self,
        adding: Adding,
        latents: Latents,
        features: Features,
        change: Features,
        latent_change: Latents,
    ) -> tuple[Latents, Features, Pixels]:
        # The answer's latents, and the picture with its features: what the next change starts from.
        answer = np.asarray(adding(latents, features, change, latent_change), np.float32)
        pixels = self.subject.editor.generate(answer)
        return answer, self.subject.editor.embed(pixels), pixels

    def _kept(self, pixels: Pixels) -> Interval | None:
        if self.classes is None:
            return None
        calls = self.subject.probabilities(pixels).argmax(1)
        return self.subject.mean(calls == self.classes, self.c)

    def _attributes(self, pixels: Pixels) -> dict[str, Any]:
        if self.model is None:
            return {"agreement": None, "attributes": {}}
        obtained = self.model.standard(pixels) - self.before
        each = [
            partial(weighted_correlation, self.asked[:, k], obtained[:, k])
            for k in range(len(self.names))
        ]

        def together(weights: Floats) -> Floats:
            return np.asarray(np.mean([one(weights) for one in each], axis=0))

        return {
            "agreement": self.subject.resampled(together, self.c),
            "attributes": {
                name: self.subject.resampled(one, self.c)
                for name, one in zip(self.names, each, strict=True)
            },
        }
