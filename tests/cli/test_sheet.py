"""`controlgen sheet`: layout, captions, nearest tiles and mistakes."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from command_lines import TO_EIGHT
from controlgen.attributes import StrokeAttributes
from controlgen.cli import sheet as sheet_module
from controlgen.editing import Editor
from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ConfigError
from controlgen.evaluation.projection import projection_summary
from controlgen.figures import Column, contact_sheet
from controlgen.networks import R3GANConfig
from controlgen.regressors import RetrievalConfig
from controlgen.rng import normals, stream, torch_stream

NETWORK = {"widths": [16, 16], "blocks": 1, "patch": 4, "latent_size": 8}


@pytest.fixture
def sheet(controlgen, monkeypatch, tmp_path_factory):
    """Runs `controlgen sheet ...` in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("CONTROLGEN_DATA", str(tmp_path_factory.mktemp("prepared")))
    return partial(controlgen, "sheet")


def save_images(folder, pixels):
    """A folder with a PNG of each image, all of one group."""
    folder.mkdir()
    lines = ["file,class,source_tile"]
    for at, image in enumerate(pixels):
        plane = image.transpose(1, 2, 0)
        Image.fromarray(plane[..., 0] if plane.shape[2] == 1 else plane).save(
            folder / f"{at:02d}.png"
        )
        lines.append(f"{at:02d}.png,any,one")
    (folder / "groups.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_contact_sheet_places_images_in_rows_and_columns(tmp_path):
    # Each cell has a unique shade, so that the median of its pixels is its position.
    shades = np.arange(40, 40 + 12 * 15, 15, dtype=np.uint8).reshape(3, 4)
    columns = [
        Column(
            f"c{x}", np.stack([np.full((1, 8, 8), shades[y, x]) for y in range(3)]), ["a\nb"] * 3
        )
        for x in range(4)
    ]
    path = tmp_path / "sheet.png"
    contact_sheet(path, columns, {"model": "toy"}, "cost $1$ \\frac{", "foot $2", detached=1)
    picture = np.asarray(Image.open(path).convert("L"))
    middles = np.zeros((3, 4, 2))
    for (y, x), shade in np.ndenumerate(shades):
        rows, across = np.nonzero(picture == shade)
        assert len(rows) > 2000
        middles[y, x] = np.median(rows), np.median(across)
    assert np.ptp(middles[..., 0], axis=1).max() <= 1
    assert np.ptp(middles[..., 1], axis=0).max() <= 1
    down, right = np.diff(middles[:, 0, 0]), np.diff(middles[0, :, 1])
    assert (down > 100).all()
    np.testing.assert_allclose(right[:2], right[0], atol=1)
    assert right[2] > 1.1 * right[0]


def test_format_short():
    values = {0.214: ".21", -0.05: "-.05", 0: ".00", 0.999: "1.00", 3.14: "3.1", 123.4: "123"}
    assert {value: sheet_module.format_short(value) for value in values} == values


@pytest.mark.parametrize("text", ["", "1,,2", "one", "1;2"])
def test_parse_amounts_rejects_other_text(text):
    with pytest.raises(ConfigError, match="write numbers with commas"):
        sheet_module.parse_amounts(text)


def test_sheet_is_deterministic_and_has_provenance(sheet, line, tmp_path):
    output = tmp_path / "sheet.png"
    command = [
        line.map,
        "--store",
        line.store.root,
        "--add",
        TO_EIGHT,
        "--amounts=-1,0.5",
        "--n",
        3,
    ]
    code, out, err = sheet(*command, "--seed", 7, "-o", output)
    assert (code, err) == (0, "")
    assert "3 rows" in out
    assert "amount -1: agreement" in out
    with Image.open(output) as opened:
        chunks = dict(opened.text)
    assert chunks["synthetic"] == "true"
    assert chunks["seed"] == "7"
    assert str(line.map_folder) in chunks["model"]
    sheet(*command, "--seed", 7, "-o", tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == output.read_bytes()


def test_nearest_tile_of_a_sample_among_the_tiles_is_itself(sheet, line, tmp_path):
    # A residual edit of amount 0 is the sample itself.
    editor = Editor.load(line.map_folder)
    noise = stream(0, "noise").integers(0, 256, (3, *editor.image_shape)).astype(np.uint8)
    tiles = save_images(tmp_path / "tiles", np.concatenate([noise, editor.sample(2, 5).pixels]))
    output = tmp_path / "sheet.png"
    command = [
        line.map,
        "--store",
        line.store.root,
        "--add",
        TO_EIGHT,
        "--amounts=0",
        "--residual",
    ]
    code, out, _ = sheet(*command, "--n", 2, "--seed", 5, "--tiles", tiles, "-o", output)
    assert code == 0
    assert "Nearest of 5 training tiles" in out
    assert "cosine distance 0.000 to 0.000" in out
    with Image.open(output) as opened:
        assert opened.text["synthetic"] == "in part"
        assert opened.text["real"] == "nearest tiles from tiles"


def test_rows_start_from_real_images(sheet, line, tmp_path, monkeypatch):
    captured = capture_sheet(monkeypatch)
    pixels = line.run.train.dataset.open().pixels(np.arange(3))
    folder = save_images(tmp_path / "real", pixels)
    output = tmp_path / "sheet.png"
    command = [
        line.map,
        "--store",
        line.store.root,
        "--add",
        TO_EIGHT,
        "--amounts=1",
        "-o",
        output,
    ]
    code, out, err = sheet(*command, "--images", folder, "--n", 2)
    assert (code, err) == (0, "")
    assert "2 rows" in out
    with Image.open(output) as opened:
        assert opened.text["real"] == "sources from real"
        assert opened.text["synthetic"] == "in part"

    # Each source has its projection next to it, and a line reports its quality.
    assert [column.heading.split("\n")[0] for column in captured["columns"]] == [
        "source",
        "projected",
        "1",
    ]
    editor = Editor.load(line.map_folder)
    projected = editor.generate(editor.invert(editor.embed(pixels[:2])))
    np.testing.assert_array_equal(captured["columns"][1].pixels, projected)
    message = projection_summary(editor, pixels[:2])
    assert message in out.splitlines() and message.startswith(
        "2 images as the model reconstructs them"
    )


INVALID = {
    "output": (["-o", "sheet.jpg"], "ends in .png"),
    "amounts": (["--amounts=1,x"], "write numbers"),
    "infinite": (["--amounts=1,inf"], "finite"),
    "many": (["--amounts=" + ",".join("1" * 10)], "at most 9"),
    "hold": (["--hold", "ink"], "measures no attributes"),
    "blank": (["--hold", "ink,,slant"], "a name is blank"),
    "both": (["--seed", "0", "--images", "EMPTY"], "only one of them"),
    "empty": (["--images", "EMPTY"], "holds no image file"),
    "no folder": (["--images", "EMPTY/none"], "no such folder"),
    "no image": (["--images", "TEXT"], "text, not an image"),
    "no tiles": (["--tiles", "EMPTY/none"], "no such folder"),
    "direction": (["--add", "eight"], "column 6: expected ( after eight"),
}


@pytest.mark.parametrize("name", INVALID)
def test_sheet_mistake_prints_one_line_and_writes_nothing(sheet, line, tmp_path, monkeypatch, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("no image")
    output = tmp_path / "sheet.png"
    template, message = INVALID[name]
    arguments = [
        part.replace("EMPTY", str(tmp_path / "empty")).replace("TEXT", str(tmp_path / "text"))
        for part in template
    ]

    def edit(*arguments, **settings):
        raise AssertionError("edit was called")

    monkeypatch.setattr(Editor, "edit", edit)
    options = ["--add", TO_EIGHT, "-o", output, *arguments]
    code, out, err = sheet(line.map, "--store", line.store.root, *options)
    assert code == 2
    assert out == ""
    assert err.startswith("controlgen: ")
    assert message in err
    assert err.count("\n") == 1
    assert not output.exists()


def test_large_folder_needs_a_number_of_rows(sheet, line, tmp_path):
    folder = save_images(tmp_path / "real", np.zeros((33, 1, 8, 8), np.uint8))
    options = ["--add", TO_EIGHT, "--images", folder, "-o", tmp_path / "sheet.png"]
    code, _, err = sheet(line.map, "--store", line.store.root, *options)
    assert code == 2
    assert "33 images, but a sheet has at most 32 rows" in err


class PlainSpace:
    """Features are the means of sixteen squares in each channel, at unit length."""

    size = 3 * 4 * 4
    fingerprint = "original"

    def embed(self, pixels, batch_size=256):
        n, channels, side, _ = pixels.shape
        squares = pixels.reshape(n, channels, 4, side // 4, 4, side // 4).mean((3, 5))
        rows = squares.reshape(n, -1).astype(np.float32) / 255 + 0.01
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def colour_editor(monkeypatch):
    """Editor.load returns an editor of colour images with measured attributes."""
    generator = R3GANConfig(**NETWORK).generator(3, torch_stream(0, "toy"))
    latents, space = normals(0, "bank", 0, 64, 8), PlainSpace()
    editor = Editor(generator, space, None, None, (3, 1, 1))
    pixels = editor.generate(latents)
    features = space.embed(pixels)
    editor.image_shape = pixels.shape[1:]
    editor.map = RetrievalConfig().build().fit(features, latents)
    editor.statistics = FeaturePCA.fit(features)
    editor.attributes = AttributeModel.fit_from_images(
        StrokeAttributes(), pixels, features, editor.statistics
    )
    monkeypatch.setattr(sheet_module.Editor, "load", lambda folder: editor)
    return editor


def capture_sheet(monkeypatch):
    captured = {}

    def draw(path, columns, provenance, title, footer, detached):
        captured.update(columns=columns, footer=footer, detached=detached)
        contact_sheet(path, columns, provenance, title, footer, detached)

    monkeypatch.setattr(sheet_module, "contact_sheet", draw)
    return captured


def test_captions_and_nearest_tile_of_colour_images(
    colour_editor, line, tmp_path, monkeypatch, sheet
):
    samples = colour_editor.sample(2, 0)
    shape = (3, *colour_editor.image_shape)
    noise = stream(0, "noise").integers(0, 256, shape).astype(np.uint8)
    turned = np.ascontiguousarray(np.rot90(samples.pixels, 1, axes=(2, 3)))
    tiles = save_images(tmp_path / "tiles", np.concatenate([noise, turned]))
    captured = capture_sheet(monkeypatch)
    output = tmp_path / "sheet.png"
    add = 'attribute("slant")'
    options = ["--add", add, "--amounts=1,0", "--residual", "--n", 2, "--tiles", tiles]
    code, _, err = sheet(line.map, "--store", line.store.root, *options, "-o", output)
    assert code == 0, err

    # The edited attribute comes first; captions are the measurements of their images.
    headings = [column.heading.split("\n")[0] for column in captured["columns"]]
    assert headings == ["source", "1", "0", "nearest"]
    names = list(StrokeAttributes().names)
    for column in captured["columns"][:3]:
        values = StrokeAttributes().measure(column.pixels)[:, names.index("slant")]
        for caption, value in zip(column.captions, values, strict=True):
            assert caption.startswith(f"S {sheet_module.format_short(value)}  I ")
            # All attributes are listed, two per line.
            words = [word for text in caption.split("\n") for word in text.split("  ")]
            assert [word[0] for word in words[:5]] == ["S", "I", "T", "W", "H"]
    assert "S slant, I ink, T thickness, W width, H height." in captured["footer"]

    # The nearest tile is the sample rotated by 90 degrees, drawn in the matching pose.
    np.testing.assert_array_equal(captured["columns"][2].pixels, samples.pixels)
    np.testing.assert_array_equal(captured["columns"][3].pixels, samples.pixels)
    assert captured["columns"][3].captions == ["distance 0.000"] * 2
    assert captured["detached"] == 1


def test_hold_and_corrections_reach_the_editor(colour_editor, line, tmp_path, monkeypatch, sheet):
    recorded, rounds = [], []
    original = Editor.edit

    def edit(self, *arguments, **settings):
        recorded.append(settings["hold"])
        rounds.append(settings["corrections"])
        return original(self, *arguments, **settings)

    monkeypatch.setattr(Editor, "edit", edit)
    output = tmp_path / "sheet.png"
    options = ["--add", 'attribute("ink")', "--hold", "slant, width", "--amounts=1", "--n", 1]
    code, out, err = sheet(line.map, "--store", line.store.root, *options, "-o", output)
    assert code == 0, err
    assert (recorded, rounds) == ([("slant", "width")], [None])
    with Image.open(output) as opened:
        assert "--hold=slant,width" in opened.text["recipe"]
    # Holds of the expression come first, without duplicates.
    options[1] += ' + hold("width")'
    code, out, err = sheet(line.map, "--store", line.store.root, *options, "-o", output)
    assert (code, recorded[1:]) == (0, [("width", "slant")]), err
    code, out, err = sheet(
        line.map, "--store", line.store.root, *options, "--corrections", 3, "-o", output
    )
    assert (code, rounds[-1]) == (0, 3), err
    with Image.open(output) as opened:
        assert "--corrections=3" in opened.text["recipe"]
    options[3] = "shade"
    code, out, err = sheet(line.map, "--store", line.store.root, *options, "-o", output)
    assert (code, out) == (2, "")
    assert "shade" in err
