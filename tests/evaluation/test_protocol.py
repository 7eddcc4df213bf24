"""The protocol end to end on a toy with known results, and the report that it writes."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from controlgen.datasets import Digits
from controlgen.errors import ConfigError
from controlgen.evaluation import evaluate, write_report
from controlgen.evaluation.goals import Goal
from controlgen.evaluation.markdown import format_interval
from controlgen.evaluation.report_markdown import render_markdown
from controlgen.rng import normals
from toy_protocol import LATENT, NAMES, ToyData, exact_map, make_context


@pytest.fixture(scope="module")
def report():
    train = ToyData(normals(6, "toy train", 0, 1200, LATENT))
    progress = []
    report = evaluate(
        replace(make_context(), real_train=train, judge=None),
        on_progress=lambda description, share: progress.append(share),
    )
    assert progress == sorted(progress) and progress[-1] == 1
    return report


def test_report_has_its_numbers_text_and_figures(report, tmp_path):
    write_report(report, tmp_path, {"model": "toy", "seed": 0})
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["judge_accuracy"] == report.judge_accuracy > 0.8
    assert values["inversion"][0]["cosine_f2"].keys() == {"mean", "low", "high", "n"}
    met = {target["name"]: target["met"] for target in values["targets"]}
    assert met == {goal.name: goal.met for goal in report.goals}
    text = (tmp_path / "report.md").read_text()
    assert text == render_markdown(report)
    figures = [line.partition("](")[2].rstrip(")") for line in text.split("\n") if line[:2] == "!["]
    assert sorted(figures) == sorted(path.name for path in tmp_path.glob("*.png"))
    for name in figures:
        with Image.open(tmp_path / name) as figure:
            shows_real = name == "inversion-real.png"
            assert figure.text["synthetic"] == ("in part" if shows_real else "true")
            assert figure.text["seed"] == "0"


@pytest.mark.parametrize(
    ("n", "reason"),
    [
        (20, "rank-deficient: 20 images span no 24 features"),
        (64, "64 images are fewer than 2048: mostly bias"),
    ],
)
def test_report_warns_of_too_few_images_for_frechet(report, n, reason):
    few = replace(report, quality=replace(report.quality, n=n))
    (line,) = [text for text in render_markdown(few).split("\n") if text.startswith("FD-")]
    assert reason in line and "kernel distance (KID) and CMMD" in line
    enough = replace(report, quality=replace(report.quality, n=5000))
    assert "\nFD-" not in render_markdown(enough)


def test_report_compares_shares_and_confidence_with_real_images(report):
    text, quality = render_markdown(report), report.quality
    values = f"{format_interval(quality.confident)} | {format_interval(quality.confident_floor)}"
    assert f"| judge confident (> 0.9) | {values} |" in text
    for name, share in quality.class_shares.items():
        real = format_interval(quality.real_class_shares[name])
        assert f"| {name} | {format_interval(share)} | {real} |" in text


def test_report_counts_missed_goals(report):
    text = render_markdown(report)
    missed = sum(not goal.met for goal in report.goals)
    assert text.count("**missed**") == missed
    assert f"{missed} missed" in text


def test_goals_compare_by_their_relation():
    for relation, met in (
        ("at least", [False, True, True]),
        ("more than", [False, False, True]),
        ("at most", [True, True, False]),
    ):
        assert [Goal("a", relation, 0.5, value).met for value in (0.4, 0.5, 0.6)] == met
        assert not Goal("a", relation, 0.5, None).met


def test_missing_maps_and_wrong_classes_are_rejected():
    context, data = make_context(), Digits(split="test").open()
    with pytest.raises(ConfigError, match="maps lack ridge, mine"):
        evaluate(replace(context, maps={"retrieval": exact_map}, map_name="mine"))
    with pytest.raises(
        ConfigError, match="classes are zero, one.*class_names are left, middle, right"
    ):
        evaluate(replace(context, real_train=data))
    with pytest.raises(ConfigError, match="3 classes in the data, 2 names and 1 prompts"):
        evaluate(replace(context, class_names=NAMES[:2], prompts=NAMES[:1]))
