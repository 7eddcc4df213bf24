"""`controlgen batch` and `nearest`, the bank index, and data frames."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from controlgen import Editor
from controlgen.cli.batch import read_table
from controlgen.editing.dataframes import edit_to_dataframe, features_to_dataframe
from controlgen.editing.search import BATCH
from controlgen.errors import ConfigError

EIGHT = 'text("a digit eight") - text("a digit three")'
HEADER = "expression,name,amount,residual\n"


def quoted(expression: str) -> str:
    return '"' + expression.replace('"', '""') + '"'


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        f"{quoted(f'seed(7) + {EIGHT}')},eight,1.5,",
        f"{quoted(f'bank(3) + {EIGHT}')},,,true",
        'seed(1),"a.b",0.5,no',
    ]
    path = tmp_path / "table.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8-sig")
    return path


def test_batch_writes_pictures_results_and_arrays(
    controlgen: Callable[..., Any], line: Any, editor: Editor, table: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    answer = controlgen("batch", line.map_folder, table, "-o", output)
    assert answer.code == 0, answer.err
    assert "3 pictures" in answer.out
    names = (output / "names.txt").read_text().split()
    assert names == ["eight", "00001", "a.b"]

    # Every row equals the same edit alone.
    edits = [
        editor.apply(f"seed(7) + {EIGHT}", 1.5),
        editor.apply(f"bank(3) + {EIGHT}", residual=True),
        editor.apply("seed(1)", 0.5),
    ]
    rows = list(csv.DictReader((output / "results.csv").read_text().splitlines()))
    for at, (name, edit) in enumerate(zip(names, edits, strict=True)):
        with Image.open(output / f"{name}.png") as opened:
            np.testing.assert_array_equal(np.asarray(opened), edit.pixels[0, 0])
        assert rows[at]["name"] == name
        assert float(rows[at]["agreement"]) == pytest.approx(
            float(edit.target_similarity[0]), rel=1e-4
        )
        assert float(rows[at]["progress"]) == pytest.approx(
            float(edit.direction_similarity[0]), abs=1e-4
        )
        for kind in ("latents", "asked", "obtained"):
            np.testing.assert_array_equal(
                np.load(output / f"{kind}.npy")[at], getattr(edit, kind)[0]
            )
        assert rows[at]["refine"] == "0"
    assert [row["amount"] for row in rows] == ["1.5", "1", "0.5"]
    assert [row["residual"] for row in rows] == ["false", "true", "false"]
    shares = [editor.resolve(f"{start} + {EIGHT}").share for start in ("seed(7)", "bank(3)")]
    assert [float(row["share"]) for row in rows] == pytest.approx([*shares, 0], rel=1e-5)
    assert not {"reachability", "warning"} & set(rows[0])
    assert [row["expression"] for row in rows] == [
        f"seed(7) + {EIGHT}",
        f"bank(3) + {EIGHT}",
        "seed(1)",
    ]

    # A picture repeats itself from its recipe, byte for byte.
    again = tmp_path / "again.png"
    answer = controlgen("edit", "--recipe", output / "00001.png", "-o", again)
    assert (answer.code, answer.err) == (0, "")
    assert again.read_bytes() == (output / "00001.png").read_bytes()
    with Image.open(again) as opened:
        assert json.loads(opened.text["recipe"])["picture"] == "result"  # type: ignore[attr-defined]
    # An existing folder is not overwritten.
    answer = controlgen("batch", line.map_folder, table, "-o", output)
    assert (answer.code, answer.out) == (2, "")
    assert "already exists" in answer.err


def test_rows_apply_refine_residual_and_hold(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path
) -> None:
    folder = line.refitted(tmp_path / "measured", attributes={"kind": "strokes"})
    editor = Editor.load(folder)
    table, output = tmp_path / "table.csv", tmp_path / "out"
    rows = [
        "expression,refine,hold,residual",
        quoted("seed(7)+attribute('ink')") + ',3,"slant, width",',
        quoted('seed(7) + (attribute("ink")+hold("width"))') + ",,slant,true",
        "seed(7), 2 ,,",
    ]
    table.write_text("\n".join(rows) + "\n")
    answer = controlgen("batch", folder, table, "-o", output)
    assert answer.code == 0, answer.err

    # results.csv has canonical expressions with all holds; each alone defines the same edit.
    actual = list(csv.DictReader((output / "results.csv").read_text().splitlines()))
    assert [row["expression"] for row in actual] == [
        'seed(7) + attribute("ink") + hold("slant", "width")',
        'seed(7) + (attribute("ink") + hold("width")) + hold("slant")',
        "seed(7)",
    ]
    assert [row["refine"] for row in actual] == ["3", "0", "2"]
    for at, (refine, residual) in enumerate([(3, False), (0, True), (2, False)]):
        edit = editor.apply(actual[at]["expression"], residual=residual, refine=refine)
        np.testing.assert_array_equal(np.load(output / "latents.npy")[at], edit.latents[0])
        assert float(actual[at]["agreement"]) == pytest.approx(
            float(edit.target_similarity[0]), rel=1e-4
        )
    plain = editor.apply(actual[0]["expression"])
    assert not np.array_equal(plain.latents[0], np.load(output / "latents.npy")[0])

    # Each picture repeats itself.
    for name in ("00000", "00001", "00002"):
        answer = controlgen(
            "edit", "--recipe", output / f"{name}.png", "-o", tmp_path / "again.png"
        )
        assert (answer.code, answer.err) == (0, "")
        assert (tmp_path / "again.png").read_bytes() == (output / f"{name}.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: columns \\(none\\)"),
        ("name\na\n", "expression is required"),
        ("expression,amuont\na,1\n", "line 1: columns expression, amuont"),
        ("expression,expression\na,b\n", "each at most once"),
        (HEADER, "holds no rows"),
        (HEADER + "seed(1),a,1\n", "line 2: the number of values differs"),
        (HEADER + "seed(1),a,1,,5\n", "line 2: the number of values differs"),
        (HEADER + "seed(1),a,much,\n", "line 2: amount 'much'"),
        (HEADER + "seed(1),a,inf,\n", "line 2: amount 'inf'"),
        (HEADER + "seed(1),a,1e300,\n", "line 2: amount '1e300': must be a finite number, up to"),
        (HEADER + "seed(1),../a,1,\n", "line 2: name '../a'"),
        (HEADER + "seed(1),a,1,maybe\n", "line 2: residual 'maybe'"),
        ("expression,refine\nseed(1),2.5\n", "line 2: refine '2.5'"),
        ("expression,refine\nseed(1),3\nseed(1),-3\n", "line 3: refine '-3'"),
        ("expression,refine\nseed(1),\u0663\n", "line 2: refine"),
        ('expression,hold\nseed(1),"ink,,slant"\n', "line 2: hold ink,,slant: a name is blank"),
        (HEADER + "seed(1),a,,\nseed(2),A,,\n", "line 3: name A is already used on line 2"),
        (HEADER + "seed(1),,,\nsead(,,,\n", "line 3: expression, column 6"),
        (HEADER + '"seed(1),a,1,\n', "not valid CSV"),
        (HEADER + "\udcff", "not valid CSV"),
    ],
)
def test_table_mistake_reports_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=message) as error:
        read_table(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"image(""none.png"")",,,', "line 3: expression, column 1: none.png: no such file"),
        ("sead(1),,,", "line 3: expression, column 1: unknown name 'sead', did you mean 'seed'?"),
        (quoted(EIGHT) + ",,,", "line 3: expression: a direction, not an image"),
        (quoted('seed(1) + hold("ink")') + ",,,", "column 11: this map has no measured attributes"),
    ],
)
def test_failed_row_leaves_no_files(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path, row: str, message: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"{HEADER}seed(1),,,\n{row}\n")
    answer = controlgen("batch", line.map_folder, path, "-o", tmp_path / "out")
    assert answer.code == 2
    assert message in answer.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [path]


def test_bank_index_agrees_with_stored_features(line: Any, editor: Editor) -> None:
    features = np.load(line.store.path(line.features) / "features.npy")
    among = min(len(features), BATCH + 7)
    cosine = features[:among] @ features[5]
    actual = editor.bank_index.nearest(editor.feature_from_expression("bank(5)"), 4, among)
    np.testing.assert_array_equal(actual.items, np.argsort(-cosine, kind="stable")[:4])
    np.testing.assert_allclose(actual.cosine, np.sort(cosine)[::-1][:4], atol=1e-4)
    assert actual.items[0] == 5
    stored = np.load(line.store.path(line.bank) / "pixels.npy")
    np.testing.assert_array_equal(actual.pixels, stored[actual.items])
    np.testing.assert_array_equal(editor.generate(actual.latents), actual.pixels)
    # A smaller search ignores the items that are already indexed beyond it.
    assert editor.bank_index.nearest(features[5], 1, 3).items[0] < 3
    with pytest.raises(ConfigError, match="ask for 1 to 3"):
        editor.bank_index.nearest(features[5], 4, 3)


def test_nearest_writes_a_sheet_and_a_table(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path
) -> None:
    picture, table = tmp_path / "near.png", tmp_path / "near.csv"
    options = ("--n", 3, "--among", 40, "--table", table)
    answer = controlgen("nearest", line.map_folder, "bank(2)", "-o", picture, *options)
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert rows[0]["item"] == "bank(2)"
    assert float(rows[0]["cosine"]) == pytest.approx(1, abs=1e-4)
    assert len(rows) == 3
    with Image.open(picture) as opened:
        assert "nearest" in opened.text["recipe"].split()  # type: ignore[attr-defined]
    answer = controlgen("nearest", line.map_folder, EIGHT, "-o", picture)
    assert (answer.code, answer.err.count("\n")) == (2, 1)


def test_data_frames_equal_the_arrays(editor: Editor) -> None:
    samples = editor.sample(3, 1)
    frame = features_to_dataframe(samples.latents, ids=["a", "b", "c"], prefix="z")
    assert list(frame.columns[:2]) == ["z0", "z1"]
    np.testing.assert_array_equal(frame.loc["b"].to_numpy(), samples.latents[1])
    edit = editor.edit(samples, editor.direction_from_expression(EIGHT))
    numbers = edit_to_dataframe(edit)
    assert isinstance(numbers, pd.DataFrame)
    np.testing.assert_array_equal(numbers["agreement"], edit.target_similarity)
    assert numbers.index.name == "id"
    with pytest.raises(ConfigError, match="2 ids for 3 items"):
        features_to_dataframe(samples.latents, ids=["a", "b"])


def test_data_frames_hold_warnings(believed: Path) -> None:
    editor = Editor.load(believed)
    assert editor.confidence_model is not None
    edit = editor.edit(editor.sample(3, 1), editor.direction_from_expression(EIGHT), 4.0)
    # A threshold between two scores, so that only some results have warnings.
    lowest = np.sort(edit.reachability)[:2].mean()
    editor.confidence_model = type(editor.confidence_model)(
        **{**vars(editor.confidence_model), "warn_below": float(lowest)}
    )
    edit = editor.edit(editor.sample(3, 1), editor.direction_from_expression(EIGHT), 4.0)
    numbers = edit_to_dataframe(edit)
    assert list(numbers.columns[2:4]) == ["reachability", "warning"]
    assert tuple(numbers["warning"]) == edit.warnings
    assert sum(map(bool, edit.warnings)) == 1


def test_data_frames_without_pandas_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="tables"):
        features_to_dataframe(np.zeros((1, 2), np.float32))
