"""Directions from values that a user measured, one number per image, by regression on features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.editing.attribute_model import MIN_IMAGES, AttributeModel, require_attributes
from controlgen.editing.protocols import EditorProtocol
from controlgen.errors import ConfigError, Incompatible
from controlgen.types import Direction, Pixels

Values = NDArray[np.float64]
ValuesLike = Sequence[float] | NDArray[Any]
VALUES_NAME = "the given values"  # as an attribute
MIN_SPREAD = 1e-9  # standard deviation, relative to the largest value, above rounding


@dataclass(frozen=True)
class GivenAttributes:
    """Attributes with given values, for which there is no measuring function."""

    names: tuple[str, ...]


def direction_from_values(
    model: EditorProtocol, values: ValuesLike, of: Pixels, hold: str | Sequence[str]
) -> Direction:
    """The direction (d) along which values (n) of Pixels (n c h w) grow by one sigma.

    Sigma is that of the values. The direction is that of `AttributeModel.direction`: the most
    likely one under the bank's covariance with `hold` constant. Raises as `validate_values` and
    `require_attributes`, and ConfigError where the features do not determine the values, or not
    independently of `hold`.
    """
    sigmas = validate_values(values, of)
    # A fit holds out the last tenth of its rows, and the values may be sorted.
    order = rng.stream(0, "given values").permutation(len(sigmas))
    settings: Any = GivenAttributes((VALUES_NAME,))
    features = model.embed(of)[order]
    fitted = AttributeModel.fit(settings, sigmas[order, None], features, model.statistics)
    if not len(hold):
        return fitted.direction(VALUES_NAME)

    # With `hold`, the values become one more attribute of the map's own model.
    attributes = require_attributes(model.attributes)
    attributes.indices(hold)
    others = attributes.arrays()
    joint: dict[str, Any] = {
        name: np.concatenate([array, others[name]]) for name, array in fitted.arrays().items()
    }
    joint["settings"] = GivenAttributes((VALUES_NAME, *attributes.names))
    return replace(fitted, **joint).direction(VALUES_NAME, hold)


def validate_values(values: ValuesLike, of: Pixels) -> Values:
    """Values (n) of Pixels (n c h w), standardised to mean 0 and sigma 1.

    Raises ConfigError where the counts differ, there are too few for a fit, a value is not a finite
    number, or all are equal; Incompatible where `of` is not a Pixels array.
    """
    if of.ndim != 4 or of.dtype != np.uint8:
        raise Incompatible("direction: of= must be uint8 0..255 of shape (n, c, h, w)")
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ConfigError("direction: values= must be one number per image") from None
    if numbers.shape != (len(of),):
        raise ConfigError(
            f"direction: values of shape {numbers.shape} for {len(of)} images; give one number per "
            "image"
        )
    if len(numbers) < MIN_IMAGES:
        raise ConfigError(
            f"direction: {len(numbers)} values are too few; give at least {MIN_IMAGES}"
        )
    if bad := int((~np.isfinite(numbers)).sum()):
        raise ConfigError(
            f"direction: {bad} of {len(numbers)} values are not finite; leave those images out"
        )
    # Relative to the largest, so that squares neither underflow nor overflow in any unit.
    scaled = numbers / max(float(np.abs(numbers).max()), np.finfo(np.float64).tiny)
    deviation = scaled - scaled.mean()
    sigma = float(deviation.std())
    if sigma <= MIN_SPREAD:
        raise ConfigError(
            f"direction: all {len(numbers)} values are equal; give images that differ"
        )
    return np.asarray(deviation / sigma)
