"""Attribute feedback: measure the attributes of the results and add what is missing to the target.

A map does not change attributes by exactly what the linear model predicts: it follows some changes
less than others, and changes other attributes with them. The mean response to a requested change is
the model's `response`, a matrix measured once when the map is fitted. Each image's own response is
estimated by rank-1 updates (Broyden 1965, "A class of methods for solving nonlinear simultaneous
equations") in damped least-squares steps (Marquardt 1963).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing.attribute_model import AttributeModel, Generated
from controlgen.types import Direction, Features, Latents, Pixels
from controlgen.utils.rows import normalize_rows

Values = NDArray[np.float64]
HELD_WEIGHT = 2.0  # of a held attribute's squared deviation, where a changed one has 1
INITIAL_DAMPING = 0.1  # in squared sigmas; halved by a step that helps, else multiplied by 4
MAX_UNEXPLAINED = 1e-6  # share of a squared length that a sum of attribute directions may leave
RESPONSE_STEP = 0.5  # sigmas to either side over which the response is measured
RESPONSE_ITEMS = 96  # bank items whose mean response is measured
MIN_STEP = 1e-6  # squared sigmas; the response is not updated faster than by such a step


class AttributeTarget(NamedTuple):
    """Target values (n a) in sigmas, and the weight (a) of a deviation from each.

    free (a): attributes without a target; the steps leave them as the edit changed them.
    """

    values: Values
    weights: Values
    free: NDArray[np.bool_]


def attribute_target(
    model: AttributeModel,
    source: Pixels,
    direction: Direction,
    amount: float,
    hold: str | Sequence[str],
) -> AttributeTarget:
    """The attribute values that amount * direction (d) implies for source pixels (n c h w).

    Held attributes stay as in the source. If the direction is a sum of attribute directions, the
    others change as the linear model predicts; any other direction leaves them free.
    """
    held = np.zeros(len(model.names), np.bool_)
    held[model.indices(hold)] = True
    change = np.asarray(direction, np.float64)
    predicted = amount * (model.weights @ change)
    determined = np.broadcast_to(model.unexplained_share(change) < MAX_UNEXPLAINED, held.shape)
    values = model.standardize(source) + np.where(held | ~determined, 0.0, predicted)
    weights = np.where(held, HELD_WEIGHT, np.where(determined, 1.0, 0.0))
    # Attributes that features do not show, or cannot separate from held ones, have no target.
    controllable = np.zeros_like(held)
    controllable[model.controllable(hold)] = True
    free = controllable & ~held & ~determined
    return AttributeTarget(values, np.where(controllable, weights, 0.0), free)


def correct_attributes(
    model: AttributeModel,
    hold: str | Sequence[str],
    goal: AttributeTarget,
    target_features: Features,
    generate: Callable[[Features], Generated],
    iterations: int,
) -> tuple[Features, Generated]:
    """Corrected target features (n d), and the results whose attributes are nearest to the goal.

    Each image keeps the result with the least weighted square deviation, in sigmas, so no iteration
    increases it. The target features are those of this result.
    """
    columns = model.controllable(hold)
    directions = model.to_feature_direction(columns, np.eye(len(columns)))
    weights, free = goal.weights[columns], goal.free[columns]
    step_weights = np.where(free, 1.0, weights)
    n, r = len(goal.values), len(columns)

    best = generate(target_features)
    values = model.standardize(best.pixels)[:, columns]
    goal_values = np.where(free, values, goal.values[:, columns])
    error = ((goal_values - values) ** 2 @ weights)[:, None]
    total_step = np.zeros((n, r))  # sigmas added to the first target so far
    response = np.repeat(model.response_matrix(columns)[None], n, axis=0)
    damping = np.full(n, INITIAL_DAMPING)
    first = np.asarray(target_features, np.float64)
    for _ in range(iterations):
        # The damped least-squares step that reaches the goal by this image's response.
        weighted = response * step_weights[:, None]
        square = np.einsum("nij,nik->njk", weighted, response)
        square += damping[:, None, None] * np.eye(r)
        gradient = np.einsum("nij,ni->nj", weighted, goal_values - values)
        step = np.linalg.solve(square, gradient[..., None])[..., 0]
        features = normalize_rows(np.asarray(first + (total_step + step) @ directions, np.float32))
        result = generate(features)
        new_values = model.standardize(result.pixels)[:, columns]

        # Broyden's update, whether the step helped or not.
        residual = new_values - values - np.einsum("nij,nj->ni", response, step)
        length = np.maximum((step**2).sum(1), MIN_STEP)
        response += residual[:, :, None] * step[:, None, :] / length[:, None, None]
        new_error = ((goal_values - new_values) ** 2 @ weights)[:, None]
        better = new_error < error
        target_features = np.where(better, features, target_features)
        best = Generated(
            np.where(better, result.latents, best.latents),
            np.where(better[..., None, None], result.pixels, best.pixels),
        )
        total_step = np.where(better, total_step + step, total_step)
        values = np.where(better, new_values, values)
        error = np.where(better, new_error, error)
        damping *= np.where(better[:, 0], 0.5, 4.0)
    return target_features, best


def measure_response(
    model: AttributeModel,
    generate: Callable[[Latents], Pixels],
    invert: Callable[[Features], Latents],
    latents: Latents,
    features: Features,
) -> Values:
    """Change of attribute i, in sigmas, per requested sigma of attribute j: (a a), mean over items.

    Measured on bank items, their latents (n z) and features (n d), by residual edits to either
    side. Attributes that features do not show get the identity; nothing ever uses it.
    """
    columns = model.controllable(())
    response = np.eye(len(model.names))
    if not columns:
        return response
    directions = model.to_feature_direction(columns, np.eye(len(columns)))
    inverted = invert(features)

    def values_after(change: Values) -> Values:
        target = normalize_rows(np.asarray(features + change, np.float32))
        shifted = np.asarray(latents + (invert(target) - inverted), np.float32)
        return model.standardize(generate(shifted))

    for column, direction in zip(columns, directions, strict=True):
        above, below = (
            values_after(RESPONSE_STEP * direction),
            values_after(-RESPONSE_STEP * direction),
        )
        response[:, column] = ((above - below) / (2 * RESPONSE_STEP)).mean(0)
    return response
