"""Feature-to-latent maps as scikit-learn estimators. The union of settings is the registry."""

from typing import Annotated, get_args

from pydantic import Field

from controlgen.regressors.base import RealTargets, Regressor, RoundTrip, SupportsSampling
from controlgen.regressors.cycle_mlp import CycleMLPConfig, CycleMLPRegressor
from controlgen.regressors.flow import FlowConfig, FlowRegressor
from controlgen.regressors.retrieval import RetrievalConfig, RetrievalRegressor
from controlgen.regressors.ridge import RidgeConfig, RidgeRegressor

AnyMap = Annotated[
    CycleMLPConfig | FlowConfig | RidgeConfig | RetrievalConfig, Field(discriminator="kind")
]

# The kinds whose maps sample several latents per feature.
SAMPLING_KINDS = tuple(
    member.model_fields["kind"].default
    for member in get_args(get_args(AnyMap)[0])
    if isinstance(member().build(), SupportsSampling)
)

__all__ = [
    "SAMPLING_KINDS",
    "AnyMap",
    "CycleMLPConfig",
    "CycleMLPRegressor",
    "FlowConfig",
    "FlowRegressor",
    "RealTargets",
    "Regressor",
    "RetrievalConfig",
    "RetrievalRegressor",
    "RidgeConfig",
    "RidgeRegressor",
    "RoundTrip",
    "SupportsSampling",
]
