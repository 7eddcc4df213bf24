"""Feature -> latent maps, scikit-learn estimators. The union of settings is the registry."""

from typing import Annotated, get_args

from pydantic import Field

from controlgen.regressors.base import Answering, RealTargets, Regressor, RoundTrip
from controlgen.regressors.cycle_mlp import CycleMLP, CycleMLPRegressor
from controlgen.regressors.flow import Flow, FlowRegressor
from controlgen.regressors.retrieval import Retrieval, RetrievalRegressor
from controlgen.regressors.ridge import Ridge, RidgeRegressor

AnyMap = Annotated[CycleMLP | Flow | Ridge | Retrieval, Field(discriminator="kind")]

# The kinds whose maps give many answers to one feature.
MANY = tuple(
    member.model_fields["kind"].default
    for member in get_args(get_args(AnyMap)[0])
    if isinstance(member().build(), Answering)
)

__all__ = [
    "MANY",
    "Answering",
    "AnyMap",
    "CycleMLP",
    "CycleMLPRegressor",
    "Flow",
    "FlowRegressor",
    "RealTargets",
    "Regressor",
    "Retrieval",
    "RetrievalRegressor",
    "Ridge",
    "RidgeRegressor",
    "RoundTrip",
]
