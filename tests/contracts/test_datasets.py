"""Contract of every member of the union AnyDataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from controlgen.base_config import BaseConfig
from controlgen.datasets import AnyDataset
from controlgen.datasets.cache import default_cache
from controlgen.errors import DataError

MEMBERS = get_args(get_args(AnyDataset)[0])
Split = Literal["train", "test"]
opened: dict[tuple[str, str], Any] = {}

each_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__)
each_split = pytest.mark.parametrize("split", ["train", "test"])


def blots(count: int, side: int, seed: int) -> np.ndarray:
    """Coarse noise with black and white in it, (count side side 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    coarse[:, 0, 0], coarse[:, 3, 3] = 0, 255
    return coarse.repeat(side // 4, 1).repeat(side // 4, 2)


def image_folder(place: Path) -> dict[str, Any]:
    for index, picture in enumerate(blots(40, 64, 0)):
        path = place / "images" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return {"root": place / "images", "classes": "folders", "cache": place}


def patch_camelyon(place: Path) -> dict[str, Any]:
    h5py = pytest.importorskip("h5py")
    for seed, split in enumerate(("train", "test")):
        for part, stored in (("x", blots(24, 96, seed)), ("y", np.arange(24) % 2)):
            path = place / f"camelyonpatch_level_2_split_{split}_{part}.h5"
            with h5py.File(path, "w") as file:
                file[part] = stored if part == "x" else stored.reshape(24, 1, 1, 1)
    return {"root": place, "cache": place}


def medmnist(place: Path) -> dict[str, Any]:
    arrays = {}
    for seed, split in enumerate(("train", "val", "test")):
        arrays[f"{split}_images"] = blots(24, 28, seed)
        arrays[f"{split}_labels"] = np.arange(24)[:, None] % 3
    np.savez(place / "toy.npz", **arrays)
    return {"path": place / "toy.npz", "cache": place}


def slides(place: Path) -> dict[str, Any]:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("openslide")
    picture = np.vstack([np.hstack(row) for row in blots(48, 128, 0).reshape(6, 8, 128, 128, 3)])
    described = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tiled = {"tile": (256, 256), "photometric": "rgb"}
    tifffile.imwrite(place / "slide.tif", picture, **tiled, **described)
    return {"root": place / "slide.tif", "tissue": 0, "cache": place}


# How to make a tiny sample of a source that wants a path: settings of the member by its kind.
SAMPLES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "folder": image_folder,
    "patch_camelyon": patch_camelyon,
    "medmnist": medmnist,
    "slides": slides,
}
SAME_FILES = {"stacked-mnist": "mnist"}  # made of what another member fetches
described: dict[str, Any] = {}


def kind_of(member: type[Any]) -> str:
    return str(member.model_fields["kind"].default)


@pytest.fixture(scope="session")
def describe(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[Any]], Any]:
    """A Spec of each member; one that wants a path gets a sample made here."""

    def config_of(member: type[Any]) -> Any:
        kind = kind_of(member)
        if kind not in described:
            place = tmp_path_factory.mktemp(kind)
            described[kind] = member(**(SAMPLES[kind](place) if kind in SAMPLES else {}))
        return described[kind]

    return config_of


@pytest.fixture
def source(describe: Callable[[type[Any]], Any]) -> Callable[[type[Any], Split], Any]:
    """The open data set; one that is fetched from outside is skipped unless it is cached."""

    def open_source(member: type[Any], split: Split) -> Any:
        spec = describe(member)
        cached = default_cache() / SAME_FILES.get(spec.kind, spec.kind)
        fetched = "cache" in member.model_fields and spec.kind not in SAMPLES
        if fetched and len(list(cached.glob("*-ubyte"))) < 4:
            pytest.skip(f"{spec.kind} is not in {default_cache()} and tests fetch nothing")
        if (spec.kind, split) not in opened:
            opened[spec.kind, split] = spec.with_split(split).open()
        return opened[spec.kind, split]

    return open_source


Source = Callable[[type[Any], Split], Any]


@each_member
def test_a_config_of_the_union(member: type[Any], describe: Callable[[type[Any]], Any]) -> None:
    spec = describe(member)
    assert isinstance(spec, BaseConfig)
    assert spec.split == "train"
    assert spec.with_split("test") == spec.model_copy(update={"split": "test"})
    assert spec.with_split("test").fingerprint() != spec.fingerprint()
    adapter: TypeAdapter[Any] = TypeAdapter(AnyDataset)
    assert adapter.validate_python(spec.to_dict()) == spec
    assert [kind_of(item) for item in MEMBERS].count(spec.kind) == 1


@each_member
@each_split
def test_pixels_have_the_promised_shape(member: type[Any], split: Split, source: Source) -> None:
    data = source(member, split)
    pixels = data.pixels(np.array([0, len(data) - 1, 3]))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, *data.image_shape)
    assert data.pixels(np.array([], np.int64)).shape == (0, *data.image_shape)
    channels, height, width = data.image_shape
    assert channels in (1, 3) and height == width


@each_member
@each_split
def test_indices_select_images(member: type[Any], split: Split, source: Source) -> None:
    data = source(member, split)
    indices = np.array([5, 2, 5, 0])
    pixels = data.pixels(indices)
    for position, index in enumerate(indices):
        np.testing.assert_array_equal(pixels[position], data.pixels(np.array([index]))[0])
    with pytest.raises(IndexError):
        data.pixels(np.array([len(data)]))


@each_member
@each_split
def test_pixels_are_a_copy(member: type[Any], split: Split, source: Source) -> None:
    data = source(member, split)
    first = data.pixels(np.array([0]))
    before = first.copy()
    first[:] = 255 - first
    np.testing.assert_array_equal(data.pixels(np.array([0])), before)


@each_member
@each_split
def test_images_are_not_flat_and_use_the_range(
    member: type[Any], split: Split, source: Source
) -> None:
    data = source(member, split)
    pixels = data.pixels(np.arange(0, len(data), max(1, len(data) // 200)))
    assert (pixels.reshape(len(pixels), -1).std(1) > 5).all()
    assert pixels.min() < 20 and pixels.max() > 235


@each_member
@each_split
def test_labels_for_judges(member: type[Any], split: Split, source: Source) -> None:
    data = source(member, split)
    if not data.class_names:
        with pytest.raises(DataError, match="has no classes"):
            data.labels(np.array([0]))
        return
    labels = data.labels(np.arange(len(data)))
    assert labels.dtype == np.int64
    assert len(set(data.class_names)) == len(data.class_names)
    share = np.bincount(labels, minlength=len(data.class_names)) / len(labels)
    assert len(share) == len(data.class_names) and share.min() > 0.05


@each_member
@each_split
def test_groups_are_one_number_per_image(member: type[Any], split: Split, source: Source) -> None:
    data = source(member, split)
    groups = data.groups(np.arange(len(data)))
    assert groups.dtype == np.int64 and groups.shape == (len(data),)
    assert data.groups(np.array([4, 1])).tolist() == [groups[4], groups[1]]


@each_member
def test_the_splits_share_no_image(member: type[Any], source: Source) -> None:
    halves = []
    for split in get_args(Split):
        data = source(member, split)
        parts = np.array_split(np.arange(len(data)), len(data) // 1000 + 1)
        halves.append({hash(row.tobytes()) for part in parts for row in data.pixels(part)})
    assert not halves[0] & halves[1]
