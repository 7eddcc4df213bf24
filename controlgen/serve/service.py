"""Requests to responses, without HTTP."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlgen._version import __version__
from controlgen.editing import Edit, Recipe
from controlgen.editing.apply import edit_in_feature_space, edit_resolved
from controlgen.editing.directions import contrast
from controlgen.editing.directions.regression import direction_from_values
from controlgen.editing.directions.storage import SUFFIX, serialize_direction
from controlgen.editing.expressions import resolver
from controlgen.editing.expressions.parser import quote
from controlgen.editing.expressions.resolver import ResolvedEdit
from controlgen.editing.rendering import render_edit
from controlgen.errors import ConfigError
from controlgen.serve import serialization
from controlgen.serve.limits import Limits
from controlgen.serve.registry import ServedModel, get_model
from controlgen.serve.request_parsing import RequestParser
from controlgen.serve.responses import edit_response, encode_array, picture_response
from controlgen.serve.schemas import (
    DirectionRequest,
    DirectionResponse,
    EditBase,
    EditRequest,
    EditResponse,
    EmbedRequest,
    FeaturesResponse,
    GenerateRequest,
    ImagesResponse,
    InvertRequest,
    NearestRequest,
    NearestResponse,
    Neighbour,
    SampleRequest,
    Sources,
    SweepRequest,
)
from controlgen.types import Direction
from controlgen.utils.cancellation import raise_if_cancelled


@dataclass(frozen=True)
class Service:
    """Answers requests to the served models.

    Every method raises a ControlGenError where a request is invalid, and calls
    `raise_if_cancelled` between its steps.
    """

    models: Mapping[str, ServedModel]
    limits: Limits

    def sample(self, request: SampleRequest) -> ImagesResponse:
        """Samples of a seed."""
        parser = self._parser(request.model)
        parser.limit(request.n, self.limits.rows, "n")
        samples = parser.editor.sample(request.n, request.seed, request.start)
        provenance = {"synthetic": "true", "model": parser.model.name, "version": __version__}
        images = [
            serialization.encode_png(
                image[None], {**provenance, "seed": f"{request.seed}, sample {request.start + row}"}
            )
            for row, image in enumerate(samples.pixels)
        ]
        return ImagesResponse(
            model=parser.model.name,
            images=[serialization.to_base64(image) for image in images],
            latents=encode_array(samples.latents, request.arrays),
        )

    def generate(self, request: GenerateRequest) -> ImagesResponse:
        """Latents to images."""
        parser = self._parser(request.model)
        pixels = parser.editor.generate(parser.rows(request.latents, "latents"))
        return ImagesResponse(model=parser.model.name, images=serialization.encode_images(pixels))

    def embed(self, request: EmbedRequest) -> FeaturesResponse:
        """Images to features, or texts to their mean feature as one row."""
        parser = self._parser(request.model)
        if request.texts is not None:
            parser.limit(len(request.texts), self.limits.images, "texts")
            parser.limit_text(request.texts)
            features = parser.editor.embed_text(request.texts)[None]
        else:
            features = parser.editor.embed(parser.images(request.images))
        return FeaturesResponse(
            model=parser.model.name, features=encode_array(features, request.arrays)
        )

    def invert(self, request: InvertRequest) -> ImagesResponse:
        """Features or images to latents, and the images that these generate."""
        parser = self._parser(request.model)
        editor = parser.editor
        if request.features is not None:
            features = parser.rows(request.features, "features")
        else:
            features = editor.embed(parser.images(request.images))
        latents = editor.invert(features)
        return ImagesResponse(
            model=parser.model.name,
            images=serialization.encode_images(editor.generate(latents)),
            latents=encode_array(latents, request.arrays),
            features=encode_array(features, request.arrays),
        )

    def edit(self, request: EditRequest) -> EditResponse:
        """An edit, or several candidates for it."""
        parser = self._parser(request.model)
        parser.limit(request.answers, self.limits.answers, "answers")
        if request.answers > 1:
            return self._candidates(parser, request)
        return self._edit(parser, request, [request.amount])

    def sweep(self, request: SweepRequest) -> EditResponse:
        """The same edit at several amounts."""
        parser = self._parser(request.model)
        parser.limit(len(request.amounts), self.limits.amounts, "amounts")
        return self._edit(parser, request, request.amounts)

    def nearest(self, request: NearestRequest) -> NearestResponse:
        """Bank items whose features are nearest to an expression's."""
        parser = self._parser(request.model)
        parser.limit_text([request.expression])
        parser.limit(request.among, self.limits.among, "among")
        parser.limit(request.n, self.limits.rows, "n")
        editor = parser.editor
        feature = resolver.resolve_feature(editor, request.expression, parser.files(request.images))
        editor.bank_items(0, 1)  # raises where the map has no bank
        among = min(request.among, editor.bank.n) if editor.bank else request.among
        nearest = editor.bank_index.nearest(
            feature, request.n, among, lambda _: raise_if_cancelled()
        )
        images = serialization.encode_images(nearest.pixels)
        neighbours = [
            Neighbour(item=int(item), cosine=float(cosine), image=image)
            for item, cosine, image in zip(nearest.items, nearest.cosine, images, strict=True)
        ]
        return NearestResponse(model=parser.model.name, neighbours=neighbours)

    def direction(self, request: DirectionRequest) -> DirectionResponse:
        """Make a direction, and save one that has a name as a direction file."""
        parser = self._parser(request.model)
        editor = parser.editor
        if request.expression is not None:
            parser.limit_text([request.expression])
            files = parser.files(request.images)
            resolved = resolver.resolve_direction(editor, request.expression, request.hold, files)
            direction, share, made_by = resolved.direction, resolved.share, resolved.expression
        elif request.values is not None:
            pixels = parser.images(request.of)
            direction = direction_from_values(editor, request.values, pixels, request.hold)
            # It lies within the span of the bank by construction.
            share, made_by = 1.0, f"values of {len(pixels)} images"
        else:
            direction, made_by = self._contrast(parser, request)
            share = editor.statistics.explained_share(direction)
            # An attribute's direction lies within the span and respects `hold` to the last bit.
            if request.attribute is None:
                direction = editor.constrain(direction, request.hold)
        file, replaced = None, False
        if request.name is not None:
            file = request.name + SUFFIX
            content = serialize_direction(
                direction,
                name=request.name,
                made_by=made_by,
                space=editor.space.fingerprint,
                share_inside=share,
            )
            replaced = parser.model.save_direction(file, content)
        return DirectionResponse(
            model=parser.model.name,
            file=file,
            replaced=replaced,
            made_by=made_by,
            share=share,
            direction=encode_array(direction, request.arrays),
        )

    def _contrast(self, parser: RequestParser, request: DirectionRequest) -> tuple[Direction, str]:
        # A direction from an attribute, texts or groups, and how it was made.
        editor = parser.editor
        if request.attribute is not None:
            change = editor.attribute(request.attribute, request.hold)
            return change, f"attribute({quote(request.attribute)})"
        if request.text is not None and request.neutral is not None:
            parser.limit_text([*request.text, *request.neutral])
            change = contrast.text_direction(editor, request.text, request.neutral)
            return change, f"texts: {len(request.text)} minus {len(request.neutral)}"
        more, less = parser.images(request.more), parser.images(request.less)
        change = contrast.group_direction(editor, more, less)
        return change, f"images: {len(more)} minus {len(less)}"

    def _edit(
        self, parser: RequestParser, request: EditBase, amounts: Sequence[float]
    ) -> EditResponse:
        parser.limit_steps(request)
        if request.expression is None:
            return self._edit_arrays(parser, request, amounts)
        resolved = self._resolve(parser, request, request.expression)
        edits, pictures = [], []
        for amount in amounts:
            # Each amount on its own, as the recipe reproduces it.
            raise_if_cancelled()
            recipe = self._recipe(parser.model, request, resolved, amount)
            stream = io.BytesIO()
            edit = render_edit(parser.editor, resolved, recipe, stream)
            edits.append(edit)
            image = serialization.to_base64(stream.getvalue())
            pictures.append(picture_response(edit, 0, image, amount, resolved.hold, recipe))
        return edit_response(parser.model.name, request, edits, pictures, resolved)

    def _edit_arrays(
        self, parser: RequestParser, request: EditBase, amounts: Sequence[float]
    ) -> EditResponse:
        source = parser.source(request.source or Sources(seed=0))
        direction = parser.direction(request)
        edits: list[Edit] = []
        pictures = []
        for amount in amounts:
            raise_if_cancelled()
            edit = edit_in_feature_space(parser.editor, source, direction, request.settings(amount))
            edits.append(edit)
            pictures += [
                picture_response(edit, row, image, amount, request.hold, None)
                for row, image in enumerate(serialization.encode_images(edit.pixels))
            ]
        return edit_response(parser.model.name, request, edits, pictures)

    def _candidates(self, parser: RequestParser, request: EditRequest) -> EditResponse:
        parser.limit_steps(request)
        if request.expression is None:
            raise ConfigError("answers: give an expression, not a source and a direction")
        editor, amount = parser.editor, request.amount
        resolved = self._resolve(parser, request, request.expression)
        edit = edit_resolved(editor, resolved, request.settings(amount))
        raise_if_cancelled()
        candidates = editor.candidates(edit.target_features, request.answers, refine=request.refine)
        pictures = [
            picture_response(candidates.as_edit(edit, rank), 0, image, amount, resolved.hold, None)
            for rank, image in enumerate(serialization.encode_images(candidates.pixels[0]))
        ]
        return edit_response(
            parser.model.name,
            request,
            [edit],
            pictures,
            resolved,
            latents=candidates.latents[0],
            obtained=candidates.features[0],
            pixels=candidates.pixels[0],
        )

    def _parser(self, name: str | None) -> RequestParser:
        return RequestParser(get_model(self.models, name), self.limits)

    def _resolve(self, parser: RequestParser, request: EditBase, expression: str) -> ResolvedEdit:
        files = parser.files(request.images)
        return resolver.resolve_edit(parser.editor, expression, request.hold, files)

    def _recipe(
        self, model: ServedModel, request: EditBase, resolved: ResolvedEdit, amount: float
    ) -> Recipe:
        return Recipe(
            model=model.name,
            weights=model.editor.weights,
            expression=resolved.expression,
            amount=amount,
            picture="result",
            residual=request.residual,
            corrections=request.corrections,
            refine=request.refine,
            files=dict(resolved.files),
            controlgen=__version__,
        )
