"""Feature -> latent maps, scikit-learn estimators. The union of settings is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.regressors.base import Regressor, RoundTrip
from controlgen.regressors.cycle_mlp import CycleMLP, CycleMLPRegressor
from controlgen.regressors.retrieval import Retrieval, RetrievalRegressor
from controlgen.regressors.ridge import Ridge, RidgeRegressor

AnyMap = Annotated[CycleMLP | Ridge | Retrieval, Field(discriminator="kind")]

__all__ = [
    "AnyMap",
    "CycleMLP",
    "CycleMLPRegressor",
    "Regressor",
    "Retrieval",
    "RetrievalRegressor",
    "Ridge",
    "RidgeRegressor",
    "RoundTrip",
]
