"""Requests to answers, without HTTP: the Editor asked, what it says put into the schemas."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen import __version__
from controlgen.control import Edit, Recipe, Samples, algebra, queries
from controlgen.control.direction_files import SUFFIX, direction_bytes
from controlgen.control.files import GivenFiles
from controlgen.control.queries import Query
from controlgen.drawing import draw_edit
from controlgen.errors import ConfigError, Incompatible
from controlgen.serve import codec
from controlgen.serve.limits import Limits
from controlgen.serve.models import Served, chosen
from controlgen.serve.schemas import (
    Answer,
    Arrays,
    DirectionOut,
    DirectionRequest,
    EditRequest,
    EmbedRequest,
    FeaturesOut,
    GenerateRequest,
    ImagesOut,
    InvertRequest,
    Measurement,
    Moved,
    NearestRequest,
    Neighbour,
    Neighbours,
    Npy,
    Numbers,
    Picture,
    SampleRequest,
    Sources,
    SweepRequest,
)
from controlgen.serve.work import Deadline
from controlgen.types import Direction, Features, Latents, Pixels

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Service:
    """The models served, and what a request may ask of them. Every method says what it raises
    as a ControlGenError; each looks at the deadline between its steps."""

    models: Mapping[str, Served]
    limits: Limits

    def sample(self, asked: SampleRequest, deadline: Deadline) -> ImagesOut:
        """Samples of a seed."""
        served = chosen(self.models, asked.model)
        self._at_most(asked.n, self.limits.rows, "n")
        found = served.editor.sample(asked.n, asked.seed, asked.start)
        origin = {"synthetic": "true", "model": served.name, "version": __version__}
        images = [
            codec.png(one[None], {**origin, "seed": f"{asked.seed}, sample {asked.start + at}"})
            for at, one in enumerate(found.pixels)
        ]
        return ImagesOut(
            model=served.name,
            images=[codec.to_base64(one) for one in images],
            latents=_told(found.latents, asked.arrays),
        )

    def generate(self, asked: GenerateRequest, deadline: Deadline) -> ImagesOut:
        """Latents to images."""
        served = chosen(self.models, asked.model)
        pixels = served.editor.generate(self._rows(asked.latents, "latents"))
        return ImagesOut(model=served.name, images=_pngs(pixels))

    def embed(self, asked: EmbedRequest, deadline: Deadline) -> FeaturesOut:
        """Images or texts to features; of texts the mean of all, one row."""
        served = chosen(self.models, asked.model)
        if asked.texts is not None:
            self._at_most(len(asked.texts), self.limits.images, "texts")
            self._short(asked.texts)
            features = served.editor.embed_text(asked.texts)[None]
        else:
            features = served.editor.embed(self._images(asked.images or [], served))
        return FeaturesOut(model=served.name, features=_told(features, asked.arrays))

    def invert(self, asked: InvertRequest, deadline: Deadline) -> ImagesOut:
        """Features or images to latents, and what these generate."""
        served = chosen(self.models, asked.model)
        features = (
            self._rows(asked.features, "features")
            if asked.features is not None
            else served.editor.embed(self._images(asked.images or [], served))
        )
        latents = served.editor.invert(features)
        return ImagesOut(
            model=served.name,
            images=_pngs(served.editor.generate(latents)),
            latents=_told(latents, asked.arrays),
            features=_told(features, asked.arrays),
        )

    def edit(self, asked: EditRequest, deadline: Deadline) -> Answer:
        """One edit, or several answers to one."""
        served = chosen(self.models, asked.model)
        self._at_most(asked.answers, self.limits.answers, "answers")
        if asked.answers > 1:
            return self._answers(served, asked, deadline)
        return self._moved(served, asked, [asked.amount], deadline)

    def sweep(self, asked: SweepRequest, deadline: Deadline) -> Answer:
        """The same edit at several amounts."""
        served = chosen(self.models, asked.model)
        self._at_most(len(asked.amounts), self.limits.amounts, "amounts")
        return self._moved(served, asked, asked.amounts, deadline)

    def nearest(self, asked: NearestRequest, deadline: Deadline) -> Neighbours:
        """Items of the bank that are most like a picture."""
        served = chosen(self.models, asked.model)
        self._short([asked.expression])
        self._at_most(asked.among, self.limits.among, "among")
        self._at_most(asked.n, self.limits.rows, "n")
        editor, files = served.editor, self._files(served, asked.images)
        feature = queries.feature_of(editor, asked.expression, files)
        editor.bank_items(0, 1)
        among = min(asked.among, editor.bank.n) if editor.bank else asked.among
        found = editor.gallery.nearest(feature, asked.n, among, lambda _: deadline.check())
        return Neighbours(
            model=served.name,
            neighbours=[
                Neighbour(item=int(item), cosine=float(cosine), image=image)
                for item, cosine, image in zip(
                    found.items, found.cosine, _pngs(found.pixels), strict=True
                )
            ],
        )

    def direction(self, asked: DirectionRequest, deadline: Deadline) -> DirectionOut:
        """Make a direction; one with a name is kept, as the file that `direction` reads."""
        served = chosen(self.models, asked.model)
        editor = served.editor
        if asked.expression is not None:
            self._short([asked.expression])
            files = self._files(served, asked.images)
            way = queries.way(editor, asked.expression, asked.hold, files)
            direction, share, made_by = way.direction, way.share, way.expression
        else:
            change, made_by = self._between(served, asked)
            share = editor.statistics.share_inside(change)
            direction = editor.within(change, asked.hold)
        file = None
        if asked.name is not None:
            file = asked.name + SUFFIX
            named = {"name": asked.name, "made_by": made_by, "space": editor.space.fingerprint}
            served.keep(file, direction_bytes(direction, share_inside=share, **named))
        return DirectionOut(
            model=served.name,
            file=file,
            made_by=made_by,
            share=share,
            direction=_told(direction, asked.arrays),
        )

    def _between(self, served: Served, asked: DirectionRequest) -> tuple[Direction, str]:
        editor = served.editor
        if asked.text is not None and asked.neutral is not None:
            self._short([*asked.text, *asked.neutral])
            change = editor.embed_text(asked.text) - editor.embed_text(asked.neutral)
            return change, f"texts: {len(asked.text)} minus {len(asked.neutral)}"
        more, less = (self._images(side or [], served) for side in (asked.more, asked.less))
        change = algebra.mean(editor.embed(more)) - algebra.mean(editor.embed(less))
        return change, f"images: {len(more)} minus {len(less)}"

    def _moved(
        self, served: Served, asked: Moved, amounts: Sequence[float], deadline: Deadline
    ) -> Answer:
        # Each amount alone, as a recipe draws it again.
        self._check(asked)
        if asked.expression is None:
            return self._by_arrays(served, asked, amounts, deadline)
        query = self._query(served, asked, asked.expression)
        editor = served.editor.guided(asked.guidance)
        edits, pictures = [], []
        for amount in amounts:
            deadline.check()
            recipe = self._recipe(served, asked, query, amount)
            stream = io.BytesIO()
            edit = draw_edit(editor, query, recipe, stream)
            edits.append(edit)
            image = codec.to_base64(stream.getvalue())
            pictures.append(_picture(edit, 0, image, amount, query.hold, recipe))
        told = {"expression": query.expression, "start": query.start, "share": query.share}
        return _answer(served, asked.arrays, edits, pictures, _pngs(edits[0].source_pixels), told)

    def _by_arrays(
        self, served: Served, asked: Moved, amounts: Sequence[float], deadline: Deadline
    ) -> Answer:
        editor = served.editor.guided(asked.guidance)
        source = self._sources(served, asked.source or Sources(seed=0))
        hold, direction = tuple(asked.hold), self._direction(served, asked)
        edits, pictures = [], []
        for amount in amounts:
            deadline.check()
            way = (source, direction, amount, asked.residual, hold)
            edit = editor.edit(*way, asked.corrections, asked.refine)
            edits.append(edit)
            pictures += [
                _picture(edit, row, image, amount, hold, None)
                for row, image in enumerate(_pngs(edit.pixels))
            ]
        told = {"expression": None, "start": None, "share": None}
        return _answer(served, asked.arrays, edits, pictures, _pngs(edits[0].source_pixels), told)

    def _answers(self, served: Served, asked: EditRequest, deadline: Deadline) -> Answer:
        # Many answers of the map to what one edit asks for.
        self._check(asked)
        if asked.expression is None:
            raise ConfigError("answers: give an expression, not a source and a direction")
        query = self._query(served, asked, asked.expression)
        editor = served.editor.guided(asked.guidance)
        edit = editor.answer(query, asked.amount, asked.residual, asked.corrections, asked.refine)
        deadline.check()
        many = editor.answers(edit.asked, asked.answers)
        pictures = [
            Picture(
                image=image,
                amount=asked.amount,
                agreement=float(many.agreement[0, at]),
                progress=None,
            )
            for at, image in enumerate(_pngs(many.pixels[0]))
        ]
        told = {"expression": query.expression, "start": query.start, "share": query.share}
        answer = _answer(served, "none", [edit], pictures, _pngs(edit.source_pixels), told)
        rows = {"latents": many.latents[0], "obtained": many.obtained[0], "asked": edit.asked}
        return answer.model_copy(
            update={name: _told(value, asked.arrays) for name, value in rows.items()}
        )

    def _query(self, served: Served, asked: Moved, expression: str) -> Query:
        files = self._files(served, asked.images)
        return queries.ask(served.editor, expression, asked.hold, files)

    def _recipe(self, served: Served, asked: Moved, query: Query, amount: float) -> Recipe:
        return Recipe(
            model=served.name,
            weights=served.editor.weights,
            expression=query.expression,
            amount=amount,
            picture="result",
            residual=asked.residual,
            corrections=asked.corrections,
            refine=asked.refine,
            guidance=asked.guidance,
            files=dict(query.files),
            controlgen=__version__,
        )

    def _direction(self, served: Served, asked: Moved) -> Direction:
        if isinstance(asked.direction, str):
            self._short([asked.direction])
            files = self._files(served, asked.images)
            return queries.way(served.editor, asked.direction, asked.hold, files).direction
        assert asked.direction is not None
        rows = self._numbers(asked.direction, "direction")
        if rows.ndim != 1:
            raise Incompatible(f"direction of shape {rows.shape}: give one row of numbers")
        return rows

    def _sources(self, served: Served, source: Sources) -> Samples | Latents | Pixels:
        if source.images is not None:
            return self._images(source.images, served)
        if source.latents is not None:
            return self._rows(source.latents, "latents")
        self._at_most(source.n, self.limits.rows, "n")
        return served.editor.sample(source.n, source.seed or 0, source.start)

    def _files(self, served: Served, images: Mapping[str, str]) -> GivenFiles:
        # What came with the request, and the directions kept; nothing of the disk.
        self._at_most(len(images), self.limits.images, "images")
        contents = dict(served.directions)
        for name, text in images.items():
            content = codec.from_base64(text, name)
            contents[name] = codec.checked_image(content, name, self.limits)
        return GivenFiles(contents)

    def _images(self, images: Sequence[str], served: Served) -> Pixels:
        self._at_most(len(images), self.limits.images, "images")
        shape = served.editor.image_shape
        rows = []
        for at, text in enumerate(images):
            what = f"image {at + 1}"
            content = codec.from_base64(text, what)
            rows.append(codec.to_pixels_of(content, what, shape, self.limits))
        return np.concatenate(rows)

    def _rows(self, numbers: Numbers, what: str) -> Features:
        rows = self._numbers(numbers, what)
        if rows.ndim != 2 or not len(rows):
            raise Incompatible(f"{what} of shape {rows.shape}: give rows of numbers")
        self._at_most(len(rows), self.limits.rows, what)
        return rows

    def _numbers(self, numbers: Numbers, what: str) -> Floats:
        if isinstance(numbers, Npy):
            return codec.from_npy(codec.from_base64(numbers.npy, what), what)
        return codec.finite(numbers, what)

    def _check(self, asked: Moved) -> None:
        self._at_most(asked.refine, self.limits.refine, "refine")
        self._at_most(asked.corrections or 0, self.limits.corrections, "corrections")
        if asked.expression is not None:
            self._short([asked.expression])

    def _short(self, texts: Sequence[str]) -> None:
        for text in texts:
            if len(text) > self.limits.expression:
                raise ConfigError(
                    f"text of {len(text)} characters; at most {self.limits.expression} are taken"
                )

    def _at_most(self, value: int, most: int, what: str) -> None:
        if value > most:
            raise ConfigError(f"{what}: {value} is more than the {most} of one request")


def _told(array: NDArray[Any], how: Arrays) -> Any:
    if how == "none":
        return None
    if how == "json":
        return array.tolist()
    return {"npy": codec.to_base64(codec.npy(array))}


def _pngs(pixels: Pixels) -> list[str]:
    return [codec.to_base64(codec.png(one[None])) for one in pixels]


def _picture(
    edit: Edit,
    row: int,
    image: str,
    amount: float,
    hold: Sequence[str],
    recipe: Recipe | None,
) -> Picture:
    believed = edit.reachability
    return Picture(
        image=image,
        amount=amount,
        agreement=float(edit.agreement[row]),
        progress=float(edit.progress[row]),
        reachability=None if believed is None else float(believed[row]),
        warning=edit.warnings[row],
        measured=_measured(edit, row, hold),
        recipe=None if recipe is None else recipe.effective(),
    )


def _measured(edit: Edit, row: int, hold: Sequence[str]) -> dict[str, Measurement]:
    if edit.model is None or edit.attributes is None:
        return {}
    names, before, after = edit.attributes
    sigmas = edit.model.in_sigmas(after - before)[row]
    return {
        name: Measurement(
            before=float(before[row, at]),
            after=float(after[row, at]),
            sigmas=float(sigmas[at]),
            held=name in hold,
        )
        for at, name in enumerate(names)
    }


def _answer(
    served: Served,
    arrays: Arrays,
    edits: Sequence[Edit],
    pictures: list[Picture],
    sources: list[str],
    told: Mapping[str, Any],
) -> Answer:
    first = edits[0]
    joined = {
        name: np.concatenate([getattr(one, name) for one in edits])
        for name in ("latents", "asked", "obtained")
    }
    joined |= {"source_latents": first.source_latents, "source_features": first.source_features}
    return Answer(
        model=served.name,
        sources=sources,
        pictures=pictures,
        **told,
        **{name: _told(rows, arrays) for name, rows in joined.items()},
    )
