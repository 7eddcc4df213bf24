"""Contract of all families of axes; the union AnyAxes lists the members."""

from typing import Any, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from controlgen.base_config import BaseConfig
from controlgen.editing.directions.axes import FAMILIES, AnyAxes, Axes
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.networks import R3GANConfig
from controlgen.rng import normals, torch_stream

MEMBERS = get_args(get_args(AnyAxes)[0])
NETWORK = R3GANConfig(widths=(16, 16), blocks=1, patch=4, latent_size=8)
GENERATOR = NETWORK.generator(1, torch_stream(0, "axes contract")).requires_grad_(False)
STATISTICS = FeaturePCA.fit(normals(0, "axes contract", 0, 200, 12))

pytestmark = [
    pytest.mark.usefixtures("global_randomness_untouched"),
    pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__),
]


def fit_axes(member: type[Any]) -> Axes:
    axes = member().fit(GENERATOR, STATISTICS)
    assert isinstance(axes, Axes)
    return axes


def test_defaults_are_a_config_of_the_union(member: type[Any]) -> None:
    family = member()
    assert isinstance(family, BaseConfig)
    adapter: TypeAdapter[Any] = TypeAdapter(AnyAxes)
    assert adapter.validate_python(family.to_dict()) == family
    assert FAMILIES[family.kind] is member
    assert len(FAMILIES) == len(MEMBERS)


def test_axes_are_sorted_distinct_and_of_fixed_sign(member: type[Any]) -> None:
    axes = fit_axes(member)
    size = 8 if axes.latent else 12
    assert axes.family == member().kind
    assert axes.vectors.dtype == np.float32 and axes.vectors.shape == (len(axes.variances), size)
    assert len(axes.vectors) > 1 and (np.diff(axes.variances) <= 0).all()
    assert axes.shares.sum() == pytest.approx(1) and (axes.shares > 0).all()
    assert (axes.vectors[np.arange(len(axes.vectors)), np.abs(axes.vectors).argmax(1)] > 0).all()
    if axes.latent:
        np.testing.assert_allclose(np.linalg.norm(axes.vectors, axis=1), 1, rtol=1e-5)
    units = axes.vectors / np.linalg.norm(axes.vectors, axis=1, keepdims=True)
    assert np.linalg.matrix_rank(units, tol=1e-2) == len(units)


def test_axes_are_deterministic(member: type[Any]) -> None:
    np.testing.assert_array_equal(fit_axes(member).vectors, fit_axes(member).vectors)
