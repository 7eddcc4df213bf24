"""Contract of every member of the union AnyViews."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from scipy import ndimage

from controlgen.augmentations import AnyViews, DigitViews, TissueViews
from controlgen.augmentations.views import gaussian_blur
from controlgen.base_config import BaseConfig
from controlgen.errors import ConfigError, Incompatible
from controlgen.images import to_signed_float
from controlgen.rng import torch_stream

MEMBERS = get_args(get_args(AnyViews)[0])
STILL: dict[str, Any] = {
    "poses": False,
    "shift": 0,
    "zoom": 0,
    "turn_degrees": 0,
    "blur": 0,
    "noise": 0,
    "colour": {"kind": "none"},
}
IMAGES = to_signed_float(np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16), np.uint8))

each_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__)


def draws(index: int = 0) -> torch.Generator:
    return torch_stream(0, "test views", index)


@each_member
def test_defaults_are_a_config_of_the_union(member: type[Any]) -> None:
    views = member()
    assert isinstance(views, BaseConfig)
    adapter: TypeAdapter[Any] = TypeAdapter(AnyViews)
    assert adapter.validate_python(views.to_dict()) == views
    assert [item().kind for item in MEMBERS].count(views.kind) == 1


@each_member
def test_views_follow_the_random_stream(
    member: type[Any], global_randomness_untouched: None
) -> None:
    views, before = member(), IMAGES.clone()
    views.check((3, 16, 16))
    first, again, other = (views.view(IMAGES, draws(index)) for index in (0, 0, 1))
    assert torch.equal(IMAGES, before)
    assert first.shape == IMAGES.shape and first.dtype == IMAGES.dtype
    assert first.min() >= -1 and first.max() <= 1
    assert torch.equal(first, again)
    assert ((first - other).abs().amax((1, 2, 3)) > 0.05).all()


@each_member
def test_disabled_views_are_the_identity_and_draw_as_much(
    member: type[Any],
) -> None:
    still, shifted = draws(), draws()
    assert torch.equal(member.parse(STILL).view(IMAGES, still), IMAGES)
    member().view(IMAGES, shifted)
    assert torch.equal(still.get_state(), shifted.get_state())


@each_member
@pytest.mark.parametrize("beyond", ["border", "reflection"])
def test_warping_agrees_with_scipy(member: type[Any], beyond: str) -> None:
    views = member.parse({"shift": 0.2, "zoom": 0.5, "turn_degrees": 40, "beyond": beyond})
    amounts = torch.rand(12, 4, generator=draws(), dtype=torch.float64) * 2 - 1
    actual = views._warp(IMAGES.double(), amounts).numpy()
    mode = {"border": "nearest", "reflection": "reflect"}[beyond]
    for at, (across, down, zoom, turn) in enumerate(amounts.numpy()):
        angle, size = np.deg2rad(40 * turn), 1.5**-zoom
        # Rows and columns about the centre; enlarging reads from a smaller square.
        matrix = size * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        centre = np.array([7.5, 7.5])
        offset = centre + 16 * 0.2 * np.array([down, across]) - matrix @ centre
        for channel in range(3):
            expected = ndimage.affine_transform(
                IMAGES[at, channel].numpy().astype(float), matrix, offset, order=1, mode=mode
            )
            np.testing.assert_allclose(actual[at, channel], expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_blur_agrees_with_scipy(sigma: float) -> None:
    expected = ndimage.gaussian_filter(
        IMAGES.double().numpy(),
        (0, 0, sigma, sigma),
        mode="nearest",
        radius=int(np.ceil(3 * sigma)),
    )
    np.testing.assert_allclose(gaussian_blur(IMAGES.double(), sigma).numpy(), expected, atol=1e-6)


def test_tissue_has_eight_poses_and_digits_one() -> None:
    image = IMAGES[:1]
    eight = [np.rot90(plane, k, (2, 3)) for plane in (image, image.flip(3)) for k in range(4)]
    many = image.expand(100, -1, -1, -1)
    for member, expected in ((TissueViews, 8), (DigitViews, 1)):
        views = member.parse({**STILL, "poses": member().poses})
        actual = views.view(many, draws()).numpy()
        hits = [[np.array_equal(view, pose[0]) for pose in eight] for view in actual]
        assert (np.sum(hits, 1) == 1).all()
        assert np.any(hits, 0).sum() == expected
        assert expected == 8 or np.all(hits, 0)[0]


def test_unfit_images_and_settings_are_refused() -> None:
    with pytest.raises(Incompatible, match="augment.colour stain: does not fit images of 1"):
        TissueViews().check((1, 16, 16))
    for member in MEMBERS:
        with pytest.raises(Incompatible, match="16x20; cut square ones"):
            member().check((3, 16, 20))
    with pytest.raises(ConfigError, match=r"^augment: unknown key flips$"):
        DigitViews.parse({"flips": True}, "augment")
    with pytest.raises(ConfigError, match="shift"):
        DigitViews.parse({"shift": 0.7})
