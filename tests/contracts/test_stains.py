"""Contract of every member of the union AnyStain."""

import json
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter
from skimage import data

from controlgen.base_config import BaseConfig
from controlgen.errors import Incompatible
from controlgen.stains import AnyStain, Macenko, NoStain, Reinhard, StainProfile

MEMBERS = get_args(get_args(AnyStain)[0])
PICTURE = np.asarray(data.immunohistochemistry()).transpose(2, 0, 1)[None, :, 256:384, :128]
BLANK = np.random.default_rng(0).integers(246, 256, (2, 3, 16, 16), np.uint8)
GREY = np.full((2, 1, 16, 16), 90, np.uint8)

each_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__)
recolouring = pytest.mark.parametrize("member", [Macenko, Reinhard])


@each_member
def test_defaults_are_a_config_of_the_union(member: type[Any]) -> None:
    stain = member()
    assert isinstance(stain, BaseConfig)
    adapter: TypeAdapter[Any] = TypeAdapter(AnyStain)
    assert adapter.validate_python(stain.to_dict()) == stain
    assert [item().kind for item in MEMBERS].count(stain.kind) == 1
    assert json.loads(json.dumps(stain.cache_identity())) == stain.cache_identity()


@each_member
def test_a_profile_survives_json(member: type[Any]) -> None:
    profile = member().measure(PICTURE)
    assert profile.kind == member().kind
    read = StainProfile.parse(json.loads(json.dumps(profile.to_dict())))
    assert read == profile
    again = member().apply(PICTURE, read)
    np.testing.assert_array_equal(again, member().apply(PICTURE, profile))


@each_member
def test_apply_returns_a_new_array(member: type[Any]) -> None:
    before, stain = PICTURE.copy(), member()
    after = stain.apply(PICTURE, stain.measure(PICTURE))
    assert after.shape == PICTURE.shape and after.dtype == np.uint8
    np.testing.assert_array_equal(PICTURE, before)
    assert not np.shares_memory(after, PICTURE)
    assert np.array_equal(after, PICTURE) == (member is NoStain)


@each_member
def test_a_tile_does_not_depend_on_its_batch(
    member: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stain = member()
    profile = stain.measure(PICTURE)
    tiles = np.concatenate([PICTURE[:, :, :32, :32], PICTURE[:, :, 32:64, 64:96]] * 2)
    together = stain.apply(tiles, profile)
    # Nor on the chunk size.
    monkeypatch.setattr("controlgen.stains.base.CHUNK_BYTES", 1)
    np.testing.assert_array_equal(stain.apply(tiles, profile), together)
    for index in range(len(tiles)):
        single = stain.apply(tiles[index : index + 1], profile)
        np.testing.assert_array_equal(single[0], together[index])
    assert stain.apply(tiles[:0], profile).shape == (0, 3, 32, 32)


@each_member
def test_white_stays_white(member: type[Any]) -> None:
    stain = member()
    profile = stain.measure(PICTURE)
    white = np.full((1, 3, 8, 8), 255, np.uint8)
    np.testing.assert_array_equal(stain.apply(white, profile), white)


@each_member
@pytest.mark.parametrize(
    "tile",
    [BLANK, np.zeros((1, 3, 8, 8), np.uint8), np.full((1, 3, 8, 8), 120, np.uint8)],
    ids=["glass", "black", "one colour"],
)
def test_without_tissue_nothing_changes(member: type[Any], tile: Any) -> None:
    stain = member()
    profile = stain.measure(tile)
    assert not profile.usable
    np.testing.assert_array_equal(stain.apply(tile, profile), tile)


@recolouring
def test_a_minimum_of_tissue_is_required(member: type[Any]) -> None:
    # 4 % of the pixels are tissue, then 40 %.
    tile = np.full((1, 3, 100, 100), 250, np.uint8)
    tile[..., :20, :20] = PICTURE[..., :20, :20]
    assert not member().measure(tile).usable
    tile[..., :100, :50] = PICTURE[..., :100, :50]
    assert member().measure(tile).usable


@recolouring
def test_grey_pixels_and_foreign_profiles_are_refused(member: type[Any]) -> None:
    stain = member()
    with pytest.raises(Incompatible, match="1-channel"):
        stain.measure(GREY)
    with pytest.raises(Incompatible, match="1-channel"):
        stain.apply(GREY, stain.measure(PICTURE))
    with pytest.raises(Incompatible, match="profile is of kind other"):
        stain.apply(PICTURE, StainProfile(kind="other"))


def test_no_stain_accepts_grey() -> None:
    np.testing.assert_array_equal(NoStain().apply(GREY, NoStain().measure(GREY)), GREY)
