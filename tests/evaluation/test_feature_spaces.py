"""Scores of feature spaces against independent implementations, and the report on a folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsClassifier

from controlgen.artifacts import Store
from controlgen.attributes import TissueAttributes
from controlgen.config import SpacesConfig
from controlgen.datasets.arrays import ArrayDataset
from controlgen.errors import ArtifactMissing, ConfigError, Incompatible
from controlgen.evaluation import feature_spaces
from controlgen.evaluation.feature_spaces import LabelledImages, SpaceEvaluator
from controlgen.metrics.bootstrap import resample_counts
from controlgen.stages import compare_spaces

RED, BLUE = (200, 60, 70), (70, 60, 200)


def draws(index: int = 0) -> np.random.Generator:
    return np.random.default_rng(index)


def grouped(sources: int, copies: int, features: int, seed: int = 0) -> tuple[Any, Any]:
    """Features (n d) of `copies` near-copies of each source, and the sources (n)."""
    random = draws(seed)
    centres = random.normal(size=(sources, features))
    rows = np.repeat(centres, copies, 0)
    return rows + 1e-3 * random.normal(size=rows.shape), np.repeat(np.arange(sources), copies)


# Measures.


def test_copies_of_a_source_do_not_help_probe_or_neighbour() -> None:
    """Random labels per source: only copies of an image predict its class."""
    features, sources = grouped(40, 10, 400)
    labels = draws(5).integers(0, 2, 40).repeat(10)
    twins = KNeighborsClassifier(2).fit(features, labels).score(features, labels)
    assert twins == 1.0
    assert 0.2 < feature_spaces.neighbour_agrees(features, labels, sources).mean() < 0.8

    # The same with the evaluator: 30 sources for training, 10 for testing.
    class Fixed(ColourSpace):
        def embed(self, pixels: Any, batch_size: int = 256) -> Any:
            return features

    blank = np.zeros((400, 3, 8, 8), np.uint8)
    scores = SpaceEvaluator(
        config(), LabelledImages(blank, labels, sources, 300, ("a", "b"))
    ).evaluate("fixed", Fixed())
    assert scores.probe is not None and scores.probe.n == 10 and 0.1 <= scores.probe.mean <= 0.9


@given(st.integers(0, 2**20), st.integers(1, 9))
def test_neighbours_equal_those_of_all_pairs(seed: int, chunk: int) -> None:
    random = draws(seed)
    rows = random.normal(size=(20, 3))
    labels, sources = random.integers(0, 3, 20), random.integers(0, 4, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_spaces, "CHUNK_ROWS", chunk)
        actual = feature_spaces.neighbour_agrees(rows, labels, sources)
    for index, row in enumerate(rows):
        others = [j for j in range(20) if sources[j] != sources[index]]
        near = min(others, key=lambda j: ((rows[j] - row) ** 2).sum(), default=None)
        assert actual[index] == (near is not None and labels[near] == labels[index])


def test_images_of_one_source_agree_with_none() -> None:
    same = np.zeros(5, np.int64)
    assert not feature_spaces.neighbour_agrees(draws().normal(size=(5, 2)), same, same).any()


@pytest.mark.parametrize("features", [6, 80])
def test_ridge_equals_scikit_learn_with_a_strength_per_column(features: int) -> None:
    """Also with more features than images."""
    random = draws(features)
    rows, sources = grouped(10, 5, features, features)
    rows += random.normal(size=rows.shape)
    weights = random.normal(size=(features, 2))
    values = rows @ weights + [1.0, 30.0] * random.normal(size=(50, 2)) + [5, -3]
    queries = random.normal(size=(30, features))
    folds = list(GroupKFold(5).split(rows, groups=sources))
    predicted = feature_spaces.ridge_predictions(rows, values, queries, folds)
    strengths = set()
    for column in range(2):
        search = GridSearchCV(
            Ridge(),
            {"alpha": feature_spaces.RIDGE_STRENGTHS},
            cv=GroupKFold(5),
            scoring="neg_mean_squared_error",
        ).fit(rows, values[:, column], groups=sources)
        np.testing.assert_allclose(
            predicted[:, column], search.predict(queries), rtol=1e-6, atol=1e-6
        )
        strengths.add(search.best_params_["alpha"])
    assert len(strengths) == 2


def test_r2_and_its_interval_equal_explicit_resampling_of_sources() -> None:
    random = draws(3)
    sources = random.integers(0, 7, 60)
    true = random.normal(100, 1, 60) + sources
    predicted = true + random.normal(size=60)
    actual = feature_spaces.r2_interval(true, predicted, seed=4, bootstraps=50, sources=sources)
    assert actual is not None and actual.n == 7
    assert actual.mean == pytest.approx(r2_score(true, predicted))
    scores = []
    for counts in resample_counts(7, 4, 50).astype(int):
        rows = np.repeat(np.arange(60), counts[sources])
        scores.append(r2_score(true[rows], predicted[rows]))
    assert (actual.low, actual.high) == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])))


def test_r2_of_constant_values_is_none() -> None:
    sources = np.arange(4)
    assert feature_spaces.r2_interval(np.full(4, 0.3), np.zeros(4), 0, 10, sources) is None
    exact = feature_spaces.r2_interval(np.arange(4.0), np.arange(4.0), 0, 10, sources)
    assert exact is not None and exact[:3] == (1, 1, 1)


def test_colour_moments_are_those_of_each_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feature_spaces, "CHUNK_ROWS", 2)
    pixels = np.zeros((3, 2, 4, 4), np.uint8)
    pixels[0, 0] = 255
    pixels[2, 1, :2] = 51
    actual = feature_spaces.colour_moments(pixels)
    np.testing.assert_allclose(actual, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0.1, 0, 0.1]], atol=1e-12)


def test_load_keeps_rows_together_and_sources_of_the_splits_apart() -> None:
    """Source numbers start at zero in both splits."""
    number = np.arange(40)
    pixels = np.broadcast_to(number[:, None, None, None], (40, 3, 4, 4)).astype(np.uint8)
    train = ArrayDataset(pixels, number % 2, ("even", "odd"), number // 4)
    test = ArrayDataset(pixels + 100, number % 2, ("even", "odd"), number // 4)
    actual = LabelledImages.load(train, test, limit=16, seed=1)
    assert actual.counts["train images"] == actual.counts["test images"] == actual.train == 16
    numbers = actual.pixels[:, 0, 0, 0].astype(int)
    assert (numbers[:16] < 40).all() and (numbers[16:] >= 100).all()
    assert not np.array_equal(numbers[:16], numbers[16:] - 100)
    np.testing.assert_array_equal(actual.labels, numbers % 100 % 2)
    # Images share a source only if they share a number within a split.
    own = np.array([(k < 16, value % 100 // 4) for k, value in enumerate(numbers)])
    same = (own[:, None] == own[None]).all(2)
    np.testing.assert_array_equal(actual.sources[:, None] == actual.sources, same)
    again = LabelledImages.load(train, test, limit=16, seed=1)
    np.testing.assert_array_equal(again.pixels, actual.pixels)
    assert len(LabelledImages.load(train, test, limit=1000, seed=1).pixels) == 80


# The evaluator on spaces with known results.


class ColourSpace:
    """Two features, the class itself; texts name the class."""

    size, fingerprint = 2, "upside"

    def embed(self, pixels: Any, batch_size: int = 256) -> Any:
        red = pixels[:, 0].mean((1, 2)) > pixels[:, 2].mean((1, 2))
        return np.stack([red, ~red], 1).astype(np.float32)

    def embed_text(self, texts: list[str]) -> Any:
        return np.array([[1, 0.1] if "red" in text else [0.1, 1] for text in texts], np.float32)


def tiles(classes: int = 2, sources: int = 6, copies: int = 3, size: int = 32) -> LabelledImages:
    """Noisy red and blue tiles; two thirds of the sources are for training."""
    random = draws(7)
    n = sources * copies
    labels = np.repeat(np.arange(sources) % classes, copies)
    paint = np.array([RED, BLUE])[labels][:, :, None, None]
    pixels = np.clip(paint + random.normal(0, 12, (n, 3, size, size)), 0, 255).astype(np.uint8)
    return LabelledImages(
        pixels, labels, np.repeat(np.arange(sources), copies), 2 * n // 3, ("red", "blue")[:classes]
    )


def config(**changes: Any) -> SpacesConfig:
    settings = {
        "dataset": {"kind": "digits"},
        "spaces": {"lite": {"kind": "efficientnet-lite0", "image_size": 32}},
        "bootstraps": 50,
    }
    return SpacesConfig.parse({**settings, **changes})


def test_a_perfect_space_and_the_controls_have_known_scores() -> None:
    prompts = {"blue": ("a blue tile",), "red": ("a red tile", "red")}
    evaluator = SpaceEvaluator(config(prompts=prompts, attributes={"kind": "tissue"}), tiles())
    scores = evaluator.evaluate("upside", ColourSpace())
    assert (
        scores.probe is not None and scores.neighbour is not None and scores.zero_shot is not None
    )
    assert scores.probe.mean == scores.neighbour.mean == scores.zero_shot.mean == 1.0
    assert (scores.probe.n, scores.neighbour.n, scores.zero_shot.n) == (2, 6, 6)
    assert scores.images_per_second is not None and scores.images_per_second > 0
    # Stain follows colour here; without lumen there is no R^2 of lumen.
    assert scores.attributes["haematoxylin"].mean > 0.9
    assert any("lumen" in note for note in scores.notes) and "lumen" not in scores.attributes

    # Swapped prompts give swapped predictions.
    swapped = {"blue": prompts["red"], "red": prompts["blue"]}
    zero_shot = (
        SpaceEvaluator(config(prompts=swapped), tiles()).evaluate("upside", ColourSpace()).zero_shot
    )
    assert zero_shot is not None and zero_shot.mean == 0.0

    # Colour separates red and blue; the largest class scores its share of the test split.
    by_colour, largest = evaluator.colour_only(), evaluator.largest_class()
    assert by_colour.probe is not None and by_colour.probe.mean == 1.0 and by_colour.size == 6
    assert by_colour.neighbour is not None and by_colour.neighbour.mean == 1.0
    assert largest.probe is not None and largest.probe.mean == 0.5 and largest.neighbour is None


def test_too_few_sources_are_noted_and_the_rest_is_measured() -> None:
    images = tiles(sources=3, copies=8)  # two train: one source a class
    scores = SpaceEvaluator(config(), images).evaluate("upside", ColourSpace())
    assert scores.probe is None and any(note.startswith("no probe") for note in scores.notes)
    assert scores.neighbour is not None and scores.neighbour.n == 3

    single = LabelledImages(images.pixels, None, np.repeat([0, 1], [16, 8]), 16, ())
    scores = SpaceEvaluator(config(attributes={"kind": "tissue"}), single).evaluate(
        "upside", ColourSpace()
    )
    assert scores.probe is scores.neighbour is None
    assert feature_spaces.ONE_SOURCE in scores.notes and scores.attributes["eosin"].n == 1


def test_wrong_prompts_and_attributes_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"prompts: for red, but the classes are red, blue"):
        SpaceEvaluator(config(prompts={"red": ("red",)}), tiles())
    with pytest.raises(ConfigError, match="prompts.red: give at least one text"):
        config(prompts={"red": ("red", " "), "blue": ("blue",)})
    with pytest.raises(ConfigError, match="spaces.Colour alone"):
        config(spaces={"Colour alone": {"kind": "open_clip"}})
    grey = LabelledImages(np.zeros((4, 1, 32, 32), np.uint8), None, np.arange(4), 2, ())
    with pytest.raises(Incompatible, match="RGB"):
        SpaceEvaluator(config(attributes={"kind": "tissue"}), grey)


# The report.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 24 labelled tiles of 12 sources."""
    root = tmp_path / "tiles"
    images = tiles(sources=12, copies=2)
    assert images.labels is not None
    lines = ["file,class,source_tile"]
    for index, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        name = f"{images.class_names[label]}/{index:02d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(root / name)
        lines.append(f"{name},{images.class_names[label]},source{images.sources[index]}")
    (root / "groups.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def settings(folder: Path, toy_clip: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "name": "toy",
        "dataset": {
            "kind": "folder",
            "root": str(folder),
            "size": 32,
            "classes": "folders",
            "test_share": 0.4,
            "cache": str(tmp_path / "cache"),
        },
        "spaces": {
            "toy": {"kind": "open_clip", "model": str(toy_clip)},
            "later": {"kind": "open_clip", "model": str(tmp_path / "later")},
        },
        "attributes": {"kind": "tissue"},
        "prompts": {"red": ["red tissue"], "blue": ["blue tissue"]},
        "bootstraps": 20,
    }


def test_the_report_is_written_once_and_lists_spaces_that_cannot_be_opened(
    settings: dict[str, Any], toy_clip: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    ref = compare_spaces(SpacesConfig.parse(settings), store)
    result = store.open(ref)
    assert ref.kind == "spaces" and ref.name.startswith("toy-")

    # Every space has a row; the missing one has a note.
    values = json.loads((result / "report.json").read_text())
    rows = {row["name"]: row for row in values["spaces"]}
    assert list(rows) == ["largest class", "colour alone", "toy", "later"]
    assert rows["colour alone"]["probe"]["mean"] == 1.0
    assert rows["toy"]["size"] == 24 and 0 <= rows["toy"]["zero_shot"]["mean"] <= 1
    assert set(rows["toy"]["attributes"]) <= set(TissueAttributes().names)
    assert rows["later"]["probe"] is None and rows["later"]["size"] is None
    with pytest.raises(ArtifactMissing) as missing:
        SpacesConfig.parse(settings).spaces["later"].open()
    assert rows["later"]["notes"] == [f"not opened: {missing.value}"]
    assert values["data"]["train images"] + values["data"]["test images"] == 24
    assert values["data"]["train sources"] + values["data"]["test sources"] == 12

    # The table, the model card, and the figure with its provenance.
    text = (result / "report.md").read_text()
    accuracy = rows["toy"]["neighbour"]
    assert f"{accuracy['mean']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})" in text
    assert f"- later: not opened: {missing.value}" in text
    assert "colour alone" in (result / "README.md").read_text().lower()
    with Image.open(result / "spaces.png") as opened:
        assert opened.info["model"] == str(ref) and min(opened.size) > 300

    # Written again only once the missing space exists.
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    assert compare_spaces(SpacesConfig.parse(settings), store) == ref
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before
    shutil.copytree(toy_clip, tmp_path / "later")
    second = compare_spaces(SpacesConfig.parse(settings), store)
    assert second != ref
    notes = [
        row["notes"]
        for row in json.loads((store.open(second) / "report.json").read_text())["spaces"]
    ]
    assert not any("not opened" in note for item in notes for note in item)


def test_changed_images_give_another_report(
    settings: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    first = compare_spaces(SpacesConfig.parse(settings), store)
    Image.new("RGB", (32, 32), RED).save(folder / "red" / "00.png")
    assert compare_spaces(SpacesConfig.parse(settings), store) != first


def test_without_classes_attributes_are_still_scored(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    settings["dataset"]["classes"] = "none"
    with pytest.raises(ConfigError, match="classes are none"):
        compare_spaces(SpacesConfig.parse(settings), Store(tmp_path / "store"))
    del settings["prompts"], settings["spaces"]["later"]
    store = Store(tmp_path / "store")
    result = store.open(compare_spaces(SpacesConfig.parse(settings), store))
    rows = json.loads((result / "report.json").read_text())["spaces"]
    assert [row["name"] for row in rows] == ["colour alone", "toy"]
    assert all(row["probe"] is row["neighbour"] is row["zero_shot"] is None for row in rows)
    assert all("haematoxylin" in row["attributes"] for row in rows)
    assert "Linear R2" in (result / "report.md").read_text()
