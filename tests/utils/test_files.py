"""Where commands write: refused before any work in one line, and never left half-written."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controlgen import Editor
from controlgen.errors import ConfigError
from controlgen.images import atomic_target
from controlgen.utils.files import (
    atomic_write,
    ensure_writable_dir,
    ensure_writable_file,
    write_text,
)

LONG = "x" * 300
CHANGE = 'text("a digit eight") - text("a digit three")'
REFUSED = {
    "edit": ("edit", "MAP", "seed(1)", "-o", "/proc/x.png"),
    "a long name": ("edit", "MAP", "seed(1)", "-o", f"{LONG}.png"),
    "a recipe": ("edit", "MAP", "seed(1)", "-o", "x.png", "--save-recipe", "/proc/r.toml"),
    "sheet": ("sheet", "MAP", "--add", CHANGE, "-o", "/proc/s.png"),
    "nearest": ("nearest", "MAP", "seed(1)", "-o", "x.png", "--table", "/nonexist/x.csv"),
    "a table of the same name": ("nearest", "MAP", "seed(1)", "-o", "x.png", "--table", "x.png"),
    "project": ("project", "MAP", "images", "-o", "/proc/x.png"),
    "direction": ("direction", "MAP", CHANGE, "-o", "no/d.safetensors"),
    "direction, /proc": ("direction", "MAP", CHANGE, "-o", "/proc/d.safetensors"),
    "axes": ("axes", "MAP", "-o", "no/axes"),
    "axes, /proc": ("axes", "MAP", "-o", "/proc/axes"),
    "saved axes": ("axes", "MAP", "-o", "axes", "--save", "no/directions"),
    "score": ("score", "digits", "digits", "--json", "/proc/s.json"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_written_is_refused_before_any_work(
    controlgen: Callable[..., Any],
    line: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    def load(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("a map was opened")

    monkeypatch.setattr(Editor, "load", load)
    monkeypatch.chdir(tmp_path)
    words = [line.map_folder if word == "MAP" else word for word in REFUSED[name]]
    answer = controlgen(*words)
    assert (answer.code, answer.out) == (2, ""), answer
    assert answer.err.startswith("controlgen: ") and answer.err.count("\n") == 1, answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(
    controlgen: Callable[..., Any],
    line: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def replace(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", replace)
    answer = controlgen("edit", line.map_folder, "seed(1)", "-o", tmp_path / "x.png", "--plain")
    assert (answer.code, answer.out) == (2, ""), answer
    assert answer.err == f"controlgen: {tmp_path / 'x.png'}: No space left on device\n"
    assert list(tmp_path.iterdir()) == []


def test_what_fails_under_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("before")
    for opened in (atomic_write, atomic_target):
        with pytest.raises(RuntimeError), opened(path) as partial:
            Path(str(partial)).write_text("half")
            raise RuntimeError
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_folder_itself_is_made(tmp_path: Path) -> None:
    ensure_writable_dir(tmp_path / "new", "-o")
    ensure_writable_dir(tmp_path, "-o")
    ensure_writable_file(tmp_path / "new.png", "-o", (".png",))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="-o .*: the folder .*no does not exist"):
        ensure_writable_dir(tmp_path / "no" / "new", "-o")
    with pytest.raises(ConfigError, match="cannot be written"):
        ensure_writable_dir(Path("/proc/new"))
