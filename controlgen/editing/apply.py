"""How edits are made: what is asked, what the map answers, what came out of it.

Each takes n sources: samples, latents, or pixels of real images, whose latents are then the map's
answers to their features. What the arguments mean is said in `controlgen.editing.editor`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.editing.attribute_feedback import Goal, corrected, goal
from controlgen.editing.attribute_model import Made, required
from controlgen.editing.edit import Edit, Samples
from controlgen.editing.protocols import Model
from controlgen.editing.refine import check_steps
from controlgen.errors import ConfigError, Incompatible
from controlgen.types import Direction, Features, Latents, Pixels

CORRECTIONS = 8  # rounds that an edit which holds attributes gets unless told otherwise


class Start(NamedTuple):
    """Where n edits start: Latents (n z), Pixels (n c h w) and the Features (n d) of those."""

    latents: Latents
    pixels: Pixels
    features: Features


Sources = Latents | Pixels | Samples | Start


def in_features(
    model: Model,
    source: Sources,
    direction: Direction,
    amount: float,
    residual: bool,
    hold: str | Sequence[str],
    corrections: int | None,
    refine: int,
) -> Edit:
    """Move sources by amount * direction (d) in feature space. Raises as `Editor.edit`."""
    _check_move(direction, model.space.size, amount)
    check_steps(refine)
    rounds = _rounds(hold, corrections)
    if len(hold):
        direction = required(model.attributes).held(direction, hold)
    start, aimed = started(model, source), None
    if rounds:
        aimed = goal(required(model.attributes), start.pixels, direction, amount, hold)
        if not (len(hold) or aimed.weights.any()):
            raise ConfigError(
                f"corrections = {rounds}: nothing is held and the change is not one of attributes "
                "alone, so there is nothing to correct; leave them out, or name what to hold"
            )
    loop = (refine, hold, aimed, rounds)
    asked = feature_math.add(start.features, direction, amount)
    if not residual:
        return _answered(model, start, asked, model.invert, *loop)

    # What amount 0 would ask for, to the last bit: the difference is then exactly zero.
    before = model.invert(feature_math.add(start.features, direction, 0.0))

    def moved(asked: Features) -> Latents:
        return np.asarray(start.latents + (model.invert(asked) - before), np.float32)

    return _answered(model, start, asked, moved, *loop)


def in_latents(model: Model, source: Sources, direction: Latents, amount: float) -> Edit:
    """Move sources by amount * direction (z) in latent space. Raises as `in_features`."""
    _check_move(direction, model.latent_size, amount)
    start = started(model, source)
    moved = np.asarray(start.latents + np.float32(amount) * direction, np.float32)
    pixels = model.generate(moved)
    obtained = model.embed(pixels)
    return Edit(pixels, moved, obtained, obtained, *_origin(start), model=model.attributes)


def between(model: Model, start: Sources, end: Sources, position: float, refine: int) -> Edit:
    """The images between two, at 0..1 on the great circle between their features."""
    check_steps(refine)
    first = started(model, start)
    asked = feature_math.slerp(first.features, started(model, end).features, position)
    return _answered(model, first, asked, model.invert, refine)


def started(model: Model, source: Sources) -> Start:
    """Latents, pixels and features of sources. Raises Incompatible for pixels not uint8."""
    if isinstance(source, Start):
        return source
    if isinstance(source, Samples):
        return Start(source.latents, source.pixels, model.embed(source.pixels))
    if source.ndim == 4:
        if source.dtype != np.uint8:
            raise Incompatible("pixels must be uint8 0..255 of shape (n, c, h, w)")
        features = model.embed(source)
        return Start(model.invert(features), source, features)
    pixels = model.generate(source)
    return Start(np.asarray(source, np.float32), pixels, model.embed(pixels))


def check_amount(amount: float, said: str = "") -> None:
    """Raise ConfigError for an amount that is not finite, or beyond 1e6 in size.

    Far beyond it nothing of the source is left, and further still float32 ends. `said` is what the
    error calls it.
    """
    if not abs(amount) <= feature_math.LARGEST:
        called = said or f"amount {amount:g}"
        raise ConfigError(
            f"{called}: must be a finite number, up to {feature_math.LARGEST:g} in size"
        )


def _answered(
    model: Model,
    start: Start,
    asked: Features,
    mapped: Callable[[Features], Latents],
    refine: int,
    hold: str | Sequence[str] = (),
    aimed: Goal | None = None,
    rounds: int = 0,
) -> Edit:
    # What the map answers to what is asked, refined, corrected towards its goal, embedded again.
    def make(asked: Features) -> Made:
        answer = model.refine(mapped(asked), asked, refine)
        return Made(answer, model.generate(answer))

    if aimed:
        asked, made = corrected(required(model.attributes), hold, aimed, asked, make, rounds)
    else:
        made = make(asked)
    # What the map's own answers have: only where something is to be believed by it.
    own = None
    if refine and model.reachability is not None:
        own = model.embed(model.generate(mapped(asked)))
    answer = (made.pixels, made.latents, asked, model.embed(made.pixels))
    return Edit(*answer, *_origin(start), model.attributes, model.reachability, own)


def _origin(start: Start) -> tuple[Pixels, Latents, Features]:
    # In the order in which an Edit has them.
    return start.pixels, start.latents, start.features


def _rounds(hold: str | Sequence[str], corrections: int | None) -> int:
    if corrections is None:
        return CORRECTIONS if len(hold) else 0
    if corrections < 0:
        raise ConfigError(f"corrections = {corrections}: give 0 or more")
    return corrections


def _check_move(direction: NDArray[np.float32], size: int, amount: float) -> None:
    if direction.shape != (size,):
        raise Incompatible(f"direction of shape {direction.shape}: must be ({size},) here")
    if not np.abs(direction).max(initial=0) <= feature_math.LARGEST:
        raise ConfigError(
            f"direction: must hold finite numbers, up to {feature_math.LARGEST:g} in size"
        )
    check_amount(amount)
