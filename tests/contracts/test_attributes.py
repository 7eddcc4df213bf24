"""Contract of every member of the union AnyAttributes."""

from typing import Any, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from controlgen.attributes import AnyAttributes
from controlgen.base_config import BaseConfig

MEMBERS = get_args(get_args(AnyAttributes)[0])
TILES = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)

each_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__)


@each_member
def test_defaults_are_a_config_of_the_union(member: type[Any]) -> None:
    measured = member()
    assert isinstance(measured, BaseConfig)
    adapter: TypeAdapter[Any] = TypeAdapter(AnyAttributes)
    assert adapter.validate_python(measured.to_dict()) == measured
    assert [item().kind for item in MEMBERS].count(measured.kind) == 1


@each_member
def test_rows_are_finite_and_names_distinct(member: type[Any]) -> None:
    measured = member()
    measured.check(TILES.shape[1:])
    rows = measured.measure(TILES)
    assert len(set(measured.names)) == len(measured.names)
    assert rows.shape == (5, len(measured.names)) and np.isfinite(rows).all()
    assert measured.measure(TILES[:0]).shape == (0, len(measured.names))


@each_member
def test_an_image_is_measured_alone_and_not_changed(member: type[Any]) -> None:
    before, measured = TILES.copy(), member()
    together = measured.measure(TILES)
    np.testing.assert_array_equal(TILES, before)
    for index in range(len(TILES)):
        alone = measured.measure(TILES[index : index + 1])
        np.testing.assert_allclose(alone[0], together[index], rtol=1e-5, atol=1e-7)
    assert np.ptp(together, axis=0).max() > 0
