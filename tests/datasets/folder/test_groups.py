"""Image folders: classes, sources, and splits that keep each source together."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlgen.datasets import ImageFolder
from controlgen.datasets.folder._groups import assign_test_groups, merge_duplicates
from controlgen.errors import DataError
from image_folders import PNG, SIDE, both, folder, scene, table, unlike

SHARED = Path(os.environ.get("CONTROLGEN_SHARED", Path(__file__).parents[4] / "shared"))
COLON = SHARED / "data" / "histology-colon"


def test_classes_are_the_first_folders(tmp_path: Path) -> None:
    files = {
        **unlike(6, "benign/a/{}.png".format),
        **unlike(4, "tumour/{}.png".format),
        "top.png": PNG,
    }
    root = folder(tmp_path, files)
    spec = ImageFolder(root=root, size=SIDE, classes="folders", cache=tmp_path / "cache")
    labels = np.concatenate([side.labels(np.arange(len(side))) for side in both(spec)])
    assert np.bincount(labels).tolist() == [6, 4]
    assert [side.class_names for side in both(spec)] == [("benign", "tumour")] * 2
    with pytest.raises(DataError, match=r"top\.png \(lies in no class folder\)"):
        spec.model_copy(update={"on_bad": "refuse"}).open()
    with pytest.raises(DataError, match="has no classes"):
        ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache").open().labels(np.array([0]))


def test_splits_follow_the_sources_of_the_table(tmp_path: Path) -> None:
    files = unlike(40)
    root = folder(tmp_path, {**files, "stray.png": PNG})
    table(root, [f"{name},{'xy'[i % 2]},tile {i // 5}" for i, name in enumerate(sorted(files))])
    spec = ImageFolder(root=root, size=SIDE, classes="folders", cache=tmp_path / "cache")
    train, test = both(spec)
    everything = [np.arange(len(side)) for side in (train, test)]
    assert (len(train), len(test)) == (30, 10)  # 8 sources of 5: two of them are nearest to 0.2
    groups = [
        set(side.groups(all_of)) for side, all_of in zip((train, test), everything, strict=True)
    ]
    assert not groups[0] & groups[1] and len(groups[0] | groups[1]) == 8
    assert train.class_names == ("x", "y")
    # Every image has its own class and source.
    for side, all_of in zip((train, test), everything, strict=True):
        for pixels, label, group in zip(
            side.pixels(all_of), side.labels(all_of), side.groups(all_of), strict=True
        ):
            (index,) = (i for i in range(40) if (scene(i).transpose(2, 0, 1) == pixels).all())
            assert (label, group) == (index % 2, index // 5)
    with pytest.raises(DataError, match=r"stray\.png \(not in groups\.csv"):
        spec.model_copy(update={"on_bad": "refuse"}).open()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name;class\n", "has no column file and no column source_tile"),
        (b"", "has no column file"),
        (b"file,class,source_tile\n000.png,a,1\n000.png,a,1\n", "line 3: 000.png comes twice"),
        (b"file,class,source_tile\n000.png,a,\n", "line 2: an empty cell or a cell too many"),
        (b"file,class,source_tile\n000.png,a\n", "line 2: an empty cell or a cell too many"),
        (b"file,class,source_tile\n000.png,a,1,2\n", "line 2: an empty cell or a cell too many"),
        (b"file,class,source_tile\n\xff\xfe,a,1\n", "cannot be read as comma-separated UTF-8"),
        (b'file,class,source_tile\n"000.png,a,1\n', "cannot be read as comma-separated UTF-8"),
        (b"file,class,source_tile\ngone.png,a,1\n", "names gone.png, which do not exist below"),
        (b"file,class,source_tile\n../x.png,a,1\n", "names ../x.png, which do not exist below"),
    ],
    ids=["columns", "empty", "twice", "no-cell", "short", "long", "bytes", "quote", "gone", "out"],
)
def test_an_invalid_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    root = folder(tmp_path, {**unlike(2), "groups.csv": content})
    with pytest.raises(DataError, match=message) as caught:
        ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache").open()
    assert "\n" not in str(caught.value)


def test_a_spreadsheet_export_is_read(tmp_path: Path) -> None:
    content = "\ufefffile,source_tile\r\n000.png,a\r\n001.png,b\r\n".encode()
    root = folder(tmp_path, {**unlike(2), "groups.csv": content})
    train, test = both(ImageFolder(root=root, size=SIDE, cache=tmp_path / "cache"))
    assert (len(train), len(test)) == (1, 1)


names_of_groups = st.lists(st.sampled_from([f"source {i}" for i in range(30)]), min_size=1)


@settings(max_examples=60)
@given(groups=names_of_groups, share=st.floats(0.05, 0.95))
def test_a_split_keeps_groups_and_is_close_to_its_share(groups: list[str], share: float) -> None:
    test = assign_test_groups(groups, share)
    for group in set(groups):
        assert (
            len({chosen for chosen, name in zip(test, groups, strict=True) if name == group}) == 1
        )
    if len(set(groups)) == 1:
        assert not test.any()
        return
    assert test.any() and not test.all()
    # The share is the closest that the order of groups allows.
    largest = max(groups.count(name) for name in groups)
    inside = share * len(groups)
    slack = max(largest, 1)
    assert abs(test.sum() - inside) <= slack


@settings(max_examples=40)
@given(more=st.lists(st.integers(0, 10**6), max_size=20, unique=True))
def test_added_files_move_only_groups_at_the_border(more: list[int]) -> None:
    old = [f"old {i}" for i in range(200)]
    before = assign_test_groups(old, 0.2)
    after = assign_test_groups([*old, *(f"new {i}" for i in more)], 0.2)[:200]
    assert (before != after).sum() <= len(more)
    # Groups move in one direction only: their order does not depend on the others.
    assert (after <= before).all() or (after >= before).all()


def test_files_of_the_same_bytes_share_a_group() -> None:
    groups = {"a": "1", "b": "2", "c": "3", "d": "2", "e": "4"}
    digests = {"a": "x", "b": "x", "c": "y", "d": "y", "e": "z"}
    actual = merge_duplicates(groups, digests)
    assert actual == {"a": "1", "b": "1", "c": "1", "d": "1", "e": "4"}


@pytest.mark.skipif(
    not COLON.is_dir(), reason=f"{COLON} is absent; set CONTROLGEN_SHARED to the folder it lies in"
)
def test_colon_tiles_are_split_by_source(tmp_path: Path) -> None:
    with (COLON / "groups.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    groups = [row["source_tile"] for row in rows]
    test = assign_test_groups(groups, 0.2)
    assert len(rows) == 2000 and abs(test.mean() - 0.2) < 0.01
    assert not {g for g, t in zip(groups, test, strict=True) if t} & {
        g for g, t in zip(groups, test, strict=True) if not t
    }
    # A subset, read from the files.
    saved = [row for row in rows if row["source_tile"].endswith("7")]
    root = tmp_path / "colon"
    for row in saved:
        (root / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        (root / row["file"]).symlink_to(COLON / row["file"])
    table(root, [f"{row['file']},{row['class']},{row['source_tile']}" for row in saved])
    train, held = both(ImageFolder(root=root, classes="folders", cache=tmp_path / "cache"))
    assert len(train) + len(held) == len(saved)
    assert train.class_names == ("adenocarcinoma", "benign")
    assert not set(train.groups(np.arange(len(train)))) & set(held.groups(np.arange(len(held))))


def test_a_flat_folder_with_classes_names_the_remedy(tmp_path: Path) -> None:
    root = folder(tmp_path, unlike(4))
    spec = ImageFolder(root=root, size=SIDE, classes="folders", cache=tmp_path / "cache")
    with pytest.raises(DataError, match=r"none of 4 .*train\.dataset\.classes=none"):
        spec.open()
    assert len(both(spec.model_copy(update={"classes": "none"}))[0]) == 3
