"""Random streams: keyed, distributed as promised, and independent of how they are asked for."""

import json
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from controlgen.rng import BLOCK, key, normals, stream, torch_stream

GOLDEN = json.loads((Path(__file__).parent / "golden" / "rng.json").read_text())
FULL = normals(5, "bank", 0, 3 * BLOCK, 3)


@settings(max_examples=60)
@given(st.integers(0, 3 * BLOCK), st.integers(0, 3 * BLOCK))
def test_row_i_depends_on_i_alone(a: int, b: int) -> None:
    start, stop = sorted((a, b))
    part = normals(5, "bank", start, stop, 3)
    assert part.dtype == np.float32
    assert part.shape == (stop - start, 3)
    np.testing.assert_array_equal(part, FULL[start:stop])


def test_rows_on_either_side_of_a_block_edge_differ() -> None:
    rows = normals(5, "bank", BLOCK - 1, BLOCK + 1, 8)
    assert not np.array_equal(rows[0], rows[1])
    assert len(np.unique(FULL[:, 0])) > 0.999 * len(FULL)


def test_normals_are_standard_normal_and_uncorrelated() -> None:
    table = normals(11, "bank", 0, 20_000, 4)
    assert stats.kstest(table.ravel(), "norm").pvalue > 1e-3
    correlation = np.corrcoef(table.T)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(len(table))
    # The same check refuses a table that is a tenth too wide.
    assert stats.kstest(1.1 * table.ravel(), "norm").pvalue < 1e-3


def test_streams_differ_by_seed_purpose_and_index() -> None:
    names = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (0, "a/1", 0), (10, "a", 0)]
    assert len({key(*name) for name in names}) == len(names)
    numpy_draws = {tuple(stream(*name).random(4)) for name in names}
    torch_draws = {tuple(torch.rand(4, generator=torch_stream(*n)).tolist()) for n in names}
    assert len(numpy_draws) == len(torch_draws) == len(names)


@given(st.integers(0, 2**40), st.text(max_size=20), st.integers(0, 2**40))
def test_keys_are_reproducible_and_fit_torch(seed: int, purpose: str, index: int) -> None:
    number = key(seed, purpose, index)
    assert 0 <= number < 2**63
    assert number == key(seed, purpose, index)
    assert torch_stream(seed, purpose, index).initial_seed() == number


def test_nothing_global_is_read_or_moved() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    first = normals(0, "bank", 0, 5, 2)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    np.random.seed(2)
    np.testing.assert_array_equal(first, normals(0, "bank", 0, 5, 2))


def test_golden_draws() -> None:
    """Published seeds must keep meaning the same images: these bits may not move."""
    assert key(0, "bank", 0) == GOLDEN["key(0, bank, 0)"]
    samples = normals(7, "bank", BLOCK - 1, BLOCK + 1, 3)
    np.testing.assert_array_equal(
        samples, np.array(GOLDEN["normals(7, bank, 1023, 1025, 3)"], "f4")
    )
    torch_drawn = torch.randint(2**31, (3,), generator=torch_stream(7, "train", 64)).tolist()
    assert torch_drawn == GOLDEN["randint(2**31, 3) of torch_stream(7, train, 64)"]
