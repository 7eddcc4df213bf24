"""Cached pixels: the same bytes however often the work was interrupted, and by what."""

import multiprocessing
import multiprocessing.process
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controlgen.datasets import cache as module
from controlgen.datasets.arrays import ArrayDataset
from controlgen.datasets.cache import cache_folder, cached_pixels
from controlgen.errors import DataError

COUNT, SHAPE, IDENTITY = 23, (3, 5, 4), {"rule": 1, "root": Path("a")}
BLOCK = 4
# The forked processes touch NumPy and files only; CPython 3.12 warns where other threads exist.
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def image(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, SHAPE, np.uint8)


EXPECTED = np.stack([image(index) for index in range(COUNT)])


class Produce:
    """Yields the images and records the start indices."""

    def __init__(self) -> None:
        self.starts: list[int] = []

    def __call__(self, start: int) -> Iterator[np.ndarray]:
        self.starts.append(start)
        for first in range(start, COUNT, BLOCK):
            yield EXPECTED[first : first + BLOCK]


def never(start: int) -> Iterator[np.ndarray]:
    raise AssertionError("the cache must not be recomputed")


def make(cache: Path, produce: object) -> np.ndarray:
    return cached_pixels(cache, "toy", IDENTITY, COUNT, SHAPE, produce)


def test_pixels_are_computed_once_and_read_only(tmp_path: Path) -> None:
    produce = Produce()
    actual = make(tmp_path, produce)
    np.testing.assert_array_equal(actual, EXPECTED)
    assert produce.starts == [0]
    assert isinstance(actual, np.memmap) and not actual.flags.writeable
    np.testing.assert_array_equal(make(tmp_path, never), EXPECTED)
    folder = cache_folder(tmp_path, "toy", IDENTITY)
    assert sorted(item.name for item in folder.iterdir()) == ["identity.json", "pixels.npy"]
    # The file is an ordinary npy file.
    np.testing.assert_array_equal(np.load(folder / "pixels.npy"), EXPECTED)


def test_the_folder_is_named_by_the_identity(tmp_path: Path) -> None:
    name = cache_folder(tmp_path, "toy", {"a": 1, "b": [2]}).name
    assert name == cache_folder(tmp_path, "toy", {"b": [2], "a": 1}).name
    others = [{"a": 1, "b": [3]}, {"a": 1}, {}]
    assert len({name, *(cache_folder(tmp_path, "toy", other).name for other in others)}) == 4


def slow(cache: Path, pause: float) -> multiprocessing.process.BaseProcess:
    """Another process that computes the same pixels, an item at a time."""

    def produce(start: int) -> Iterator[np.ndarray]:
        for index in range(start, COUNT):
            yield EXPECTED[index : index + 1]
            time.sleep(pause)

    def work() -> None:
        module.CHECKPOINT_SECONDS = 0
        make(cache, produce)
        # Skip the exit handlers that the fork inherits from other tests' libraries.
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def items_done(cache: Path) -> int:
    partial = cache_folder(cache, "toy", IDENTITY).with_suffix(".partial")
    try:
        return int((partial / "done").read_text())
    except (OSError, ValueError):
        return 0


def wait_for(cache: Path, items: int, process: multiprocessing.process.BaseProcess) -> None:
    for _ in range(6000):
        if items_done(cache) >= items:
            return
        assert process.is_alive(), "the other process ended before it could be interrupted"
        time.sleep(0.01)
    raise AssertionError("the other process makes no progress")


@forks
def test_killed_and_continued_gives_the_same_bytes(tmp_path: Path) -> None:
    for reached in (1, 4, 9):
        process = slow(tmp_path, 0.05)
        wait_for(tmp_path, reached, process)
        process.kill()
        process.join()
        assert not cache_folder(tmp_path, "toy", IDENTITY).exists()
    produce = Produce()
    np.testing.assert_array_equal(make(tmp_path, produce), EXPECTED)
    assert 9 <= produce.starts[0] < COUNT
    make(tmp_path / "other", Produce())
    halves = [
        (cache_folder(cache, "toy", IDENTITY) / "pixels.npy").read_bytes()
        for cache in (tmp_path, tmp_path / "other")
    ]
    assert halves[0] == halves[1]


@forks
def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    process = slow(tmp_path, 0.02)
    wait_for(tmp_path, 2, process)
    np.testing.assert_array_equal(make(tmp_path, never), EXPECTED)
    process.join()
    assert process.exitcode == 0


@settings(max_examples=30)
@given(done=st.integers(-2, COUNT + 2), length=st.integers(0, 1600), tail=st.binary(max_size=9))
def test_any_partial_folder_is_recovered(
    tmp_path_factory: pytest.TempPathFactory, done: int, length: int, tail: bytes
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    full = make(cache / "whole", Produce())
    content = (cache_folder(cache / "whole", "toy", IDENTITY) / "pixels.npy").read_bytes()
    partial = cache_folder(cache, "toy", IDENTITY).with_suffix(".partial")
    partial.mkdir(parents=True)
    (partial / "pixels.npy").write_bytes(content[:length] + tail)
    (partial / "done").write_text(str(done))
    # The count is written after the pixels, so the bytes it covers are correct.
    header = len(content) - full.size
    sound = length >= header + done * EXPECTED[0].size
    assume(sound or done < 0 or length + len(tail) < header + done * EXPECTED[0].size)
    np.testing.assert_array_equal(make(cache, Produce()), EXPECTED)


@pytest.mark.parametrize("damage", ["truncated", "longer", "shape", "empty", "absent", "object"])
def test_a_damaged_entry_is_computed_again(tmp_path: Path, damage: str) -> None:
    make(tmp_path, Produce())
    path = cache_folder(tmp_path, "toy", IDENTITY) / "pixels.npy"
    content = path.read_bytes()
    if damage == "shape":
        np.save(path, EXPECTED[:, :, :4])
    elif damage == "object":
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    elif damage == "absent":
        path.unlink()
    else:
        path.write_bytes(
            {"truncated": content[:-1], "longer": content + b"x", "empty": b""}[damage]
        )
    produce = Produce()
    np.testing.assert_array_equal(make(tmp_path, produce), EXPECTED)
    assert produce.starts == [0]


def test_a_full_disk_is_one_line_and_work_can_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))
    try:
        with pytest.raises(DataError, match="cannot be written .*CONTROLGEN_DATA") as caught:
            make(tmp_path, Produce())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    produce = Produce()
    np.testing.assert_array_equal(make(tmp_path, produce), EXPECTED)
    assert produce.starts[0] > 0


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match="file.*cannot be written"):
        make(tmp_path / "file", Produce())


@pytest.mark.parametrize(
    "blocks",
    [
        [EXPECTED[:-1]],
        [EXPECTED, EXPECTED[:1]],
        [EXPECTED.astype(np.float32)],
        [EXPECTED[:, :, :, :3]],
    ],
    ids=["too few", "too many", "floats", "another shape"],
)
def test_unexpected_images_are_refused(tmp_path: Path, blocks: list[np.ndarray]) -> None:
    with pytest.raises(DataError, match="the source has changed"):
        make(tmp_path, lambda start: iter(blocks))
    assert not cache_folder(tmp_path, "toy", IDENTITY).exists()


def test_errors_of_the_source_are_not_changed(tmp_path: Path) -> None:
    def broken(start: int) -> Iterator[np.ndarray]:
        yield EXPECTED[:2]
        raise DataError("the source is gone")

    with pytest.raises(DataError, match="^the source is gone$"):
        make(tmp_path, broken)
    with pytest.raises(DataError, match="no images"):
        cached_pixels(tmp_path, "toy", IDENTITY, 0, SHAPE, never)


def test_array_images() -> None:
    images = ArrayDataset(EXPECTED, np.arange(COUNT) % 2, ("even", "odd"), np.arange(COUNT) // 5)
    assert images.image_shape == SHAPE and len(images) == COUNT
    assert images.class_names == ("even", "odd")
    assert images.labels(np.array([4, 3])).tolist() == [0, 1]
    assert images.groups(np.array([22, 0])).tolist() == [4, 0]
    rows = ArrayDataset(EXPECTED, groups=[7, 7, 8], rows=[20, 1, 3])
    np.testing.assert_array_equal(rows.pixels(np.array([2, 0])), EXPECTED[[3, 20]])
    assert rows.groups(np.array([1, 2])).tolist() == [7, 8]
    assert ArrayDataset(EXPECTED).groups(np.array([3, 1])).tolist() == [3, 1]
    with pytest.raises(DataError, match="has no classes"):
        rows.labels(np.array([0]))
    with pytest.raises(DataError, match=r"labels \(2,\) do not fit 23 images"):
        ArrayDataset(EXPECTED, [0, 1])
    with pytest.raises(DataError, match="must be uint8"):
        ArrayDataset(EXPECTED[0])
