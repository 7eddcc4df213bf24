"""Files in expressions: local or uploaded."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from controlgen import Editor
from controlgen.editing.expressions import resolver
from controlgen.editing.expressions.files import LocalFiles, UploadedFiles
from controlgen.errors import DataError


def png(shade: int, size: int = 32) -> bytes:
    buffer = io.BytesIO()
    plane = np.full((size, size), shade, np.uint8)
    plane[4:20, 8:12] = 255 - shade
    Image.fromarray(plane).save(buffer, "PNG")
    return buffer.getvalue()


UPLOADED = UploadedFiles(
    {"new/a.png": png(0), "new/b.png": png(60), "c.png": png(200), "d.txt": b"-"}
)


def test_uploaded_files_match_names_patterns_and_folders() -> None:
    assert UPLOADED.glob("new/*.png") == ["new/a.png", "new/b.png"]
    assert UPLOADED.glob("new") == UPLOADED.glob("new/") == ["new/a.png", "new/b.png"]
    assert UPLOADED.glob("[c-e].*") == ["c.png"]  # d.txt is no image
    assert UPLOADED.read("c.png") == png(200)
    with pytest.raises(DataError, match=r"e\.png: was not uploaded; uploaded files: c\.png, d"):
        UPLOADED.read("e.png")
    with pytest.raises(DataError, match=r"old/\*: matches no uploaded image"):
        UPLOADED.glob("old/*")
    with pytest.raises(DataError, match=r"x: was not uploaded; uploaded files: none"):
        UploadedFiles({}).read("x")
    with pytest.raises(DataError, match=r"c\.png: larger than"):
        UPLOADED.read("c.png", max_bytes=10)


def test_local_and_uploaded_files_give_the_same_result(
    editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in UPLOADED.contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    text = 'image("c.png") + mean("new/*") - image("new/a.png")'
    local, uploaded = (
        resolver.resolve_edit(editor, text, files=files) for files in (None, UPLOADED)
    )
    assert local.files == uploaded.files
    assert sorted(local.files) == ["c.png", "new/a.png", "new/b.png"]
    assert local.start == uploaded.start == "image c.png"
    np.testing.assert_array_equal(local.source, uploaded.source)
    np.testing.assert_array_equal(local.direction, uploaded.direction)
    directions = [
        resolver.resolve_direction(editor, 'mean("new") - seed(1)', files=files).direction
        for files in (None, UPLOADED)
    ]
    np.testing.assert_array_equal(*directions)


def test_uploaded_files_never_read_from_disk(
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
        with pytest.raises(DataError, match=r"column \d+: .*(was not|no) uploaded"):
            resolver.resolve_edit(editor, text, files=UploadedFiles({}))


def test_pipe_is_rejected_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: no such file"):
        LocalFiles().read(str(tmp_path / "pipe.png"))
