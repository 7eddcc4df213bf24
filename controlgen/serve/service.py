"""Requests to answers, without HTTP: the Editor asked, what it says put into the schemas."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlgen._version import __version__
from controlgen.editing import Editor, Recipe
from controlgen.editing.directions import contrast
from controlgen.editing.directions.regression import direction_of_values
from controlgen.editing.directions.storage import SUFFIX, direction_bytes
from controlgen.editing.expressions import resolver
from controlgen.editing.expressions.parser import quoted
from controlgen.editing.expressions.resolver import Query
from controlgen.editing.rendering import draw_edit
from controlgen.errors import ConfigError
from controlgen.serve import responses, serialization
from controlgen.serve.job_queue import Deadline
from controlgen.serve.limits import Limits
from controlgen.serve.registry import Served, chosen
from controlgen.serve.request_parsing import Reading
from controlgen.serve.schemas import (
    Answer,
    DirectionOut,
    DirectionRequest,
    EditRequest,
    EmbedRequest,
    FeaturesOut,
    GenerateRequest,
    ImagesOut,
    InvertRequest,
    Moved,
    NearestRequest,
    Neighbour,
    Neighbours,
    SampleRequest,
    Sources,
    SweepRequest,
)
from controlgen.types import Direction


@dataclass(frozen=True)
class Service:
    """The models served, and what may be asked of them.

    Every method raises a ControlGenError where it cannot be done, and looks at the deadline between
    its steps.
    """

    models: Mapping[str, Served]
    limits: Limits

    @property
    def reading(self) -> Reading:
        """How one request is read under these limits; it counts, so each has its own."""
        return Reading(self.limits)

    def sample(self, asked: SampleRequest, deadline: Deadline) -> ImagesOut:
        """Samples of a seed."""
        served = chosen(self.models, asked.model)
        self.reading.at_most(asked.n, self.limits.rows, "n")
        found = served.editor.sample(asked.n, asked.seed, asked.start)
        origin = {"synthetic": "true", "model": served.name, "version": __version__}
        images = [
            serialization.png(
                one[None], {**origin, "seed": f"{asked.seed}, sample {asked.start + at}"}
            )
            for at, one in enumerate(found.pixels)
        ]
        return ImagesOut(
            model=served.name,
            images=[serialization.to_base64(one) for one in images],
            latents=responses.numbers(found.latents, asked.arrays),
        )

    def generate(self, asked: GenerateRequest, deadline: Deadline) -> ImagesOut:
        """Latents to images."""
        served = chosen(self.models, asked.model)
        pixels = served.editor.generate(self.reading.rows(asked.latents, "latents"))
        return ImagesOut(model=served.name, images=responses.images(pixels))

    def embed(self, asked: EmbedRequest, deadline: Deadline) -> FeaturesOut:
        """Images or texts to features; of texts the mean of all, one row."""
        served = chosen(self.models, asked.model)
        if asked.texts is not None:
            self.reading.at_most(len(asked.texts), self.limits.images, "texts")
            self.reading.short(asked.texts)
            features = served.editor.embed_text(asked.texts)[None]
        else:
            features = served.editor.embed(self.reading.images(asked.images or [], served))
        return FeaturesOut(model=served.name, features=responses.numbers(features, asked.arrays))

    def invert(self, asked: InvertRequest, deadline: Deadline) -> ImagesOut:
        """Features or images to latents, and what these generate."""
        served = chosen(self.models, asked.model)
        features = (
            self.reading.rows(asked.features, "features")
            if asked.features is not None
            else served.editor.embed(self.reading.images(asked.images or [], served))
        )
        latents = served.editor.invert(features)
        return ImagesOut(
            model=served.name,
            images=responses.images(served.editor.generate(latents)),
            latents=responses.numbers(latents, asked.arrays),
            features=responses.numbers(features, asked.arrays),
        )

    def edit(self, asked: EditRequest, deadline: Deadline) -> Answer:
        """One edit, or several answers to one."""
        served = chosen(self.models, asked.model)
        self.reading.at_most(asked.answers, self.limits.answers, "answers")
        if asked.answers > 1:
            return self._answers(served, asked, deadline)
        return self._moved(served, asked, [asked.amount], deadline)

    def sweep(self, asked: SweepRequest, deadline: Deadline) -> Answer:
        """The same edit at several amounts."""
        served = chosen(self.models, asked.model)
        self.reading.at_most(len(asked.amounts), self.limits.amounts, "amounts")
        return self._moved(served, asked, asked.amounts, deadline)

    def nearest(self, asked: NearestRequest, deadline: Deadline) -> Neighbours:
        """Items of the bank that are most like a picture."""
        served = chosen(self.models, asked.model)
        self.reading.short([asked.expression])
        self.reading.at_most(asked.among, self.limits.among, "among")
        self.reading.at_most(asked.n, self.limits.rows, "n")
        editor, files = served.editor, self.reading.files(served, asked.images)
        feature = resolver.feature_of(editor, asked.expression, files)
        editor.bank_items(0, 1)
        among = min(asked.among, editor.bank.n) if editor.bank else asked.among
        found = editor.gallery.nearest(feature, asked.n, among, lambda _: deadline.check())
        return Neighbours(
            model=served.name,
            neighbours=[
                Neighbour(item=int(item), cosine=float(cosine), image=image)
                for item, cosine, image in zip(
                    found.items, found.cosine, responses.images(found.pixels), strict=True
                )
            ],
        )

    def direction(self, asked: DirectionRequest, deadline: Deadline) -> DirectionOut:
        """Make a direction; one with a name is kept, as the file that `direction` reads."""
        served = chosen(self.models, asked.model)
        editor = served.editor
        if asked.expression is not None:
            self.reading.short([asked.expression])
            files = self.reading.files(served, asked.images)
            way = resolver.way(editor, asked.expression, asked.hold, files)
            direction, share, made_by = way.direction, way.share, way.expression
        elif asked.values is not None:
            pixels = self.reading.images(asked.of or [], served)
            direction = direction_of_values(editor, asked.values, pixels, asked.hold)
            # It is made inside of what the bank's images span.
            share, made_by = 1.0, f"values of {len(pixels)} images"
        else:
            change, made_by = self._between(served, asked)
            share = editor.statistics.share_inside(change)
            # Of an attribute it is inside, and holds what it should, to the last bit.
            inside = asked.attribute is not None
            direction = change if inside else editor.within(change, asked.hold)
        file, replaced = None, False
        if asked.name is not None:
            file = asked.name + SUFFIX
            named = {"name": asked.name, "made_by": made_by, "space": editor.space.fingerprint}
            replaced = served.keep(file, direction_bytes(direction, share_inside=share, **named))
        return DirectionOut(
            model=served.name,
            file=file,
            replaced=replaced,
            made_by=made_by,
            share=share,
            direction=responses.numbers(direction, asked.arrays),
        )

    def _between(self, served: Served, asked: DirectionRequest) -> tuple[Direction, str]:
        editor = served.editor
        if asked.attribute is not None:
            change = editor.attribute(asked.attribute, asked.hold)
            return change, f"attribute({quoted(asked.attribute)})"
        if asked.text is not None and asked.neutral is not None:
            self.reading.short([*asked.text, *asked.neutral])
            change = contrast.change_of_texts(editor, asked.text, asked.neutral)
            return change, f"texts: {len(asked.text)} minus {len(asked.neutral)}"
        reading = self.reading
        more, less = (reading.images(side or [], served) for side in (asked.more, asked.less))
        change = contrast.change_of_groups(editor, more, less)
        return change, f"images: {len(more)} minus {len(less)}"

    def _moved(
        self, served: Served, asked: Moved, amounts: Sequence[float], deadline: Deadline
    ) -> Answer:
        # Each amount alone, as a recipe draws it again.
        self.reading.check(asked)
        if asked.expression is None:
            return self._by_arrays(served, asked, amounts, deadline)
        editor = served.editor
        query = self._query(editor, served, asked, asked.expression)
        edits, pictures = [], []
        for amount in amounts:
            deadline.check()
            recipe = self._recipe(served, asked, query, amount)
            stream = io.BytesIO()
            edit = draw_edit(editor, query, recipe, stream)
            edits.append(edit)
            image = serialization.to_base64(stream.getvalue())
            pictures.append(responses.picture(edit, 0, image, amount, query.hold, recipe))
        return responses.answer(served.name, asked, edits, pictures, query)

    def _by_arrays(
        self, served: Served, asked: Moved, amounts: Sequence[float], deadline: Deadline
    ) -> Answer:
        editor = served.editor
        reading = self.reading
        source = reading.source(served, asked.source or Sources(seed=0))
        hold, direction = tuple(asked.hold), reading.direction(served, asked)
        edits, pictures = [], []
        for amount in amounts:
            deadline.check()
            way = (source, direction, amount, asked.residual, hold)
            edit = editor.edit(*way, asked.corrections, asked.refine)
            edits.append(edit)
            pictures += [
                responses.picture(edit, row, image, amount, hold, None)
                for row, image in enumerate(responses.images(edit.pixels))
            ]
        return responses.answer(served.name, asked, edits, pictures)

    def _answers(self, served: Served, asked: EditRequest, deadline: Deadline) -> Answer:
        # Many answers of the map to what one edit asks for.
        self.reading.check(asked)
        if asked.expression is None:
            raise ConfigError("answers: give an expression, not a source and a direction")
        editor = served.editor
        query = self._query(editor, served, asked, asked.expression)
        edit = editor.answer(query, asked.amount, asked.residual, asked.corrections, asked.refine)
        deadline.check()
        many = editor.answers(edit.asked, asked.answers, refine=asked.refine)
        pictures = [
            responses.picture(many.edit(edit, at), 0, image, asked.amount, query.hold, None)
            for at, image in enumerate(responses.images(many.pixels[0]))
        ]
        rows = {name: getattr(many, name)[0] for name in ("latents", "obtained", "pixels")}
        return responses.answer(served.name, asked, [edit], pictures, query, **rows)

    def _query(self, editor: Editor, served: Served, asked: Moved, expression: str) -> Query:
        files = self.reading.files(served, asked.images)
        return resolver.ask(editor, expression, asked.hold, files)

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
            files=dict(query.files),
            controlgen=__version__,
        )
