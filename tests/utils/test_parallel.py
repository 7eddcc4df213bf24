"""Bits that do not depend on the machine's cores, and settings that are left as they were."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from controlgen import Editor
from controlgen.utils.cancellation import cancellable
from controlgen.utils.parallel import CHUNK_ROWS, map_rows_deterministic, single_threaded_torch

SHIPPED = Path(__file__).parents[2] / "artifacts/pretrained"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("n", [1, CHUNK_ROWS, CHUNK_ROWS + 1, 70])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_go_through_in_their_order_a_few_at_a_time(n: int, threads: int) -> None:
    torch.set_num_threads(threads)
    recorded: list[tuple[int, int]] = []

    def doubled(rows: np.ndarray) -> np.ndarray:
        recorded.append((len(rows), torch.get_num_threads()))
        return 2 * rows

    rows = np.arange(3 * n).reshape(n, 3)
    np.testing.assert_array_equal(map_rows_deterministic(doubled, rows), 2 * rows)
    assert sum(count for count, _ in recorded) == n
    assert max(count for count, _ in recorded) <= CHUNK_ROWS
    assert {used for _, used in recorded} == {1}
    assert torch.get_num_threads() == threads


def test_no_rows_are_asked_for_their_shape() -> None:
    assert map_rows_deterministic(lambda rows: rows[:, :2], np.zeros((0, 5))).shape == (0, 2)


def test_parts_share_out_the_cores() -> None:
    torch.set_num_threads(2)
    both = threading.Barrier(2, timeout=20)

    def meet(rows: np.ndarray) -> np.ndarray:
        both.wait()  # passes only where two parts are at work at once
        return rows

    assert len(map_rows_deterministic(meet, np.zeros((2 * CHUNK_ROWS, 1)))) == 2 * CHUNK_ROWS


@pytest.mark.parametrize("threads", [1, 2])
def test_work_stops_between_two_parts_where_it_is_to(threads: int) -> None:
    torch.set_num_threads(threads)
    checks: list[int] = []

    def third() -> None:
        checks.append(1)
        if len(checks) > 2:
            raise TimeoutError

    done: list[int] = []
    with pytest.raises(TimeoutError), cancellable(third):
        map_rows_deterministic(lambda rows: done.append(1) or rows, np.zeros((8 * CHUNK_ROWS, 1)))
    assert len(done) == 2
    assert (
        len(map_rows_deterministic(lambda rows: rows, np.zeros((8 * CHUNK_ROWS, 1))))
        == 8 * CHUNK_ROWS
    )


def test_the_setting_is_left_as_it_was_after_a_mistake() -> None:
    torch.set_num_threads(3)
    with pytest.raises(ZeroDivisionError), single_threaded_torch():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        map_rows_deterministic(lambda rows: rows / (1 // 0), np.zeros((70, 1)))
    assert torch.get_num_threads() == 3


def test_a_shipped_models_edit_has_the_same_bits_with_any_number_of_threads() -> None:
    editor = Editor.load(SHIPPED / "mnist")
    expression = "seed(7) + text('a digit eight') - text('a digit three') + axis('sefa', 2)"

    def edit_pixels(threads: int) -> list[np.ndarray]:
        torch.set_num_threads(threads)
        editor.__dict__.pop("axes", None)  # found anew
        edit = editor.apply(expression, 1.5, refine=2)
        many = editor.sample(40, seed=3)
        return [edit.pixels, edit.latents, edit.features, many.pixels, editor.embed(many.pixels)]

    for item, other in zip(edit_pixels(1), edit_pixels(4), strict=True):
        np.testing.assert_array_equal(item, other)
