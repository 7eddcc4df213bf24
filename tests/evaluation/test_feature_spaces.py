"""How well spaces see: every measure against an independent oracle, and the report on a folder."""

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
from controlgen.attributes import Tissue
from controlgen.config import SpacesConfig
from controlgen.datasets.arrays import ArrayImages
from controlgen.errors import ArtifactMissing, ConfigError, Incompatible
from controlgen.evaluation import feature_spaces
from controlgen.evaluation.feature_spaces import Examiner, Pictures
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


# The measures, one by one.


def test_copies_of_a_source_help_neither_probe_nor_neighbour() -> None:
    """Labels thrown per source: an image's twins know its class, and no other source does."""
    features, sources = grouped(40, 10, 400)
    labels = draws(5).integers(0, 2, 40).repeat(10)
    twins = KNeighborsClassifier(2).fit(features, labels).score(features, labels)
    assert twins == 1.0
    assert 0.2 < feature_spaces.neighbour_agrees(features, labels, sources).mean() < 0.8

    # The same through the examiner: thirty sources teach, ten others ask.
    class Held(Upside):
        def embed(self, pixels: Any, batch_size: int = 256) -> Any:
            return features

    blank = np.zeros((400, 3, 8, 8), np.uint8)
    seen = Examiner(config(), Pictures(blank, labels, sources, 300, ("a", "b"))).look("it", Held())
    assert seen.probe is not None and seen.probe.n == 10 and 0.1 <= seen.probe.mean <= 0.9


@given(st.integers(0, 2**20), st.integers(1, 9))
def test_neighbours_are_those_that_looking_at_every_pair_finds(seed: int, chunk: int) -> None:
    random = draws(seed)
    rows = random.normal(size=(20, 3))
    labels, sources = random.integers(0, 3, 20), random.integers(0, 4, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_spaces, "CHUNK", chunk)
        found = feature_spaces.neighbour_agrees(rows, labels, sources)
    for at, row in enumerate(rows):
        others = [j for j in range(20) if sources[j] != sources[at]]
        near = min(others, key=lambda j: ((rows[j] - row) ** 2).sum(), default=None)
        assert found[at] == (near is not None and labels[near] == labels[at])


def test_an_image_with_no_other_source_agrees_with_nobody() -> None:
    same = np.zeros(5, np.int64)
    assert not feature_spaces.neighbour_agrees(draws().normal(size=(5, 2)), same, same).any()


@pytest.mark.parametrize("features", [6, 80])
def test_ridge_is_that_of_scikit_learn_each_value_by_its_own_strength(features: int) -> None:
    """More columns than images too."""
    random = draws(features)
    rows, sources = grouped(10, 5, features, features)
    rows += random.normal(size=rows.shape)
    weights = random.normal(size=(features, 2))
    values = rows @ weights + [1.0, 30.0] * random.normal(size=(50, 2)) + [5, -3]
    asked = random.normal(size=(30, features))
    folds = list(GroupKFold(5).split(rows, groups=sources))
    told = feature_spaces.ridge_predictions(rows, values, asked, folds)
    chosen = set()
    for column in range(2):
        search = GridSearchCV(
            Ridge(),
            {"alpha": feature_spaces.RIDGE_STRENGTHS},
            cv=GroupKFold(5),
            scoring="neg_mean_squared_error",
        ).fit(rows, values[:, column], groups=sources)
        np.testing.assert_allclose(told[:, column], search.predict(asked), rtol=1e-6, atol=1e-6)
        chosen.add(search.best_params_["alpha"])
    assert len(chosen) == 2


def test_r2_and_its_interval_are_those_of_drawing_sources_again_and_again() -> None:
    random = draws(3)
    sources = random.integers(0, 7, 60)
    true = random.normal(100, 1, 60) + sources
    told = true + random.normal(size=60)
    found = feature_spaces.r2_interval(true, told, seed=4, bootstraps=50, sources=sources)
    assert found is not None and found.n == 7
    assert found.mean == pytest.approx(r2_score(true, told))
    scores = []
    for counts in resample_counts(7, 4, 50).astype(int):
        rows = np.repeat(np.arange(60), counts[sources])
        scores.append(r2_score(true[rows], told[rows]))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])))


def test_r2_of_what_does_not_vary_is_not_told() -> None:
    sources = np.arange(4)
    assert feature_spaces.r2_interval(np.full(4, 0.3), np.zeros(4), 0, 10, sources) is None
    exact = feature_spaces.r2_interval(np.arange(4.0), np.arange(4.0), 0, 10, sources)
    assert exact is not None and exact[:3] == (1, 1, 1)


def test_colour_is_mean_and_spread_of_each_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_spaces, "CHUNK", 2)
    pixels = np.zeros((3, 2, 4, 4), np.uint8)
    pixels[0, 0] = 255
    pixels[2, 1, :2] = 51
    found = feature_spaces.colour(pixels)
    np.testing.assert_allclose(found, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0.1, 0, 0.1]], atol=1e-12)


def test_sources_of_two_splits_are_never_one_and_a_sample_keeps_its_rows_together() -> None:
    """Numbers of sources start at zero in either split."""
    number = np.arange(40)
    pixels = np.broadcast_to(number[:, None, None, None], (40, 3, 4, 4)).astype(np.uint8)
    train = ArrayImages(pixels, number % 2, ("even", "odd"), number // 4)
    test = ArrayImages(pixels + 100, number % 2, ("even", "odd"), number // 4)
    found = Pictures.gather(train, test, most=16, seed=1)
    assert found.facts["train images"] == found.facts["test images"] == found.train == 16
    shown = found.pixels[:, 0, 0, 0].astype(int)
    assert (shown[:16] < 40).all() and (shown[16:] >= 100).all()
    assert not np.array_equal(shown[:16], shown[16:] - 100)
    np.testing.assert_array_equal(found.labels, shown % 100 % 2)
    # Two images share a source where they share a number within a split, and only there.
    own = np.array([(at < 16, value % 100 // 4) for at, value in enumerate(shown)])
    same = (own[:, None] == own[None]).all(2)
    np.testing.assert_array_equal(found.sources[:, None] == found.sources, same)
    again = Pictures.gather(train, test, most=16, seed=1)
    np.testing.assert_array_equal(again.pixels, found.pixels)
    assert len(Pictures.gather(train, test, most=1000, seed=1).pixels) == 80


# The examiner, on spaces whose answers are known.


class Upside:
    """A space of two features, the class itself; texts say which class they mean."""

    size, fingerprint = 2, "upside"

    def embed(self, pixels: Any, batch_size: int = 256) -> Any:
        red = pixels[:, 0].mean((1, 2)) > pixels[:, 2].mean((1, 2))
        return np.stack([red, ~red], 1).astype(np.float32)

    def embed_text(self, texts: list[str]) -> Any:
        return np.array([[1, 0.1] if "red" in text else [0.1, 1] for text in texts], np.float32)


def tiles(classes: int = 2, sources: int = 6, copies: int = 3, size: int = 32) -> Pictures:
    """Red tiles and blue ones, noise on both; two thirds of the sources train."""
    random = draws(7)
    n = sources * copies
    labels = np.repeat(np.arange(sources) % classes, copies)
    paint = np.array([RED, BLUE])[labels][:, :, None, None]
    pixels = np.clip(paint + random.normal(0, 12, (n, 3, size, size)), 0, 255).astype(np.uint8)
    return Pictures(
        pixels, labels, np.repeat(np.arange(sources), copies), 2 * n // 3, ("red", "blue")[:classes]
    )


def config(**changes: Any) -> SpacesConfig:
    chosen = {
        "dataset": {"kind": "digits"},
        "spaces": {"lite": {"kind": "efficientnet-lite0", "image_size": 32}},
        "bootstraps": 50,
    }
    return SpacesConfig.parse({**chosen, **changes})


def test_a_space_that_holds_the_class_reads_everything_and_controls_are_what_they_are() -> None:
    prompts = {"blue": ("a blue tile",), "red": ("a red tile", "red")}
    examiner = Examiner(config(prompts=prompts, attributes={"kind": "tissue"}), tiles())
    seen = examiner.look("upside", Upside())
    assert seen.probe is not None and seen.neighbour is not None and seen.zero_shot is not None
    assert seen.probe.mean == seen.neighbour.mean == seen.zero_shot.mean == 1.0
    assert (seen.probe.n, seen.neighbour.n, seen.zero_shot.n) == (2, 6, 6)
    assert seen.images_per_second is not None and seen.images_per_second > 0
    # Stain follows colour here; a tile without any lumen has no R^2 of lumen.
    assert seen.attributes["haematoxylin"].mean > 0.9
    assert any("lumen" in note for note in seen.notes) and "lumen" not in seen.attributes

    # Sentences the wrong way round are read the wrong way round.
    swapped = {"blue": prompts["red"], "red": prompts["blue"]}
    answer = Examiner(config(prompts=swapped), tiles()).look("upside", Upside()).zero_shot
    assert answer is not None and answer.mean == 0.0

    # Colour tells red from blue, and the largest class is as good as its share of the test split.
    by_colour, largest = examiner.colour_alone(), examiner.largest_class()
    assert by_colour.probe is not None and by_colour.probe.mean == 1.0 and by_colour.size == 6
    assert by_colour.neighbour is not None and by_colour.neighbour.mean == 1.0
    assert largest.probe is not None and largest.probe.mean == 0.5 and largest.neighbour is None


def test_too_few_sources_are_said_and_the_rest_is_measured() -> None:
    pictures = tiles(sources=3, copies=8)  # two train: one source a class
    seen = Examiner(config(), pictures).look("upside", Upside())
    assert seen.probe is None and any(note.startswith("no probe") for note in seen.notes)
    assert seen.neighbour is not None and seen.neighbour.n == 3

    one = Pictures(pictures.pixels, None, np.repeat([0, 1], [16, 8]), 16, ())
    seen = Examiner(config(attributes={"kind": "tissue"}), one).look("upside", Upside())
    assert seen.probe is seen.neighbour is None
    assert feature_spaces.ONE_SOURCE in seen.notes and seen.attributes["eosin"].n == 1


def test_prompts_and_attributes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"prompts: for red, but the classes are red, blue"):
        Examiner(config(prompts={"red": ("red",)}), tiles())
    with pytest.raises(ConfigError, match="prompts.red: give at least one text"):
        config(prompts={"red": ("red", " "), "blue": ("blue",)})
    with pytest.raises(ConfigError, match="spaces.Colour alone"):
        config(spaces={"Colour alone": {"kind": "open_clip"}})
    grey = Pictures(np.zeros((4, 1, 32, 32), np.uint8), None, np.arange(4), 2, ())
    with pytest.raises(Incompatible, match="RGB"):
        Examiner(config(attributes={"kind": "tissue"}), grey)


# The report.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 24 labelled tiles of 12 sources."""
    root = tmp_path / "tiles"
    pictures = tiles(sources=12, copies=2)
    assert pictures.labels is not None
    lines = ["file,class,source_tile"]
    for at, (pixels, label) in enumerate(zip(pictures.pixels, pictures.labels, strict=True)):
        name = f"{pictures.class_names[label]}/{at:02d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(root / name)
        lines.append(f"{name},{pictures.class_names[label]},source{pictures.sources[at]}")
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


def test_a_report_is_made_once_and_a_space_that_cannot_be_opened_is_listed(
    settings: dict[str, Any], toy_clip: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    ref = compare_spaces(SpacesConfig.parse(settings), store)
    made = store.open(ref)
    assert ref.kind == "spaces" and ref.name.startswith("toy-")

    # Every space has its row, and the one that is not there says why in one line.
    values = json.loads((made / "report.json").read_text())
    rows = {row["name"]: row for row in values["spaces"]}
    assert list(rows) == ["largest class", "colour alone", "toy", "later"]
    assert rows["colour alone"]["probe"]["mean"] == 1.0
    assert rows["toy"]["size"] == 24 and 0 <= rows["toy"]["zero_shot"]["mean"] <= 1
    assert set(rows["toy"]["attributes"]) <= set(Tissue().names)
    assert rows["later"]["probe"] is None and rows["later"]["size"] is None
    with pytest.raises(ArtifactMissing) as missing:
        SpacesConfig.parse(settings).spaces["later"].open()
    assert rows["later"]["notes"] == [f"not opened: {missing.value}"]
    assert values["data"]["train images"] + values["data"]["test images"] == 24
    assert values["data"]["train sources"] + values["data"]["test sources"] == 12

    # What is read by people: the table, the card, the picture and where it is from.
    text = (made / "report.md").read_text()
    shown = rows["toy"]["neighbour"]
    assert f"{shown['mean']:.3f} ({shown['low']:.3f} to {shown['high']:.3f})" in text
    assert f"- later: not opened: {missing.value}" in text
    assert "colour alone" in (made / "README.md").read_text().lower()
    with Image.open(made / "spaces.png") as opened:
        assert opened.info["model"] == str(ref) and min(opened.size) > 300

    # Made once; made again when the space has come, or when the pictures have changed.
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    assert compare_spaces(SpacesConfig.parse(settings), store) == ref
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before
    shutil.copytree(toy_clip, tmp_path / "later")
    come = compare_spaces(SpacesConfig.parse(settings), store)
    assert come != ref
    notes = [
        row["notes"] for row in json.loads((store.open(come) / "report.json").read_text())["spaces"]
    ]
    assert not any("not opened" in note for one in notes for note in one)


def test_other_pictures_make_another_report(
    settings: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    first = compare_spaces(SpacesConfig.parse(settings), store)
    Image.new("RGB", (32, 32), RED).save(folder / "red" / "00.png")
    assert compare_spaces(SpacesConfig.parse(settings), store) != first


def test_without_classes_attributes_and_speed_remain(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    settings["dataset"]["classes"] = "none"
    with pytest.raises(ConfigError, match="classes are none"):
        compare_spaces(SpacesConfig.parse(settings), Store(tmp_path / "store"))
    del settings["prompts"], settings["spaces"]["later"]
    store = Store(tmp_path / "store")
    made = store.open(compare_spaces(SpacesConfig.parse(settings), store))
    rows = json.loads((made / "report.json").read_text())["spaces"]
    assert [row["name"] for row in rows] == ["colour alone", "toy"]
    assert all(row["probe"] is row["neighbour"] is row["zero_shot"] is None for row in rows)
    assert all("haematoxylin" in row["attributes"] for row in rows)
    assert "Linear R2" in (made / "report.md").read_text()
