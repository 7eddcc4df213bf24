"""The closed loop: attributes are measured on the pictures made, and what is missing is asked for.

What is asked of an attribute is not what comes out: the map answers some wishes less than others,
and one by the change of another. How attributes answer on average is the model's `response`, a
matrix measured once when a map is fitted. Each image's own is learned on the way by rank-1 updates
(Broyden 1965, "A class of methods for solving nonlinear simultaneous equations"), in damped
least-squares steps (Marquardt 1963).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.editing import feature_math
from controlgen.editing.attribute_model import AttributeModel, Made
from controlgen.types import Direction, Features, Latents, Pixels

Values = NDArray[np.float64]
Make = Callable[[Features], Made]
HELD_WEIGHT = 2.0  # of a held attribute's squared deviation, beside 1 of a moved one's
DAMPING = 0.1  # at first, in squared sigmas asked; halved by a step that helps, else times 4
OF_ATTRIBUTES = 1e-6  # share of a change's squared length that no attribute explains, at most
STEP = 0.5  # sigmas to either side over which the response is measured
MEASURED_ON = 96  # bank items that it is the mean of
SHORT = 1e-6  # squared sigmas asked below which a step teaches nothing


class Goal(NamedTuple):
    """Where attributes shall be: `wanted` (n a) in sigmas, and the weight (a) of being off.

    `kept` (a): attributes that nobody asked about; steps leave them as the edit made them.
    """

    wanted: Values
    weights: Values
    kept: NDArray[np.bool_]


def goal(
    model: AttributeModel,
    source: Pixels,
    direction: Direction,
    amount: float,
    hold: str | Sequence[str],
) -> Goal:
    """What amount * direction (d) asks of the attributes of source pixels (n c h w).

    What is held stays as in the source. A change that is made of attributes alone takes the others
    where the linear model says it does; any other change says nothing of them.
    """
    held = np.zeros(len(model.names), np.bool_)
    held[model.columns(hold)] = True
    change = np.asarray(direction, np.float64)
    asks = amount * (model.weights @ change)
    told = np.broadcast_to(model.of_attributes(change) < OF_ATTRIBUTES, held.shape)
    wanted = model.standard(source) + np.where(held | ~told, 0.0, asks)
    weights = np.where(held, HELD_WEIGHT, np.where(told, 1.0, 0.0))
    # What the features do not show, or cannot tell from what is held, is not asked for.
    reached = np.zeros_like(held)
    reached[model.steered(hold)] = True
    return Goal(wanted, np.where(reached, weights, 0.0), reached & ~held & ~told)


def corrected(
    model: AttributeModel,
    hold: str | Sequence[str],
    aimed: Goal,
    asked: Features,
    make: Make,
    rounds: int,
) -> tuple[Features, Made]:
    """Answers to `asked` (n d) whose attributes are as near to the goal as was found.

    Each image keeps the answer with the least weighted square deviation, in sigmas, so no round
    makes it larger. Returns what was asked in the end, and what was made of it.
    """
    steered = model.steered(hold)
    lift = model.lift(steered, np.eye(len(steered)))
    weights, kept = aimed.weights[steered], aimed.kept[steered]
    wanted = aimed.wanted[:, steered]
    n, r = wanted.shape

    best = make(asked)
    found = model.standard(best.pixels)[:, steered]
    wanted = np.where(kept, found, wanted)  # what nobody asked about stays as the edit made it
    off = ((wanted - found) ** 2 @ weights)[:, None]
    moves = np.zeros((n, r))  # sigmas asked for so far, beside what was asked at first
    response = np.repeat(model.answers_to(steered)[None], n, axis=0)
    damping = np.full(n, DAMPING)
    counted = np.where(kept, 1.0, weights)
    first = np.asarray(asked, np.float64)
    for _ in range(rounds):
        # The step that by this image's response takes it to the goal, and no longer than need be.
        weighed = response * counted[:, None]
        square = np.einsum("nij,nik->njk", weighed, response)
        square += damping[:, None, None] * np.eye(r)
        pull = np.einsum("nij,ni->nj", weighed, wanted - found)
        step = np.linalg.solve(square, pull[..., None])[..., 0]
        tried = feature_math.unit(np.asarray(first + (moves + step) @ lift, np.float32))
        made = make(tried)
        now = model.standard(made.pixels)[:, steered]

        # What came of it teaches the response, whether it helped or not.
        surprise = now - found - np.einsum("nij,nj->ni", response, step)
        length = np.maximum((step**2).sum(1), SHORT)
        response += surprise[:, :, None] * step[:, None, :] / length[:, None, None]
        left = ((wanted - now) ** 2 @ weights)[:, None]
        better = left < off
        asked = np.where(better, tried, asked)
        best = Made(
            np.where(better, made.latents, best.latents),
            np.where(better[..., None, None], made.pixels, best.pixels),
        )
        moves, found = np.where(better, moves + step, moves), np.where(better, now, found)
        off = np.where(better, left, off)
        damping *= np.where(better[:, 0], 0.5, 4.0)
    return asked, best


def response_of(
    model: AttributeModel,
    generate: Callable[[Latents], Pixels],
    invert: Callable[[Features], Latents],
    latents: Latents,
    features: Features,
) -> Values:
    """Change of attribute i, in sigmas, per sigma asked of attribute j: (a a), the mean over items.

    Asked of bank items, their latents (n z) and features (n d), as residual edits to either side.
    Attributes that the features do not show answer as asked, which nobody will.
    """
    steered = model.steered(())
    found = np.eye(len(model.names))
    if not steered:
        return found
    lift = model.lift(steered, np.eye(len(steered)))
    before = invert(features)

    def measured(change: Values) -> Values:
        asked = feature_math.unit(np.asarray(features + change, np.float32))
        moved = np.asarray(latents + (invert(asked) - before), np.float32)
        return model.standard(generate(moved))

    for column, way in zip(steered, lift, strict=True):
        slope = (measured(STEP * way) - measured(-STEP * way)) / (2 * STEP)
        found[:, column] = slope.mean(0)
    return found
