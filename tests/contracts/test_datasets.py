"""What every source of images must do; the union AnyDataset lists the members."""

from typing import Any, Literal, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from controlgen.datasets import AnyDataset
from controlgen.datasets.idx import default_cache
from controlgen.spec import Spec

MEMBERS = get_args(get_args(AnyDataset)[0])
Split = Literal["train", "test"]
opened: dict[tuple[str, str], Any] = {}

each_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__)
each_split = pytest.mark.parametrize("split", ["train", "test"])


def source(member: type[Any], split: Split) -> Any:
    """The open data set; one that is fetched from outside is skipped unless it is cached."""
    kind = member().kind
    if "cache" in member.model_fields and len(list((default_cache() / kind).glob("*-ubyte"))) < 4:
        pytest.skip(f"{kind} is not in {default_cache()} and tests fetch nothing")
    if (kind, split) not in opened:
        opened[kind, split] = member(split=split).open()
    return opened[kind, split]


@each_member
def test_defaults_make_a_spec_of_the_union(member: type[Any]) -> None:
    spec = member()
    assert isinstance(spec, Spec)
    assert spec.split == "train"
    assert spec.judging("test") == member(split="test")
    assert spec.judging("test").fingerprint() != spec.fingerprint()
    adapter: TypeAdapter[Any] = TypeAdapter(AnyDataset)
    assert adapter.validate_python(spec.effective()) == spec
    assert [one().kind for one in MEMBERS].count(spec.kind) == 1


@each_member
@each_split
def test_pixels_have_the_promised_shape(member: type[Any], split: Split) -> None:
    data = source(member, split)
    pixels = data.pixels(np.array([0, len(data) - 1, 3]))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, *data.image_shape)
    assert data.pixels(np.array([], np.int64)).shape == (0, *data.image_shape)
    channels, height, width = data.image_shape
    assert channels in (1, 3) and height == width


@each_member
@each_split
def test_an_index_is_an_image(member: type[Any], split: Split) -> None:
    data = source(member, split)
    indices = np.array([5, 2, 5, 0])
    pixels = data.pixels(indices)
    for position, index in enumerate(indices):
        np.testing.assert_array_equal(pixels[position], data.pixels(np.array([index]))[0])
    with pytest.raises(IndexError):
        data.pixels(np.array([len(data)]))


@each_member
@each_split
def test_what_is_handed_out_is_a_copy(member: type[Any], split: Split) -> None:
    data = source(member, split)
    first = data.pixels(np.array([0]))
    before = first.copy()
    first[:] = 255 - first
    np.testing.assert_array_equal(data.pixels(np.array([0])), before)


@each_member
@each_split
def test_images_are_not_flat_and_use_the_range(member: type[Any], split: Split) -> None:
    data = source(member, split)
    pixels = data.pixels(np.arange(0, len(data), len(data) // 200))
    assert (pixels.reshape(len(pixels), -1).std(1) > 5).all()
    assert pixels.min() < 20 and pixels.max() > 235


@each_member
@each_split
def test_labels_for_judges(member: type[Any], split: Split) -> None:
    data = source(member, split)
    labels = data.labels(np.arange(len(data)))
    assert labels.dtype == np.int64
    share = np.bincount(labels, minlength=10) / len(labels)
    assert len(share) == 10 and share.min() > 0.05


@each_member
def test_the_splits_share_no_image(member: type[Any]) -> None:
    halves = []
    for split in get_args(Split):
        data = source(member, split)
        halves.append({row.tobytes() for row in data.pixels(np.arange(len(data)))})
    assert not halves[0] & halves[1]
