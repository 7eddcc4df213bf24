"""Arrays on disk round trip, damage is named, and nothing is ever unpickled."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from controlgen.artifacts.bank import SampleBank
from controlgen.errors import ArtifactCorrupt, ArtifactMissing
from controlgen.utils.array_files import (
    create_memmap,
    load_arrays,
    load_tensors,
    open_memmap,
    save_arrays,
    save_tensors,
)

ROOT = Path(__file__).parents[2]


def test_arrays_and_tensors_round_trip(tmp_path: Path) -> None:
    arrays = {
        "transposed": np.arange(12, dtype=np.float32).reshape(3, 4).T,
        "bytes": np.arange(5, dtype=np.uint8),
        "scalar": np.array(2.5),
    }
    save_arrays(tmp_path / "a.safetensors", arrays)
    actual = load_arrays(tmp_path / "a.safetensors")
    assert actual.keys() == arrays.keys()
    for name, value in arrays.items():
        assert actual[name].dtype == value.dtype
        np.testing.assert_array_equal(actual[name], value)
    tensors = {"half": torch.randn(3, 2).half().T, "count": torch.tensor(7)}
    save_tensors(tmp_path / "t.safetensors", tensors)
    for name, value in load_tensors(tmp_path / "t.safetensors").items():
        assert value.dtype == tensors[name].dtype
        assert torch.equal(value, tensors[name])
    # Nothing half-written stays behind.
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "t.safetensors"}


def test_mapped_arrays_round_trip_and_are_read_only(tmp_path: Path) -> None:
    result = create_memmap(tmp_path / "x.npy", (4, 3), np.float32)
    result[:] = np.arange(12).reshape(4, 3)
    result.flush()
    actual = open_memmap(tmp_path / "x.npy")
    np.testing.assert_array_equal(actual, np.load(tmp_path / "x.npy"))
    with pytest.raises(ValueError, match="read-only"):
        actual[0, 0] = 1


@pytest.mark.parametrize("load", [load_arrays, load_tensors])
def test_a_truncated_safetensors_file_is_named(tmp_path: Path, load: object) -> None:
    assert callable(load)
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"x": np.arange(10.0)})
    full = path.read_bytes()
    for length in (0, 1, 8, 20, len(full) - 1):
        path.write_bytes(full[:length])
        with pytest.raises(ArtifactCorrupt, match=r"a\.safetensors"):
            load(path)
    path.unlink()
    with pytest.raises(ArtifactMissing, match=r"a\.safetensors"):
        load(path)


def test_a_truncated_npy_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(10.0))
    full = path.read_bytes()
    for length in (0, 3, 9, 60, len(full) - 1):
        path.write_bytes(full[:length])
        with pytest.raises(ArtifactCorrupt, match=r"x\.npy"):
            open_memmap(path)
    path.unlink()
    with pytest.raises(ArtifactMissing, match=r"x\.npy"):
        open_memmap(path)


class Bomb:
    """Tells when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("unpickled",))


def test_a_pickled_array_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactCorrupt, match=r"x\.npy"):
        open_memmap(path)
    with pytest.raises(ArtifactCorrupt):
        load_arrays(path)


def test_a_bank_splits_without_overlap(tmp_path: Path) -> None:
    for name, shape in {"latents": (10, 2), "pixels": (10, 1, 4, 4), "features": (10, 3)}.items():
        create_memmap(tmp_path / f"{name}.npy", shape, np.float32).flush()
    bank = SampleBank.open(tmp_path, tmp_path, held_out_count=3)
    parts = [list(range(10))[part] for part in (bank.train, bank.held_out)]
    assert parts == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9]]


# Whatever can run code from a file. The one archive of torch that a package ships is opened as
# tensors only, after its SHA-256 was compared.
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "torch.load", "torch.save", "np.load", "numpy.load"}


def dangers(tree: ast.AST) -> list[str]:
    """Imports and calls in a syntax tree that could execute what a file says."""
    actual = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            actual += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            actual += [n for n in names if n.split(".")[0] in FORBIDDEN_MODULES]
            actual += [n for n in names if n in FORBIDDEN_CALLS]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in FORBIDDEN_CALLS:
            safe = {(word.arg, ast.unparse(word.value)) for word in node.keywords}
            if not safe & {("weights_only", "True"), ("allow_pickle", "False")}:
                actual.append(ast.unparse(node.func))
    return actual


def test_no_module_unpickles_or_evaluates() -> None:
    modules = [*ROOT.glob("controlgen/**/*.py"), *ROOT.glob("flows/**/*.py")]
    assert len(modules) > 50
    assert {p.name: d for p in modules if (d := dangers(ast.parse(p.read_text())))} == {}
    # The scan itself sees what it should see.
    for bad in ("import pickle", "from joblib import load", "torch.load(p)", "eval('1')"):
        assert dangers(ast.parse(bad)), bad
