"""A direction of what a user has measured: one number an image, read off the images' features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.editing.attribute_model import FEWEST, AttributeModel, required
from controlgen.editing.protocols import Model
from controlgen.errors import ConfigError, Incompatible
from controlgen.types import Direction, Pixels

Values = NDArray[np.float64]
Given = Sequence[float] | NDArray[Any]
GIVEN = "the given values"  # their name beside the attributes that a map measures
ALIKE = 1e-9  # deviation of values, over the largest of them, that is rounding


@dataclass(frozen=True)
class Named:
    """Attributes that nothing here measures: their values are given."""

    names: tuple[str, ...]


def direction_of_values(
    model: Model, values: Given, of: Pixels, hold: str | Sequence[str]
) -> Direction:
    """The change (d) along which a number (n) measured on Pixels (n c h w) grows by one sigma.

    A sigma is that of the values given. The change is that of `AttributeModel.direction`: the most
    likely one among the bank's images, `hold` left alone. Raises as `checked` and `required`, and
    ConfigError where the features do not show the values, or not apart from `hold`.
    """
    wanted = checked(values, of)
    # The last tenth of the rows takes no part in a fit, and what is given may be sorted.
    order = rng.stream(0, "given values").permutation(len(wanted))
    settings: Any = Named((GIVEN,))
    features = model.embed(of)[order]
    own = AttributeModel.fitted(settings, wanted[order, None], features, model.statistics)
    if not len(hold):
        return own.direction(GIVEN)

    # The values as one attribute more of those that the map knows.
    known = required(model.attributes)
    known.columns(hold)
    parts: dict[str, Any] = {
        name: np.concatenate([array, known.arrays()[name]]) for name, array in own.arrays().items()
    }
    parts["settings"] = Named((GIVEN, *known.names))
    both = replace(own, **parts)
    return both.direction(GIVEN, hold)


def checked(values: Given, of: Pixels) -> Values:
    """Values (n) of as many Pixels (n c h w), in sigmas from their mean.

    Raises ConfigError where there are not as many, fewer than a fit needs, one is not a finite
    number, or all are alike; Incompatible for what are no pixels.
    """
    if of.ndim != 4 or of.dtype != np.uint8:
        raise Incompatible("direction: of= must be uint8 0..255 of shape (n, c, h, w)")
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ConfigError("direction: values= must be numbers, one an image") from None
    if found.shape != (len(of),):
        raise ConfigError(
            f"direction: values of shape {found.shape} for {len(of)} images; give one number an "
            "image"
        )
    if len(found) < FEWEST:
        raise ConfigError(f"direction: {len(found)} values are too few; give at least {FEWEST}")
    if bad := int((~np.isfinite(found)).sum()):
        raise ConfigError(
            f"direction: {bad} of {len(found)} values are not finite; leave those images out"
        )
    # Over the largest, so that no unit is too small or too large to be squared.
    scaled = found / max(float(np.abs(found).max()), np.finfo(np.float64).tiny)
    deviation = scaled - scaled.mean()
    sigma = float(deviation.std())
    if sigma <= ALIKE:
        raise ConfigError(
            f"direction: all {len(found)} values are alike; give images that differ in them"
        )
    return np.asarray(deviation / sigma)
