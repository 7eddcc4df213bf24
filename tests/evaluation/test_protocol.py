"""The protocol end to end on a toy whose answers are known, and the report it writes."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from controlgen.datasets import Digits
from controlgen.errors import ConfigError
from controlgen.evaluation import evaluate, markdown, write_report
from controlgen.evaluation.context import Subject
from controlgen.evaluation.inversion import inversion_table, optimise
from controlgen.evaluation.markdown import shown
from controlgen.evaluation.report import Target
from controlgen.evaluation.sample_quality import sample_quality
from controlgen.rng import normals
from toy_protocol import (
    LATENT,
    NAMES,
    AuditSpace,
    TextSpace,
    ToyData,
    ToyEditor,
    exact_map,
    make_parts,
    make_subject,
    nearest,
    settings_of,
    toy_editor,
)


@pytest.fixture(scope="module")
def subject():
    return make_subject()


def test_inversion_ranks_the_maps_as_they_deserve(subject):
    (generated, strips), (real, _) = inversion_table(subject)
    rows = {row.map: row for row in generated}
    own, retrieval, random = rows["oracle"], rows["retrieval"], rows["random"]
    assert own.cosine_f1.mean > retrieval.cosine_f1.mean > random.cosine_f1.mean
    assert own.pixel_error.mean < retrieval.pixel_error.mean < random.pixel_error.mean
    assert own.recall_at_1.mean > 0.9 > random.recall_at_1.mean == 0
    assert rows["optimisation"].n == rows["oracle, same 6"].n == 6
    assert rows["optimisation"].cosine_f1.mean > random.cosine_f1.mean
    assert {row.latent_r2 for row in real} == {None}
    assert list(strips) == ["asked", "retrieval", "ridge", "oracle", "optimisation"]


def test_a_perfect_map_is_scored_perfect(subject):
    # The exact latents are looked up by feature: every measure must be at its best.
    bank = subject.bank
    perfect = Subject(**{**vars(subject), "maps": {"oracle": nearest(bank.features, bank.latents)}})
    row = next(inversion_table(perfect))[0][0]
    assert row.cosine_f1.mean == pytest.approx(1, abs=1e-5)
    assert row.cosine_f2.mean == pytest.approx(1, abs=1e-5)
    assert (row.recall_at_1.mean, row.judge_agrees.mean, row.pixel_error.mean) == (1, 1, 0)
    assert row.latent_r2[:3] == (1, 1, 1)


def test_optimise_lowers_the_angle_and_leaves_its_inputs(subject):
    features = subject.bank.features[:4]
    start = np.zeros((4, LATENT), np.float32)
    found = optimise(subject.editor, features, start, 100)
    before = (subject.editor.embed(subject.editor.generate(start)) * features).sum(1)
    after = (subject.editor.embed(subject.editor.generate(found)) * features).sum(1)
    assert (after > before).all()
    assert not start.any()


def test_quality_of_the_real_distribution_is_at_the_floor(subject):
    found = sample_quality(subject)
    assert found.n == 64
    assert found.kernel.low <= max(found.kernel_floor.high, 0)
    assert found.frechet.mean < 2 * found.frechet_floor.mean
    assert sum(share.mean for share in found.class_shares.values()) == pytest.approx(1)
    assert found.smallest_share > 0.1


def test_every_number_of_quality_has_its_n_and_an_interval(subject):
    found = sample_quality(subject)
    shares = [*found.class_shares.values(), *found.real_class_shares.values()]
    distances = [found.frechet, found.frechet_floor, found.kernel, found.kernel_floor]
    for one in (*distances, *shares, found.confident, found.confident_floor):
        assert one.n == found.n == 64
        assert one.low <= one.mean <= one.high
    assert all(one.low < one.mean < one.high for one in (*distances[:2], *shares))
    assert found.feature_size == 24


def test_quality_notices_a_collapsed_generator(subject):
    class Collapsed(ToyEditor):
        def generate(self, latents):
            return super().generate(np.zeros_like(latents) + np.eye(LATENT, dtype=np.float32)[0])

    collapsed = Subject(**{**vars(subject), "editor": toy_editor(TextSpace(), Collapsed)})
    found = sample_quality(collapsed)
    assert found.smallest_share == 0
    assert found.kernel.low > found.kernel_floor.high
    assert found.frechet.low > 3 * found.frechet_floor.mean


@pytest.fixture(scope="module")
def report():
    editor, bank, maps = make_parts(TextSpace())
    told = []
    made = evaluate(
        editor,
        bank,
        ToyData(normals(6, "toy train", 0, 1200, LATENT)),
        ToyData(normals(7, "toy test", 0, 200, LATENT)),
        AuditSpace(),
        settings_of(),
        maps,
        "oracle",
        NAMES,
        NAMES,
        on_progress=lambda what, done: told.append((what, done)),
    )
    assert [done for _, done in told] == sorted(done for _, done in told)
    assert told[-1][1] == 1
    return made


def test_report_is_written_whole(report, tmp_path):
    write_report(report, tmp_path, {"model": "toy", "seed": 0})
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["judge_accuracy"] == report.judge_accuracy > 0.8
    assert values["inversion"][0]["cosine_f2"].keys() == {"mean", "low", "high", "n"}
    assert {t["name"]: t["met"] for t in values["targets"]} == {
        t.name: t.met for t in report.targets
    }
    text = (tmp_path / "report.md").read_text()
    assert text == markdown(report)
    shown = [line.partition("](")[2].rstrip(")") for line in text.split("\n") if line[:2] == "!["]
    assert sorted(shown) == sorted(path.name for path in tmp_path.glob("*.png"))
    for name in shown:
        with Image.open(tmp_path / name) as picture:
            mixed = name == "inversion-real.png"
            assert picture.text["synthetic"] == ("in part" if mixed else "true")
            assert picture.text["seed"] == "0"


@pytest.mark.parametrize(
    ("n", "says"),
    [
        (20, "rank-deficient: 20 images span no 24 features"),
        (64, "64 images are fewer than 2048: mostly bias"),
    ],
)
def test_report_and_readme_say_where_images_are_too_few_for_frechet(report, n, says):
    few = replace(report, quality=replace(report.quality, n=n))
    (line,) = [one for one in markdown(few).split("\n") if one.startswith("FD-")]
    assert says in line and "kernel distance (KID) and CMMD" in line
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "readme.py"))
    assert script["few_images"](few.as_json()) == line
    enough = replace(report, quality=replace(report.quality, n=5000))
    assert "\nFD-" not in markdown(enough) and script["few_images"](enough.as_json()) == ""


def test_report_shows_shares_and_confidence_beside_real_images(report):
    text, quality = markdown(report), report.quality
    sure = f"{shown(quality.confident)} | {shown(quality.confident_floor)}"
    assert f"| judge confident (> 0.9) | {sure} |" in text
    for name, share in quality.class_shares.items():
        assert f"| {name} | {shown(share)} | {shown(quality.real_class_shares[name])} |" in text


def test_report_says_what_is_missed(report):
    text = markdown(report)
    missed = [target for target in report.targets if not target.met]
    assert text.count("**missed**") == len(missed)
    assert f"{len(missed)} missed" in text


def test_timing_compares_like_with_like(report):
    timing = report.timing
    assert timing.map_p50_ms <= timing.map_p95_ms
    assert timing.ratio_alone == pytest.approx(
        timing.optimisation_alone_seconds / (timing.map_p50_ms / 1000)
    )


def test_targets_are_met_by_their_relation():
    for relation, met in (
        ("at least", [False, True, True]),
        ("more than", [False, False, True]),
        ("at most", [True, True, False]),
    ):
        assert [Target("a", relation, 0.5, v).met for v in (0.4, 0.5, 0.6)] == met
        assert not Target("a", relation, 0.5, None).met


def test_wrong_parts_are_refused_in_one_line():
    data = Digits(split="test").open()
    parts = (None, None, data, data, None, settings_of())
    with pytest.raises(ConfigError, match="maps lack ridge, mine"):
        evaluate(*parts, {"retrieval": exact_map}, "mine", NAMES, NAMES)
    maps = dict.fromkeys(("retrieval", "ridge", "mine"), exact_map)
    with pytest.raises(
        ConfigError, match="classes are zero, one.*class_names are left, middle, right"
    ):
        evaluate(*parts, maps, "mine", NAMES, NAMES)
    nameless = ToyData(normals(6, "toy train", 0, 50, LATENT))
    with pytest.raises(ConfigError, match="3 classes in the data, 2 names and 1 prompts"):
        parts = (None, None, nameless, nameless, None, settings_of())
        evaluate(*parts, maps, "mine", NAMES[:2], NAMES[:1])
