"""Both command lines: what they print, what they write, and one line for a user's mistake."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen import Editor, __version__, drawing, stages
from controlgen.artifacts import Ref, Store
from controlgen.attributes import Strokes
from controlgen.features import EfficientNetLite0
from controlgen.figures import edit_strip
from controlgen.metrics.inversion import paired_cosine

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "configs" / "tiny.toml")
EIGHT = 'text("a digit eight")-text("a digit three")'


def refused(answer: Any, says: str) -> None:
    """One line on stderr, nothing on stdout, exit 2."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert says in answer.err, answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("controlgen: ")


@pytest.fixture
def damaged(line: Any, tmp_path: Path) -> Path:
    """A store in which one byte of the map's weights is another."""
    shutil.copytree(line.store.root, tmp_path / "damaged")
    path = Store(tmp_path / "damaged").path(line.map) / "map.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    return tmp_path / "damaged"


def test_list_names_every_artifact(controlgen: Callable[..., Any], line: Any) -> None:
    told = controlgen("list", "--store", line.store.root)
    assert told.code == 0
    for ref in line.store.refs():
        assert str(ref) in told.out
    assert f"gan {line.gan}" in told.out
    assert told.err == ""


def test_list_shows_whole_names_on_a_narrow_screen(
    controlgen: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are copied from here into `show`."""
    monkeypatch.setenv("COLUMNS", "80")
    store, parent = Store(tmp_path), Ref("gan", f"compare-mnist-{'hinge-' * 4}{'0' * 12}")
    names = [Ref("map", f"{'long-' * 8}{at}-{'1' * 12}") for at in range(2)]
    for ref in names:
        assert len(ref.name) > 40
        with store.making(ref, {"gan": parent, "bank": parent, "features": parent}):
            pass
    told = controlgen("list", "--store", tmp_path)
    lines = told.out.splitlines()
    assert [text.split()[0] for text in lines] == ["artifact", *map(str, names)]
    assert all(text.count(str(parent)) == 3 for text in lines[1:])


def test_list_of_nothing_says_what_to_do(controlgen: Callable[..., Any], tmp_path: Path) -> None:
    refused(controlgen("list", "--store", tmp_path / "none"), "make demo")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("form", ["kind/name", "name", "path"])
def test_show_prints_manifest_and_card(
    controlgen: Callable[..., Any], line: Any, form: str
) -> None:
    names = {"kind/name": line.map, "name": line.map.name, "path": line.map_folder}
    told = controlgen("show", names[form], "--store", line.store.root)
    assert told.code == 0
    assert f"from gan {line.gan}" in told.out
    assert "generator.safetensors" in told.out
    assert f"# Map {line.map.name}" in told.out


def test_check_counts_files_of_one_and_of_all(controlgen: Callable[..., Any], line: Any) -> None:
    told = controlgen("check", line.map, "--store", line.store.root)
    assert told.code == 0
    assert "all as written" in told.out
    told = controlgen("check", "--store", line.store.root)
    assert told.out.count("all as written") == len(line.store.refs())


def test_check_finds_a_flipped_byte(
    controlgen: Callable[..., Any], damaged: Path, line: Any
) -> None:
    refused(controlgen("check", line.map, "--store", damaged), "map.safetensors: differs")
    told = controlgen("check", "--store", damaged)
    assert told.code == 2
    assert told.err.count("\n") == 1
    assert told.out.count("all as written") == len(line.store.refs()) - 1


def test_edit_writes_a_strip_that_says_how_it_was_made(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path
) -> None:
    output = tmp_path / "edit.png"
    command = ["edit", line.map, "--store", line.store.root, "--seed", 7, "--add", EIGHT]
    told = controlgen(*command, "--amount", 1.5, "--steps", 3, "-o", output)
    assert told.code == 0, told.err
    assert told.err == ""
    assert "agree" in told.out
    with Image.open(output) as opened:
        chunks = opened.text  # type: ignore[attr-defined]
        assert opened.format == "PNG"
        picture = np.asarray(opened.convert("L"))
    assert chunks["synthetic"] == "true"
    assert str(line.map_folder) in chunks["model"]
    assert chunks["seed"] == "7"
    recipe = json.loads(chunks["recipe"])
    assert recipe["expression"] == f"seed(7) + ({EIGHT.replace('-', ' - ')})"
    assert (recipe["amount"], recipe["steps"]) == (1.5, 3)
    assert chunks["version"] == __version__
    assert picture.shape[1] > 2 * picture.shape[0]  # source, three steps
    assert picture.std() > 5
    # The same command writes the same picture; another seed another one.
    again = tmp_path / "again.png"
    controlgen(*command, "--amount", 1.5, "--steps", 3, "-o", again)
    assert again.read_bytes() == output.read_bytes()
    command[command.index(7)] = 8
    controlgen(*command, "--amount", 1.5, "--steps", 3, "-o", again)
    assert again.read_bytes() != output.read_bytes()


def test_edit_of_an_image_file(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path, recwarn: Any
) -> None:
    pixels = line.run.train.dataset.open().pixels(np.array([3]))
    Image.fromarray(pixels[0, 0]).convert("RGB").resize((50, 50)).save(tmp_path / "mine.jpg")
    output = tmp_path / "out.PNG"
    told = controlgen(
        *("edit", line.map_folder, "--image", tmp_path / "mine.jpg", "--steps", 1),
        *("--add", f'text("$1$ $\\\\frac{{$") - image("{tmp_path / "mine.jpg"}")'),
        *("--residual", "--generator", line.store.path(line.gan), "-o", output),
    )
    assert told.code == 0, told.err
    with Image.open(output) as opened:
        chunks = opened.text  # type: ignore[attr-defined]
    assert chunks["seed"] == "image mine.jpg"
    assert json.loads(chunks["recipe"])["residual"] is True
    # The first picture is not the generator's, and the strip says so.
    assert chunks["synthetic"] == "in part"
    assert chunks["real"] == "the first picture, image mine.jpg"


def test_an_edit_of_an_image_shows_and_says_what_the_model_keeps_of_it(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, Any] = {}

    def strip(path: Any, pixels: Any, labels: Any, provenance: Any, title: str) -> None:
        kept.update(pixels=pixels, labels=labels)
        edit_strip(path, pixels, labels, provenance, title)

    monkeypatch.setattr(drawing, "edit_strip", strip)
    pixels = line.run.train.dataset.open().pixels(np.array([3]))
    Image.fromarray(pixels[0, 0]).save(tmp_path / "mine.png")
    command = ["edit", line.map_folder, f'image("{tmp_path / "mine.png"}") + ({EIGHT})']
    told = controlgen(*command, "--steps", 2, "-o", tmp_path / "strip.png")
    assert (told.code, told.err) == (0, "")

    # Beside the source stands its projection; the numbers are those of `project`.
    editor = Editor.load(line.map_folder)
    projected = editor.generate(editor.invert(editor.embed(pixels)))
    assert kept["labels"] == ["source", "projected", "0.5", "1"]
    np.testing.assert_array_equal(kept["pixels"][:2], np.concatenate([pixels, projected]))
    audit = EfficientNetLite0(image_size=128).open()
    cosine = paired_cosine(audit.embed(pixels), audit.embed(projected))[0]
    said = [text for text in told.out.splitlines() if "as the model can show it" in text]
    assert len(said) == 1 and f"audit cosine {cosine:.3f} " in said[0], told.out

    # The strip's own recipe draws it again; the result alone is all synthetic.
    controlgen("edit", "--recipe", tmp_path / "strip.png", "-o", tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "strip.png").read_bytes()
    told = controlgen(*command, "--plain", "-o", tmp_path / "plain.png")
    assert "as the model can show it" in told.out
    with Image.open(tmp_path / "plain.png") as opened:
        assert opened.text["synthetic"] == "true"  # type: ignore[attr-defined]
    told = controlgen(*command[:2], f"seed(1) + ({EIGHT})", "-o", tmp_path / "seed.png")
    assert "as the model can show it" not in told.out


@pytest.fixture(scope="module")
def measured_map(line: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny line's map, fitted again with measured attributes."""
    root = tmp_path_factory.mktemp("measured") / "store"
    return Path(line.refitted(root, attributes={"kind": "strokes"}))


def test_edit_by_attribute_prints_what_was_measured(
    controlgen: Callable[..., Any], measured_map: Path, line: Any, tmp_path: Path
) -> None:
    output = tmp_path / "edit.png"
    command = ["edit", measured_map, "--seed", 4, "--steps", 2, "-o", output]
    told = controlgen(
        *command, "--add", 'attribute("ink") - 0.5*attribute("slant")', "--hold", "width, height"
    )
    assert (told.code, told.err) == (0, "")
    with Image.open(output) as opened:
        recipe = json.loads(opened.text["recipe"])  # type: ignore[attr-defined]
    assert recipe["expression"].endswith(' + hold("width", "height")')
    header, *lines = told.out.split("\n\n")[1].splitlines()
    assert header.split() == ["measured", "before", "after", "sigmas"]
    rows = {one.split()[0]: one.split()[1:] for one in lines}
    assert tuple(rows) == Strokes().names
    assert [name for name, row in rows.items() if row[-1] == "held"] == ["width", "height"]

    # The numbers are those that the same edit has in Python.
    editor = Editor.load(measured_map)
    assert editor.attributes is not None
    direction = editor.parse('attribute("ink")-attribute("slant")/2', hold=("width", "height"))
    source = editor.sample(1, 4).latents
    edit = editor.edit(source, direction, hold=("width", "height"))
    assert edit.attributes is not None
    wanted = np.stack([edit.attributes.before[0], edit.attributes.after[0]], 1)
    found = np.array([[float(number) for number in row[:2]] for row in rows.values()])
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    change = (wanted[:, 1] - wanted[:, 0]) / editor.attributes.spread
    sigmas = [float(row[2]) for row in rows.values()]
    np.testing.assert_allclose(sigmas, change, atol=0.006)

    # A map without attributes prints none.
    told = controlgen("edit", line.map_folder, "--add", EIGHT, "-o", output)
    assert (told.code, "measured" in told.out) == (0, False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--add", 'attribute("inc")'), "column 11: unknown attribute 'inc', did you mean 'ink'?"),
        (("--add", EIGHT, "--hold", "ink,,slant"), "a name is blank"),
        (("--add", EIGHT, "--hold", "ink,ink"), "name each one once"),
        (("--add", 'attribute("ink")', "--hold", "slant,ink"), "cannot be moved and held"),
        (("--add", 'mean(attribute("ink"))'), "mean takes pictures here; add changes outside"),
    ],
)
def test_a_mistake_about_attributes_is_one_line(
    controlgen: Callable[..., Any],
    measured_map: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    says: str,
) -> None:
    refused(controlgen("edit", measured_map, *options, "-o", tmp_path / "a.png"), says)
    assert list(tmp_path.iterdir()) == []


def test_an_edit_says_where_its_picture_must_be_named(
    controlgen: Callable[..., Any], measured_map: Path
) -> None:
    refused(controlgen("edit", measured_map, "--seed", 4), "as in -o edit.png")


def test_many_answers_are_drawn_best_first(
    controlgen: Callable[..., Any], line: Any, tmp_path: Path
) -> None:
    output = tmp_path / "answers.png"
    folder = line.refitted(tmp_path / "store", map={"kind": "gaussian"})
    told = controlgen("edit", folder, f"seed(3) + {EIGHT}", "--answers", 3, "-o", output)
    assert (told.code, told.err) == (0, ""), told
    again = tmp_path / "again.png"
    told = controlgen("edit", "--recipe", output, "-o", again)
    assert (told.code, told.err) == (0, ""), told
    assert again.read_bytes() == output.read_bytes()
    with Image.open(output) as opened:
        assert json.loads(opened.text["recipe"])["answers"] == 3  # type: ignore[attr-defined]
        assert opened.width > 1.5 * opened.height
    # A map with one answer says which kinds have more, and nothing is written.
    command = ("edit", line.map_folder, f"seed(3) + {EIGHT}", "--answers", 3)
    refused(controlgen(*command, "-o", tmp_path / "none.png"), "fit one that gives many")
    assert not (tmp_path / "none.png").exists()


@pytest.fixture(scope="module")
def other_gan(line: Any) -> Any:
    shorter = line.run.train.model_copy(update={"total_images": 32})
    store = Store(line.store.root.parent / "other")
    return store.path(stages.train_gan("other", shorter, store))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"map": "map/nothing-123"}, "map/nothing-123: no such artifact"),
        ({"map": "artifacts/pretrained/nothing"}, "no such artifact"),
        ({"map": "GAN"}, "not a map"),
        ({"--image": "missing.png"}, "missing.png: no such file"),
        ({"--image": "text.png"}, "text.png: text, not an image"),
        ({"--add": 'text("")'}, "expression, column 6: text of an empty text"),
        ({"--add": 'text("  ") - text("a")'}, "column 6: text of an empty text"),
        ({"--add": ""}, "column 1: expected a number, a name or (, found the end"),
        ({"--add": "eight"}, "column 6: expected ( after eight"),
        ({"--add": 'tex("a")'}, "column 1: unknown name 'tex', did you mean 'text'?"),
        ({"--add": "__import__('os').system('touch owned')"}, 'column 17: "." has no meaning'),
        ({"--add": 'text("a") * text("b")'}, "column 11: * wants a number on one side"),
        ({"--add": "(" * 3000}, "more than 40 levels"),
        ({"--add": "(" * 5000}, "5000 characters are too many"),
        ({"--add": "bank(99999)"}, "there is no item 99999"),
        ({"expression": "seed(1)"}, "give an expression, as in"),
        ({"--recipe": "text.png"}, "--recipe says all of it; leave --add out"),
        ({"--save-recipe": "recipe.txt"}, "ends in .toml or .json"),
        ({"--save-recipe": "nowhere/recipe.toml"}, "the folder nowhere does not exist"),
        ({"--add": 'image("text.png")'}, "text, not an image"),
        ({"-o": "edit.jpg"}, "name a file that ends in .png"),
        ({"-o": "folder.png"}, "name a file that ends in .png"),
        ({"-o": "nowhere/edit.png"}, "the folder nowhere does not exist"),
        ({"--generator": "OTHER"}, "was fitted to another generator"),
        ({"--generator": "gan/nothing-1"}, "no such artifact"),
        ({"--amount": "nan"}, "must be a finite number"),
        ({"--amount": "1e39"}, "must be a finite number"),
        ({"--seed": "3", "--image": "text.png"}, "not both"),
        ({"--hold": "ink"}, "no measured attributes"),
        ({"--add": 'attribute("ink")'}, "no measured attributes"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_mistake_is_one_line_exit_2_and_nothing_written(
    controlgen: Callable[..., Any],
    line: Any,
    other_gan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    stand_ins = {"GAN": str(line.gan), "OTHER": str(other_gan)}
    given = {"map": str(line.map), "--add": EIGHT, "-o": "edit.png"}
    given |= {key: stand_ins.get(value, value) for key, value in arguments.items()}
    places = [given.pop("map"), *([given.pop("expression")] if "expression" in given else [])]
    command = [*places, *(part for pair in given.items() for part in pair)]
    refused(controlgen("edit", "--store", line.store.root, *command), says)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_map_is_refused(
    controlgen: Callable[..., Any], damaged: Path, line: Any, tmp_path: Path
) -> None:
    answer = controlgen(
        "edit", line.map, "--store", damaged, "--add", EIGHT, "-o", tmp_path / "a.png"
    )
    refused(answer, "map.safetensors: differs from its SHA-256")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("command", ["show", "check"])
@pytest.mark.parametrize("name", ["gan/nothing-1", "nothing", "../../etc", "/"])
def test_a_missing_artifact_is_one_line(
    controlgen: Callable[..., Any], line: Any, command: str, name: str
) -> None:
    refused(controlgen(command, name, "--store", line.store.root), "no such artifact")


def process(*command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_real_process_ends_in_one_line_without_a_traceback(tmp_path: Path) -> None:
    """Once for each command line as a process: what a shell sees."""
    ended = process("-m", "flows.pipeline", TINY, "--set", "train.gama=1", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"ConfigError: {TINY}: unknown key train.gama\n"
    code = "from controlgen.cli import main; main()"
    ended = process("-c", code, "show", "gan/none-1", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("controlgen: gan/none-1: no such artifact")
    assert ended.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pipeline(command_line: Callable[..., Any]) -> Callable[..., Any]:
    """Runs `python -m flows.pipeline ...` in this process."""
    pytest.importorskip("prefect")
    from flows.command import run_and_ship
    from flows.pipeline import main

    return partial(command_line, partial(run_and_ship, main), "flows.pipeline")


@pytest.mark.parametrize(
    ("config", "override", "says"),
    [
        (
            "name = 'x'\n[train]\ndataset = {kind = 'digits'}\nbatchsize = 3",
            None,
            "train.batchsize",
        ),
        ("name = 'x'\n[trian]\n", None, "unknown key trian"),
        ("name = 'x'", None, "train is missing"),
        ("name = 'x", None, "not valid TOML"),
        ("name = '../x'\n[train]\ndataset = {kind = 'digits'}", None, "name: "),
        (None, "train.objective.gama=0.5", "unknown key train.objective.r3gan.gama"),
        (None, "sample.n=few", "sample.n"),
        (None, "sample.n=-5", "sample.n"),
        (None, "sample", "write it as section.key=value"),
        (None, "name.x=1", "name is a value, not a section"),
        (None, "train.dataset.kind=mnits", "train.dataset"),
        (None, "fit.held_out=201", "leaves less than half of sample.n = 400"),
        (None, "train.learning_rate.start=nan", "learning_rate"),
        ("MISSING", None, "cannot be read"),
    ],
    ids=str,
)
def test_a_mistake_in_a_config_is_one_line_and_no_store(
    pipeline: Callable[..., Any],
    tmp_path: Path,
    config: str | None,
    override: str | None,
    says: str,
) -> None:
    path = tmp_path / "run.toml"
    if config != "MISSING":
        path.write_text(Path(TINY).read_text() if config is None else config)
    store = tmp_path / "store"
    told = pipeline(path, *(["--set", override] if override else []), "--store", store)
    assert told.code == 2
    assert told.out == ""
    assert says in told.err
    assert told.err.startswith("ConfigError: ")
    assert told.err.count("\n") == 1
    assert not store.exists()


def test_dry_run_prints_the_effective_config_and_writes_nothing(
    pipeline: Callable[..., Any], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    told = pipeline(TINY, "--set", "train.objective.gamma=0.25", "--store", store, "--dry-run")
    assert (told.code, told.err) == (0, "")
    shown = json.loads(told.out)
    assert shown["name"] == "tiny"
    assert shown["train"]["objective"]["gamma"] == {"start": 0.25, "end": 0.25}
    assert shown["train"]["precision"] == "auto"  # a default that the file does not mention
    assert shown["sample"]["n"] == 400
    assert list(tmp_path.iterdir()) == []
