"""A scalar that moves along half a cosine during the burn-in and stays constant afterwards."""

import math
from typing import Any

from pydantic import model_validator

from controlgen.base_config import BaseConfig


class CosineSchedule(BaseConfig):
    """`start` at burn-in 0, `end` at burn-in 1 and ever after; a bare number means both."""

    start: float
    end: float

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"start": value, "end": value} if isinstance(value, int | float) else value

    def at(self, burn_in: float) -> float:
        """The value at this share of the burn-in, 0..1; half-way is the midpoint."""
        weight = (1 + math.cos(math.pi * min(max(burn_in, 0.0), 1.0))) / 2
        return weight * self.start + (1 - weight) * self.end
