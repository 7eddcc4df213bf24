"""Words for measured quantities."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Values = Mapping[str, float]  # measured attributes by name


class CaptionScale(NamedTuple):
    """Words for a quantity: `words[i]` apply to values between cuts i - 1 and i.

    `quantity` is an attribute's name or a function of all attributes.
    """

    quantity: str | Callable[[Values], float]
    cuts: tuple[float, ...]
    words: tuple[tuple[str, ...], ...]

    def word(self, values: Values, chance: float) -> str:
        """A word for these values, chosen by `chance` in 0..1; empty for an ordinary value."""
        quantity = self.quantity
        value = values[quantity] if isinstance(quantity, str) else quantity(values)
        options = self.words[int(np.searchsorted(self.cuts, value, side="right"))]
        return pick(options, chance) if options else ""


def pick(options: tuple[str, ...], chance: float) -> str:
    """The option at `chance` in 0..1."""
    return options[min(int(chance * len(options)), len(options) - 1)]
