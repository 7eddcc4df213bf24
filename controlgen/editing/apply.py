"""Apply edits: compute target features, map them to latents, generate and embed the result.

Each function takes n sources: samples, latents, or pixels of real images. A real image's latent is
the map's inversion of its features.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.editing.attribute_feedback import (
    AttributeTarget,
    attribute_target,
    correct_attributes,
)
from controlgen.editing.attribute_model import Generated, require_attributes
from controlgen.editing.edit import Edit, Samples
from controlgen.editing.expressions.resolver import ResolvedEdit
from controlgen.editing.protocols import EditorProtocol
from controlgen.editing.refine import validate_steps
from controlgen.errors import ConfigError, Incompatible
from controlgen.types import Direction, Features, Latents, Pixels

DEFAULT_CORRECTIONS = 8  # feedback iterations of an edit that holds attributes


@dataclass(frozen=True)
class EditSettings:
    """Settings of an edit; `Editor.edit` explains them. Raises ConfigError for invalid values."""

    amount: float = 1.0
    residual: bool = False
    hold: tuple[str, ...] = ()
    corrections: int | None = None
    refine: int = 0

    def __post_init__(self) -> None:
        validate_amount(self.amount)
        validate_steps(self.refine)
        if self.corrections is not None and self.corrections < 0:
            raise ConfigError(f"corrections = {self.corrections}: give 0 or more")

    @property
    def feedback_iterations(self) -> int:
        """`corrections`, by default 8 where attributes are held and 0 elsewhere."""
        if self.corrections is None:
            return DEFAULT_CORRECTIONS if self.hold else 0
        return self.corrections


class EditSource(NamedTuple):
    """Where n edits start: Latents (n z), Pixels (n c h w) and their Features (n d)."""

    latents: Latents
    pixels: Pixels
    features: Features


SourceLike = Latents | Pixels | Samples | EditSource


def edit_in_feature_space(
    model: EditorProtocol, source: SourceLike, direction: Direction, settings: EditSettings
) -> Edit:
    """Move sources by amount * direction (d) in feature space. Raises as `Editor.edit`."""
    _check_direction(direction, model.space.size)
    hold, iterations = settings.hold, settings.feedback_iterations
    if hold:
        direction = require_attributes(model.attributes).project_out(direction, hold)
    start, goal = prepare_source(model, source), None
    if iterations:
        attributes = require_attributes(model.attributes)
        goal = attribute_target(attributes, start.pixels, direction, settings.amount, hold)
        if not (hold or goal.weights.any()):
            raise ConfigError(
                f"corrections = {iterations}: nothing is held and the direction is not a sum of "
                "attribute directions, so there is nothing to correct; name attributes to hold, "
                "or omit corrections"
            )
    target = feature_math.add_direction(start.features, direction, settings.amount)
    if not settings.residual:
        return _generate_edit(model, start, target, model.invert, settings, goal)

    # The target of amount 0, to the last bit: the difference is then exactly zero.
    source_latents = model.invert(feature_math.add_direction(start.features, direction, 0.0))

    def shift_latents(target: Features) -> Latents:
        return np.asarray(start.latents + (model.invert(target) - source_latents), np.float32)

    return _generate_edit(model, start, target, shift_latents, settings, goal)


def edit_resolved(model: EditorProtocol, edit: ResolvedEdit, settings: EditSettings) -> Edit:
    """Apply a resolved expression. The expression's own `hold` is used. Raises as `Editor.edit`."""
    # A real image starts from its inverted latent.
    latents = edit.source if edit.source.ndim == 2 else model.invert(edit.features)
    source = EditSource(latents, edit.pixels, edit.features)
    return edit_in_feature_space(model, source, edit.direction, replace(settings, hold=edit.hold))


def edit_in_latent_space(
    model: EditorProtocol, source: SourceLike, direction: Latents, amount: float
) -> Edit:
    """Move sources by amount * direction (z) in latent space. Raises as `Editor.edit`."""
    _check_direction(direction, model.latent_size)
    validate_amount(amount)
    start = prepare_source(model, source)
    latents = np.asarray(start.latents + np.float32(amount) * direction, np.float32)
    pixels = model.generate(latents)
    features = model.embed(pixels)
    return Edit(pixels, latents, features, features, *_origin(start), model=model.attributes)


def interpolate_features(
    model: EditorProtocol, start: SourceLike, end: SourceLike, position: float, refine: int
) -> Edit:
    """The images at `position` 0..1 on the great circle between the features of two sources."""
    settings = EditSettings(refine=refine)
    first = prepare_source(model, start)
    target = feature_math.slerp(first.features, prepare_source(model, end).features, position)
    return _generate_edit(model, first, target, model.invert, settings)


def prepare_source(model: EditorProtocol, source: SourceLike) -> EditSource:
    """Latents, pixels and features of sources. Raises Incompatible for pixels not uint8."""
    if isinstance(source, EditSource):
        return source
    if isinstance(source, Samples):
        return EditSource(source.latents, source.pixels, model.embed(source.pixels))
    if source.ndim == 4:
        if source.dtype != np.uint8:
            raise Incompatible("pixels must be uint8 0..255 of shape (n, c, h, w)")
        features = model.embed(source)
        return EditSource(model.invert(features), source, features)
    pixels = model.generate(source)
    return EditSource(np.asarray(source, np.float32), pixels, model.embed(pixels))


def validate_amount(amount: float, label: str = "") -> None:
    """Raise ConfigError for an amount that is not finite, or beyond 1e6 in size.

    Far beyond it nothing of the source is left, and float32 overflows. `label` names the amount in
    the message.
    """
    if not abs(amount) <= feature_math.MAX_MAGNITUDE:
        raise ConfigError(
            f"{label or f'amount {amount:g}'}: must be a finite number, up to "
            f"{feature_math.MAX_MAGNITUDE:g} in size"
        )


def _generate_edit(
    model: EditorProtocol,
    start: EditSource,
    target: Features,
    latents_for: Callable[[Features], Latents],
    settings: EditSettings,
    goal: AttributeTarget | None = None,
) -> Edit:
    # The map's latents for the target: refined, corrected towards the goal, generated, embedded.
    def generate(target: Features) -> Generated:
        latents = model.refine(latents_for(target), target, settings.refine)
        return Generated(latents, model.generate(latents))

    if goal:
        attributes, iterations = require_attributes(model.attributes), settings.feedback_iterations
        target, result = correct_attributes(
            attributes, settings.hold, goal, target, generate, iterations
        )
    else:
        result = generate(target)
    # Confidence is judged by the unrefined result; without a confidence model nobody needs it.
    map_features = None
    if settings.refine and model.confidence_model is not None:
        map_features = model.embed(model.generate(latents_for(target)))
    return Edit(
        result.pixels,
        result.latents,
        target,
        model.embed(result.pixels),
        *_origin(start),
        model.attributes,
        model.confidence_model,
        map_features,
    )


def _origin(start: EditSource) -> tuple[Pixels, Latents, Features]:
    # In the order of an Edit's fields.
    return start.pixels, start.latents, start.features


def _check_direction(direction: NDArray[np.float32], size: int) -> None:
    if direction.shape != (size,):
        raise Incompatible(f"direction of shape {direction.shape}: must be ({size},) here")
    if not np.abs(direction).max(initial=0) <= feature_math.MAX_MAGNITUDE:
        raise ConfigError(
            f"direction: must hold finite numbers, up to {feature_math.MAX_MAGNITUDE:g} in size"
        )
