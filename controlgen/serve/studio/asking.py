"""What the page asks of the models: each request goes through the queue, as those of the API do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from controlgen.editing import Samples
from controlgen.editing.expressions import resolver
from controlgen.editing.expressions.files import UploadedFiles
from controlgen.errors import ConfigError
from controlgen.evaluation.axes import move_along_axis
from controlgen.serve import serialization
from controlgen.serve.job_queue import JobQueue
from controlgen.serve.registry import ServedModel, get_model
from controlgen.serve.schemas import DirectionRequest, DirectionResponse, EditRequest, SweepRequest
from controlgen.serve.service import Service
from controlgen.serve.studio.visits import Drawing, Visit
from controlgen.serve.studio.wishes import Wish, names_in
from controlgen.utils.cancellation import raise_if_cancelled

SIGMAS = 3.0  # to either side, that an axis is pictured at


class AxisShown(NamedTuple):
    """One axis: its share of the family's variance, and PNG files as base64 of both its ends."""

    place: int
    share: float
    less: str
    more: str


class AxesShown(NamedTuple):
    """The first axes of a family, walked from one source (a PNG file as base64)."""

    family: str
    source: str
    axes: list[AxisShown]


@dataclass(frozen=True)
class Asking:
    """Requests of one page's visit. Every method raises what the Service and the queue raise."""

    service: Service
    work: JobQueue

    def served(self, visit: Visit) -> ServedModel:
        """The model that the visit works with."""
        return get_model(self.service.models, visit.model)

    async def draw(
        self, visit: Visit, wish: Wish, text: str | None = None, live: bool = False
    ) -> Drawing:
        """A wish, or the very expression that it was read from; drawn, it is the visit's."""
        text = str(wish) if text is None else text
        steps = visit.settings.steps if wish.moves else 1
        asked = SweepRequest(
            amounts=[step / steps for step in range(1, steps + 1)], **self._asked(visit, text)
        )
        saved = dict(self.served(visit).directions)
        answer = await self.work.run(lambda: self.service.sweep(asked))
        recipe = answer.pictures[-1].recipe or {}
        drawing = Drawing(
            number=visit.next_number(),
            model=answer.model,
            wish=wish,
            settings=visit.settings,
            text=text,
            answer=answer,
            images=asked.images,
            directions={name: saved[name] for name in recipe["files"] if name in saved},
            live=live,
        )
        visit.wish = wish
        visit.keep(drawing)
        return drawing

    async def variants(self, visit: Visit, count: int) -> Drawing:
        """So many answers of the map to what the visit's drawing asks for, best first."""
        drawing = visit.current
        if drawing is None:
            raise ConfigError("nothing is drawn yet")
        asked = EditRequest(answers=count, **self._asked(visit, drawing.text))
        answer = await self.work.run(lambda: self.service.edit(asked))
        drawing = replace(drawing, variants=answer)
        visit.replace(drawing)
        return drawing

    async def take(
        self, visit: Visit, files: Sequence[tuple[str, str]], folder: str = ""
    ) -> list[str]:
        """Keep images (names, base64) that the model can read, all or none; returns their names."""
        shape, limits = self.served(visit).editor.image_shape, self.service.limits
        visit.check_room(files)

        def checked() -> None:
            for name, content in files:
                raise_if_cancelled()
                serialization.decode_image(
                    serialization.from_base64(content, name), name, shape, limits
                )

        await self.work.run(checked)
        return [visit.take(name, content, folder) for name, content in files]

    async def axes(self, visit: Visit, family: str, count: int) -> AxesShown:
        """What the first axes of a family do to the visit's start."""
        served, start = self.served(visit), visit.wish.start
        images = {
            name: serialization.from_base64(visit.images[name], name)
            for name in names_in(start, list(visit.images))
        }

        def walked() -> AxesShown:
            editor, files = served.editor, UploadedFiles(images)
            source = resolver.resolve_edit(editor, start, files=files).source
            latents = source if source.ndim == 2 else editor.invert(editor.embed(source))
            sample = Samples(latents, editor.generate(latents))
            actual, displayed = editor.axes.family(family), []
            for place, row in enumerate(actual.vectors[:count]):
                raise_if_cancelled()
                ends = [
                    serialization.to_base64(
                        serialization.encode_png(
                            move_along_axis(editor, actual.latent, row, sample, amount)
                        )
                    )
                    for amount in (-SIGMAS, SIGMAS)
                ]
                displayed.append(AxisShown(place + 1, float(actual.shares[place]), *ends))
            return AxesShown(
                family, serialization.to_base64(serialization.encode_png(sample.pixels)), displayed
            )

        return await self.work.run(walked)

    async def keep(self, visit: Visit, name: str) -> DirectionResponse:
        """Keep the visit's directions, with their amounts, as one under a name."""
        text = visit.wish.changes()
        asked = DirectionRequest(
            model=visit.model,
            name=name,
            expression=text,
            hold=list(visit.wish.hold),
            images=self._images(visit, text),
        )
        return await self.work.run(lambda: self.service.direction(asked))

    def _asked(self, visit: Visit, text: str) -> dict[str, Any]:
        settings = visit.settings
        return {
            "model": visit.model,
            "expression": text,
            "residual": settings.residual,
            "refine": settings.refine,
            "images": self._images(visit, text),
        }

    def _images(self, visit: Visit, text: str) -> dict[str, str]:
        return {name: visit.images[name] for name in names_in(text, list(visit.images))}


def too_many(files: Sequence[Any], most: int) -> None:
    """Raise ConfigError beyond so many files at once."""
    if len(files) > most:
        raise ConfigError(f"{len(files)} images; at most {most} are taken at once")
