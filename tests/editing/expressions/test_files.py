"""What an expression may read: this machine's files, or only what was given."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from controlgen import Editor
from controlgen.editing.expressions import resolver
from controlgen.editing.expressions.files import GivenFiles, LocalFiles
from controlgen.errors import DataError


def png(shade: int, size: int = 32) -> bytes:
    buffer = io.BytesIO()
    plane = np.full((size, size), shade, np.uint8)
    plane[4:20, 8:12] = 255 - shade
    Image.fromarray(plane).save(buffer, "PNG")
    return buffer.getvalue()


GIVEN = GivenFiles({"new/a.png": png(0), "new/b.png": png(60), "c.png": png(200), "d.txt": b"-"})


def test_given_files_are_found_by_name_pattern_and_folder() -> None:
    assert GIVEN.matching("new/*.png") == ["new/a.png", "new/b.png"]
    assert GIVEN.matching("new") == GIVEN.matching("new/") == ["new/a.png", "new/b.png"]
    assert GIVEN.matching("[c-e].*") == ["c.png"]  # d.txt is no image
    assert GIVEN.read("c.png") == png(200)
    with pytest.raises(DataError, match=r"e\.png: was not given; there is c\.png, d\.txt, new/a"):
        GIVEN.read("e.png")
    with pytest.raises(DataError, match=r"old/\*: matches no image that was given"):
        GIVEN.matching("old/*")
    with pytest.raises(DataError, match=r"x: was not given; nothing was"):
        GivenFiles({}).read("x")
    with pytest.raises(DataError, match=r"c\.png: larger than"):
        GIVEN.read("c.png", most=10)


def test_local_and_given_files_mean_the_same(
    editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in GIVEN.contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    text = 'image("c.png") + mean("new/*") - image("new/a.png")'
    here, there = (resolver.ask(editor, text, files=files) for files in (None, GIVEN))
    assert here.files == there.files
    assert sorted(here.files) == ["c.png", "new/a.png", "new/b.png"]
    assert here.start == there.start == "image c.png"
    np.testing.assert_array_equal(here.source, there.source)
    np.testing.assert_array_equal(here.direction, there.direction)
    ways = [resolver.way(editor, 'mean("new") - seed(1)', files=files) for files in (None, GIVEN)]
    np.testing.assert_array_equal(ways[0].direction, ways[1].direction)


def test_no_given_expression_reaches_the_disk(
    editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.png").write_bytes(png(9))
    monkeypatch.chdir(tmp_path)
    for text in (
        'image("secret.png")',
        f'image("{tmp_path}/secret.png")',
        'image("../../etc/passwd")',
        'seed(1) + mean("*.png") - seed(2)',
        f'seed(1) + mean("{tmp_path}") - seed(2)',
        'seed(1) + direction("secret.png")',
    ):
        with pytest.raises(DataError, match=r"column \d+: .*(was not|that was) given"):
            resolver.ask(editor, text, files=GivenFiles({}))


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: no such file"):
        LocalFiles().read(str(tmp_path / "pipe.png"))
