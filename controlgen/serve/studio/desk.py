"""What the page asks when it is used, and what it then shows: names of its parts -> new values."""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from pydantic import ValidationError

from controlgen.editing.directions.axes import FAMILIES
from controlgen.editing.expressions.parser import Call, Number, String, format_expression, quote
from controlgen.errors import ConfigError, ControlGenError, DataError
from controlgen.serve.studio import showing
from controlgen.serve.studio.asking import Asking, too_many
from controlgen.serve.studio.visits import Settings, Visit, Visits
from controlgen.serve.studio.wishes import MOST, Part, Wish, read

LOG = logging.getLogger("controlgen.serve")
AXES = 6  # of a family, that are pictured
FAR = 3.0  # a slider reaches, or as far as it stands
ANEW = "This page had been forgotten, so it begins anew; do that again."
FAILED = "That failed, and not by what you asked; the server's log says more."

Updates = dict[str, Any]  # a part of the page -> its value, or a dict of its settings
Job = Callable[..., Awaitable[Updates]]


@dataclass(frozen=True)
class Desk:
    """Answers the events of the page. Each takes the visit and the values of the controls."""

    asking: Asking
    visits: Visits

    @property
    def most_steps(self) -> int:
        """Pictures that may lead to a result."""
        return min(self.asking.service.limits.amounts, 8)

    async def answer(self, job: Job, name: str | None, *given: Any) -> Updates:
        """What a job shows; what went wrong is one sentence on the page, and nothing else."""
        visit = self.visits.of(name)
        try:
            if job in (self.slide, self.left, self.removed):
                # A slider is known by its place, which is that of the directions shown by now.
                given = (visit.wish.parts, *given)
            # What one page asks is done one after the other, each upon what came of the last.
            async with visit.turn():
                if not visit.met and job != self.opened:
                    # It was silent for too long, or the server began anew since.
                    displayed = {"message": showing.message(ANEW, error=True)}
                    return {**await self.opened(visit), **displayed}
                displayed = {"message": showing.message(""), **await job(visit, *given)}
                return {**displayed, **self._outdated(visit)}
        except ControlGenError as error:
            words = str(error)
        except ValidationError as error:
            first = error.errors()[0]
            words = f"{first['loc'][-1] if first['loc'] else 'asked'}: {first['msg']}"[:300]
        except Exception:
            LOG.exception("the studio failed")
            return {"message": showing.message(FAILED, error=True)}
        # A box that is still being typed in is left alone; all else shows what is.
        typing = job in (self.seed, self.slide, self.settings)
        controls = {} if typing else self._controls(visit)
        return {"message": showing.message(words, error=True), **controls}

    async def opened(self, visit: Visit) -> Updates:
        """The page as it begins; what the model is stands there though nothing can be drawn."""
        visit.met = True
        message: Updates = {}
        if visit.current is None:
            try:
                await self.asking.draw(visit, visit.wish)
            except ControlGenError as error:
                message = {"message": showing.message(str(error), error=True)}
        displayed = {**self._controls(visit), **self._model(visit), **self._pictures(visit)}
        return {**displayed, **message}

    async def model(self, visit: Visit, name: str) -> Updates:
        """Another model: the start stays where it can, directions do not."""
        before, wish = visit.model, visit.wish
        visit.model = str(name)
        start = wish.start if wish.start.startswith(("seed", "image")) else "seed(7)"
        try:
            await self.asking.draw(visit, Wish(start))
        except ControlGenError:
            visit.model = before
            raise
        return {**self._controls(visit), **self._model(visit), **self._pictures(visit)}

    async def seed(self, visit: Visit, seed: Any) -> Updates:
        """Start from a sample of this seed."""
        start = f"seed({_whole_number(seed, 'the seed')})"
        await self.asking.draw(visit, replace(visit.wish, start=start), live=True)
        return self._pictures(visit)

    async def another(self, visit: Visit) -> Updates:
        """Start from the next seed."""
        seed = visit.wish.seed
        start = f"seed({0 if seed is None else seed + 1})"
        return await self._redrawn(visit, replace(visit.wish, start=start))

    async def image(self, visit: Visit, event: Any) -> Updates:
        """Start from an image of one's own."""
        files = _files(event)
        too_many(files, 1)
        [name] = await self.asking.take(visit, files)
        return await self._redrawn(visit, replace(visit.wish, start=f"image({quote(name)})"))

    async def slide(self, visit: Visit, parts: Sequence[Part], *amounts: Any) -> Updates:
        """Sliders moved: pictures follow, the controls are left in the reader's hand."""
        await self.asking.draw(visit, _with_amounts(visit.wish, parts, amounts), live=True)
        return self._pictures(visit)

    async def left(self, visit: Visit, parts: Sequence[Part], *amounts: Any) -> Updates:
        """A slider or its box was left: what it shows is drawn."""
        if _with_amounts(visit.wish, parts, amounts) == visit.wish:
            return {}
        return await self.slide(visit, parts, *amounts)

    async def removed(self, visit: Visit, parts: Sequence[Part], place: int) -> Updates:
        """One direction less."""
        gone = parts[place].change if place < len(parts) else None
        parts = tuple(part for part in visit.wish.parts if part.change != gone)
        return await self._redrawn(visit, replace(visit.wish, parts=parts))

    async def text(self, visit: Visit, more: str, less: str) -> Updates:
        """A text, less a neutral one."""
        more, less = str(more or "").strip(), str(less or "").strip()
        if not more:
            raise ConfigError("write what there should be more of")
        if not less:
            raise ConfigError("write what it is the contrary of, as in a bold digit, a thin digit")
        return await self._added(visit, f"text({quote(more)}) - text({quote(less)})")

    async def gather(self, visit: Visit, side: str, event: Any) -> Updates:
        """More pictures for one side of a direction."""
        files = _files(event)
        too_many(files, 64)
        await self.asking.take(visit, files, visit.folder(side))
        return self._gathered(visit)

    async def groups(self, visit: Visit) -> Updates:
        """The two groups of pictures as a direction."""
        if not visit.group("more") or not visit.group("less"):
            raise ConfigError("each of the two groups needs at least one picture")
        sides = [f"mean({quote(visit.folder(side) + '*')})" for side in ("more", "less")]
        displayed = await self._added(visit, " - ".join(sides))
        visit.groups += 1
        return {**displayed, **self._gathered(visit)}

    async def axes(self, visit: Visit, family: str) -> Updates:
        """The first axes of a family, walked from the start."""
        if family not in FAMILIES:
            raise ConfigError(f"axes: there is {', '.join(FAMILIES)}")
        displayed = showing.axes(await self.asking.axes(visit, family, AXES))
        visit.walked = (visit.model, visit.wish.start)
        return {"axes": displayed}

    async def axis(self, visit: Visit, event: Any) -> Updates:
        """An axis as a direction: the one whose pictures were clicked, of the family they show."""
        family, place = str(_event_field(event, "family")), _number(_event_field(event, "axis"))
        call = Call("axis", (String(family), Number(place)))
        return await self._added(visit, format_expression(call))

    async def attribute(self, visit: Visit, name: str) -> Updates:
        """A measured attribute as a direction."""
        if not name:
            raise ConfigError("choose what is measured")
        return await self._added(visit, f"attribute({quote(str(name))})")

    async def saved(self, visit: Visit, name: str) -> Updates:
        """A saved direction."""
        if not name:
            raise ConfigError("choose a saved direction; there is none before one is kept")
        return await self._added(visit, f"direction({quote(str(name))})")

    async def keep(self, visit: Visit, name: str) -> Updates:
        """Keep the directions as one, for everybody whom this server serves."""
        name = str(name).strip().lower()
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name):
            raise ConfigError("a name is small letters, digits and dashes, as in bold-and-slanted")
        saved = await self.asking.keep(visit, name)
        href = f"v1/models/{visit.model}/directions/{saved.file}"
        words = f"Kept as {saved.file}; it is among the saved directions until the server stops."
        return {
            **self._model(visit),
            "keep_name": "",
            "message": showing.link_message(words, href, "Download the file"),
        }

    async def hold(self, visit: Visit, names: Sequence[str]) -> Updates:
        """Attributes that are to stay where they were."""
        held = tuple(map(str, names)) if isinstance(names, list) else ()
        return await self._redrawn(visit, replace(visit.wish, hold=held))

    async def settings(self, visit: Visit, steps: Any, residual: Any, refine: Any) -> Updates:
        """How it is drawn."""
        before, most = visit.settings, self.most_steps
        pictures = _whole_number(steps, "pictures on the way")
        if not 1 <= pictures <= most:
            raise ConfigError(f"pictures on the way: from 1 to {most}")
        visit.settings = Settings(
            pictures, bool(residual), _whole_number(refine, "steps of refinement")
        )
        try:
            await self.asking.draw(visit, visit.wish)
        except ControlGenError:
            visit.settings = before
            raise
        return self._pictures(visit)

    async def settings_left(self, visit: Visit, steps: Any, residual: Any, refine: Any) -> Updates:
        """A slider of the settings or its box was left: it shows what is drawn with."""
        if (steps, bool(residual), refine) == astuple(visit.settings):
            return {}
        return await self.settings(visit, steps, residual, refine)

    async def expression(self, visit: Visit, text: str) -> Updates:
        """An expression written by hand: it is drawn as it stands, and the sliders follow it."""
        await self.asking.draw(visit, read(str(text)), str(text).strip())
        return {**self._controls(visit), **self._pictures(visit)}

    async def variants(self, visit: Visit, count: Any) -> Updates:
        """Several answers of the map to what is shown."""
        drawing = await self.asking.variants(visit, max(int(_number(count)), 2))
        return {"variants": showing.variants(drawing), "parcel": showing.parcel_link(visit)}

    async def back(self, visit: Visit, event: Any) -> Updates:
        """A drawing of the past, with the controls as they were."""
        drawing = visit.find(int(_number(_event_field(event, "drawing"))))
        visit.current, visit.wish, visit.settings = drawing, drawing.wish, drawing.settings
        visit.model = drawing.model
        return {**self._controls(visit), **self._model(visit), **self._pictures(visit)}

    async def forget(self, visit: Visit) -> Updates:
        """Forget the images of this visit, and what was drawn with them."""
        visit.images.clear()
        saved = [item for item in visit.past if not item.images]
        visit.past.clear()
        visit.past.extend(saved)
        if visit.current is not None and visit.current.images:
            await self.asking.draw(visit, Wish())
        return {**self._gathered(visit), **self._controls(visit), **self._pictures(visit)}

    async def _redrawn(self, visit: Visit, wish: Wish) -> Updates:
        await self.asking.draw(visit, wish)
        return {**self._controls(visit), **self._pictures(visit)}

    async def _added(self, visit: Visit, change: str) -> Updates:
        return await self._redrawn(visit, visit.wish.with_part(change))

    def _outdated(self, visit: Visit) -> Updates:
        # Axes that were walked from another start say nothing of this one.
        if visit.walked in (None, (visit.model, visit.wish.start)):
            return {}
        visit.walked = None
        return {"axes": ""}

    def _pictures(self, visit: Visit) -> Updates:
        drawing = visit.current
        if drawing is None:
            return {}
        return {
            "strip": showing.strip(drawing),
            "compare": showing.compare(drawing),
            "variants": showing.variants(drawing),
            "expression": drawing.text,
            "recipe": showing.recipe(drawing),
            "parcel": showing.parcel_link(visit),
            "past": showing.past(visit),
        }

    def _controls(self, visit: Visit) -> Updates:
        wish = visit.wish
        displayed: Updates = {"hold": {"value": list(wish.hold)}}
        if wish.seed is not None:
            displayed["seed"] = wish.seed
        for place in range(MOST):
            part = wish.parts[place] if place < len(wish.parts) else None
            displayed[f"part{place}"] = {"visible": part is not None}
            displayed[f"slider{place}"] = _slider(place, part)
        displayed["settings_steps"] = visit.settings.steps
        displayed["settings_residual"] = visit.settings.residual
        displayed["settings_refine"] = visit.settings.refine
        displayed["nothing"] = {"visible": not wish.parts}
        return displayed

    def _model(self, visit: Visit) -> Updates:
        served = self.asking.served(visit)
        text = served.to_schema()
        return {
            "model": visit.model,
            "about": showing.about(served),
            "by_text": {"visible": text.space.text},
            "no_text": {"visible": not text.space.text},
            "by_attribute": {"visible": bool(text.attributes)},
            "no_attribute": {"visible": not text.attributes},
            "attribute": {"choices": _spaced(text.attributes), "value": None},
            "hold": {
                "choices": _spaced(text.attributes),
                "value": list(visit.wish.hold),
                "visible": bool(text.attributes),
            },
            "saved": {"choices": text.directions, "value": None},
            "axes": "",
        }

    def _gathered(self, visit: Visit) -> Updates:
        return {side: showing.gathered(visit, side) for side in ("more", "less")}


def _with_amounts(wish: Wish, parts: Sequence[Part], amounts: Sequence[Any]) -> Wish:
    # An emptied box is about to be written in: its direction stays as it was. What was asked of
    # directions that are gone by now is left out.
    expected = {
        part.change: _number(amount)
        for part, amount in zip(parts, amounts, strict=False)
        if amount is not None
    }
    parts = tuple(
        replace(item, amount=expected.get(item.change, item.amount)) for item in wish.parts
    )
    return replace(wish, parts=parts)


def _slider(place: int, part: Part | None) -> Updates:
    if part is None:
        return {"value": 0.0, "label": f"Direction {place + 1}"}
    far = max(FAR, abs(part.amount))
    label = f"{place + 1}. {part.label}"
    return {"value": part.amount, "label": label, "minimum": -far, "maximum": far}


def _spaced(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), name) for name in names]


def _files(event: Any) -> list[tuple[str, str]]:
    # Names and contents (base64), as the page's own script sends them.
    files = _event_field(event, "files")
    if not isinstance(files, list) or not files:
        raise DataError("no image came")
    actual = []
    for file in files:
        name, data = (file.get("name"), file.get("data")) if isinstance(file, Mapping) else (0, 0)
        if not isinstance(name, str) or not isinstance(data, str):
            raise DataError("no image came")
        actual.append((name, data))
    return actual


def _event_field(event: Any, key: str) -> Any:
    if not isinstance(event, Mapping):
        return None
    if event.get("too_large"):
        raise DataError(f"{event['too_large']!s:.100}: too large to be sent")
    return event.get(key)


def _whole_number(value: Any, what: str) -> int:
    number = -1.0 if value in (None, "") else _number(value)
    if number < 0 or number != int(number):
        raise ConfigError(f"{what} must be a whole number from 0 on")
    return int(number)


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError("a number is wanted here") from None
    if not -1e15 < number < 1e15:
        raise ConfigError("this number is too large, or none")
    return number
