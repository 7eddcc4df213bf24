"""`controlgen score`: sources, results and one-line errors."""

import json
import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from controlgen.cli import score as score_module
from controlgen.cli.image_sources import (
    DATASET_KINDS,
    SELF_CONTAINED,
    SPLITS,
    FolderSource,
    GeneratorSource,
    open_image_sources,
    split_by_source,
)
from controlgen.datasets import Digits
from controlgen.errors import ConfigError
from controlgen.evaluation.scores import MEASURES
from controlgen.features import (
    EfficientNetLite0Config,
    InceptionV3Config,
    OpenClipConfig,
    SelfSupervisedConfig,
)
from controlgen.metrics.frechet import frechet_distance
from controlgen.metrics.perceptual import PerceptualDistance

FAST = ("--extractor", "efficientnet-lite0-32", "--n", "40")
MOST = ",".join(name for name in MEASURES if name not in ("diversity", "nearest"))


@pytest.fixture
def score(controlgen, monkeypatch, tmp_path_factory):
    """Runs `controlgen score ...` in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("CONTROLGEN_DATA", str(tmp_path_factory.mktemp("prepared")))
    return partial(controlgen, "score")


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """Let the perceptual distance use small images, to save time."""
    original = PerceptualDistance.__init__
    monkeypatch.setattr(PerceptualDistance, "__init__", lambda self, size=32: original(self, 32))


def save_images(folder, pixels, names=None, groups=None):
    folder.mkdir()
    lines = ["file,source_tile"]
    for at, image in enumerate(pixels):
        name = f"{at if names is None else names[at]:03d}.png"
        Image.fromarray(image[0]).save(folder / name)
        lines.append(f"{name},{groups[at] if groups is not None else at}")
    if groups is not None:
        (folder / "groups.csv").write_text("\n".join(lines) + "\n")
    return folder


def digits(n, start=0):
    return Digits().open().pixels(np.arange(start, start + n))


def rows(out):
    """The table's cells by measure: value, floor, better, n."""
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines[2:]}


def number(text):
    return float(re.match(r"-?[0-9.]+", text)[0])


def test_score_of_a_model_against_its_data(score, line, tmp_path):
    output = tmp_path / "scores.json"
    command = [line.gan, "digits", *FAST, "--store", line.store.root, "--json", output]
    code, out, _ = score(*command)
    assert code == 0
    table = rows(out)
    assert list(table) == [
        "FD-efficientnet-lite0-32",
        "KD-efficientnet-lite0-32",
        "MMD-efficientnet-lite0-32",
        *("precision", "recall", "density", "coverage"),
        "IS-efficientnet-lite0-32",
        "PD-efficientnet-lite0 diversity",
        "PD-efficientnet-lite0 to nearest real",
        "copies suspected",
        "PPL-efficientnet-lite0",
    ]
    assert f"{line.gan} against digits: 40 images a side, seed 0" in out.splitlines()[0]
    assert "rank-deficient" in out and "images are images of" not in out

    # A barely trained model is further from the digits than other digits.
    value, floor, better, n = table["FD-efficientnet-lite0-32"]
    assert number(value) > 2 * number(floor) and (better, n) == ("lower", "40")
    record = json.loads(output.read_text())
    assert (record["a"], record["b"], record["n"]) == (str(line.gan), "digits", 40)
    assert (
        record["extractor_fingerprint"] == EfficientNetLite0Config(image_size=32).open().fingerprint
    )
    first = record["scores"][0]
    assert f"{first['value']['mean']:.2f}" == f"{number(value):.2f}"
    assert score(*command)[1] == out

    # The map holds the same generator.
    command = [line.map, "digits", *FAST, "--store", line.store.root, "--metrics", "mmd"]
    assert list(rows(score(*command)[1]).values()) == [table["MMD-efficientnet-lite0-32"]]


def test_score_equals_the_metric(score, tmp_path):
    a, b = digits(30), digits(30, 500)
    files = (
        save_images(tmp_path / "a", a),
        save_images(tmp_path / "b", np.concatenate([b, b[:, :, ::-1]])),
    )
    code, out, _ = score(
        *files, "--extractor", "efficientnet-lite0-32", "--metrics", "frechet", "--n", "30"
    )
    assert code == 0
    space = EfficientNetLite0Config(image_size=32).open()
    side = FolderSource(files[1], (1, 32, 32)).draw(30, 0)
    expected = frechet_distance(space.embed(a), space.embed(side))
    value, floor, _, _ = rows(out)["FD-efficientnet-lite0-32"]
    assert number(value) == pytest.approx(expected, rel=1e-2)
    assert number(floor) > 0


def test_score_of_a_data_set_against_itself_is_perfect(score):
    code, out, _ = score("digits:test", "digits:test", *FAST, "--metrics", MOST)
    assert code == 0
    table = rows(out)
    assert number(table["FD-efficientnet-lite0-32"][0]) == 0
    assert number(table["MMD-efficientnet-lite0-32"][0]) == 0
    assert number(table["precision"][0]) == number(table["coverage"][0]) == 1
    assert "40 of 40 images of digits:test are images of digits:test." in out
    assert "copies suspected: copies suspected among 40 real images" in out


def test_score_does_not_depend_on_file_order(score, tmp_path):
    pixels = digits(90)
    order = np.random.default_rng(0).permutation(90)
    files = save_images(tmp_path / "a", pixels, order), save_images(tmp_path / "b", pixels)
    code, out, _ = score(*files, *FAST, "--metrics", "frechet,precision,recall")
    assert code == 0
    assert [number(cells[0]) for cells in rows(out).values()] == [0, 1, 1]
    assert number(rows(out)["FD-efficientnet-lite0-32"][1]) > 0
    assert "40 of 40 images" in out


def test_folder_is_resized_to_the_other_source(line, tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    (tmp_path / "tiles").mkdir()
    Image.fromarray(colour).save(tmp_path / "tiles" / "one.png")
    save_images(tmp_path / "grey", np.pad(digits(2), ((0, 0), (0, 0), (14, 14), (14, 14))))

    def shapes(*names):
        pair = open_image_sources(*map(str, names), lambda name: line.map_folder)
        return [item.shape for item in pair]

    assert shapes(tmp_path / "tiles", "model") == [(1, 32, 32)] * 2
    assert shapes("ihc", tmp_path / "tiles") == [(3, 32, 32)] * 2
    assert shapes(tmp_path / "grey", tmp_path / "tiles") == [(3, 60, 60)] * 2
    assert shapes(tmp_path / "tiles", tmp_path / "grey") == [(1, 60, 60)] * 2


def test_halves_share_no_source_and_depend_only_on_pixels():
    draws = np.random.default_rng(0)
    pixels, sources = digits(60), draws.integers(0, 9, 60)
    first, second = split_by_source(pixels, sources, 5)
    assert sorted([*first, *second]) == list(range(60))
    assert not set(sources[first]) & set(sources[second])
    assert abs(len(first) - len(second)) <= np.bincount(sources).max()
    order = draws.permutation(60)
    again = split_by_source(pixels[order], 100 - sources[order], 5)
    for half, other in zip((first, second), again, strict=True):
        np.testing.assert_array_equal(pixels[half], pixels[order][other])
    assert not np.array_equal(first, split_by_source(pixels, sources, 6)[0])
    assert [len(half) for half in split_by_source(pixels[:3], np.zeros(3, int), 0)] == [3, 0]


def test_images_of_one_source_have_no_floor(score, tmp_path):
    folder = save_images(tmp_path / "one", digits(25), groups=["same"] * 25)
    code, out, _ = score("digits", folder, "--metrics", "mmd", *FAST[:2])
    assert code == 0
    assert rows(out)["MMD-efficientnet-lite0-32"][1] == "-"
    assert "No floor: all images of" in out and "25 images a side" in out


def test_samples_of_a_seed_are_reproducible(line):
    model = GeneratorSource(line.map_folder)
    np.testing.assert_array_equal(model.draw(9, 1)[:4], model.draw(4, 1))
    np.testing.assert_array_equal(model.held_out_images(4, 1), model.draw(8, 1)[4:])
    assert model.available(1, halves=True) is None


def test_self_contained_data_sets_have_two_splits():
    assert SELF_CONTAINED == ["digits", "fashion-mnist", "ihc", "mnist", "stacked-mnist"]
    for name in SELF_CONTAINED:
        assert {DATASET_KINDS[name](split=split).split for split in SPLITS} == set(SPLITS)


def test_parse_extractor(tmp_path):
    parse = score_module.parse_extractor
    assert parse("efficientnet-lite0") == EfficientNetLite0Config(image_size=128)
    assert parse("efficientnet-lite0-64").name == "efficientnet-lite0-64"
    assert parse("inception-v3-768", tmp_path) == InceptionV3Config(features=768, weights=tmp_path)
    assert parse("inception-v3").features == 2048
    assert parse("ViT-B-32/openai") == OpenClipConfig(model="ViT-B-32/openai")
    (tmp_path / "encoder.json").write_text("{}")
    assert parse(str(tmp_path)) == SelfSupervisedConfig(path=tmp_path)
    for text, weights in (("inception-v3-7", None), ("", None), ("clip-mini", tmp_path)):
        with pytest.raises(ConfigError):
            parse(text, weights)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("digits", "nothing"), "nothing: neither a model"),
        (("", "digits"), "neither a model"),
        (("digits:val", "digits"), "digits:val: no such split"),
        (("digits", "slides"), "slides: needs settings"),
        (("digits", "ihc"), "1x32x32"),
        (("digits", "digits", "--n", "398"), "two parts: 397 images a side"),
        (("digits", "digits", "--metrics", "fid"), "--metrics fid: unknown"),
        (("digits", "digits", "--metrics", "path-length"), "is not a model"),
        (("digits", "digits", "--extractor", "none"), "none"),
        (("digits", "digits", "--extractor", "efficientnet-lite0-8"), "image_size"),
        (("digits", "digits", "--extractor", "clip-mini", "--metrics", "inception-score"), "class"),
        (("digits", "digits", "--weights", "w.safetensors"), "--weights"),
        (("digits", "digits", "--json", "no/such/folder/scores.json"), "--json"),
        (
            ("digits", "digits", "--extractor", "inception-v3", "--weights", "w.safetensors"),
            "w.safetensors: cannot be read",
        ),
    ],
)
def test_mistake_prints_one_line(score, words, why, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = score(*words, "--store", tmp_path / "store")
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if line.startswith("controlgen: ")]
    assert why in lines[-1] and len(lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_too_few_images_and_empty_folder_are_rejected(score, tmp_path):
    save_images(tmp_path / "few", digits(30))
    (tmp_path / "empty").mkdir()
    for name, why in (("few", "15 images a side; a score needs 20"), ("empty", "no image file")):
        for words in ((tmp_path / name, tmp_path / name),):
            code, out, err = score(*words)
            assert (code, out) == (2, "")
            assert why in err.splitlines()[-1]
