"""Feature -> latent maps, scikit-learn estimators. The union of settings is the registry."""

from typing import Annotated, get_args

from pydantic import Field

from controlgen.regressors.base import Answering, Guided, RealTargets, Regressor, RoundTrip
from controlgen.regressors.cycle_mlp import CycleMLP, CycleMLPRegressor
from controlgen.regressors.flow import Flow, FlowRegressor
from controlgen.regressors.gaussian import Gaussian, GaussianRegressor
from controlgen.regressors.retrieval import Retrieval, RetrievalRegressor
from controlgen.regressors.ridge import Ridge, RidgeRegressor
from controlgen.regressors.variational import Variational, VariationalRegressor

AnyMap = Annotated[
    CycleMLP | Variational | Flow | Ridge | Gaussian | Retrieval, Field(discriminator="kind")
]

# The kinds whose maps give many answers to one feature, and those that take a guidance.
_MEMBERS = get_args(get_args(AnyMap)[0])
MANY, GUIDED = (
    tuple(one.model_fields["kind"].default for one in _MEMBERS if isinstance(one().build(), can))
    for can in (Answering, Guided)
)

__all__ = [
    "GUIDED",
    "MANY",
    "Answering",
    "AnyMap",
    "CycleMLP",
    "CycleMLPRegressor",
    "Flow",
    "FlowRegressor",
    "Gaussian",
    "GaussianRegressor",
    "Guided",
    "RealTargets",
    "Regressor",
    "Retrieval",
    "RetrievalRegressor",
    "Ridge",
    "RidgeRegressor",
    "RoundTrip",
    "Variational",
    "VariationalRegressor",
]
