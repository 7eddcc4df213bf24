"""Reports with a probe as the judge of two classes of colour images, and without a judge."""

import importlib
import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from controlgen.config import ReachabilityConfig
from controlgen.editing.confidence.fit import RoundTripResult, fit_confidence
from controlgen.editing.confidence.probe_targets import ProbeTargets
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ConfigError
from controlgen.evaluation import evaluate, write_report
from controlgen.evaluation.confidence import ConfidenceSection
from controlgen.evaluation.edit_pairs import TooFewClasses
from controlgen.evaluation.goals import Goal
from controlgen.evaluation.report_markdown import render_markdown
from controlgen.metrics.inversion import pixel_error
from controlgen.rng import normals
from controlgen.utils.rows import normalize_rows
from toy_two_sides import NAMES, make_sides_config, make_sides_context


class PixelDistance:
    """A stand-in for a perceptual distance."""

    name = "pixel distance"

    def distance(self, a, b):
        return pixel_error(a, b)


@pytest.fixture(scope="module")
def probed():
    """The report with a probe as the judge."""
    config = make_sides_config(judge="probe", exemplars_by="judge", memorisation=30)
    return evaluate(replace(make_sides_context(config), perceptual=PixelDistance()))


@pytest.fixture(scope="module")
def unjudged():
    """The report without a judge."""
    return evaluate(make_sides_context(make_sides_config(judge="none")))


def test_too_few_classes_leave_class_edits_out_and_miss_their_goals(monkeypatch):
    def raise_too_few(context):
        raise TooFewClasses("the judge is confident of a single class")

    module = importlib.import_module("controlgen.evaluation.class_edits")
    monkeypatch.setattr(module, "select_edit_pairs", raise_too_few)
    report = evaluate(make_sides_context(make_sides_config(judge="probe")))
    assert report.class_edits is None
    assert "Left out: the judge is confident of a single class." in render_markdown(report)
    goals = {goal.name: goal for goal in report.goals}
    for name in (
        "feature arithmetic: best flip rate",
        "flip rate, feature minus latent arithmetic",
    ):
        assert goals[name].measured is None and not goals[name].met
    assert "probe reads the real test set, by source" in goals


def test_probe_judges_two_classes(probed):
    assert probed.judge.kind == "probe"
    assert probed.judge.accuracy.n == 40
    assert probed.judge_accuracy == probed.judge.accuracy.mean > 0.9
    results = probed.class_edits
    assert results.exemplars_by == "judge"
    assert results.edits == 24
    assert results.best_of("feature arithmetic").flip.mean > 0.9
    assert results.best_of("no edit").slant_kept is None


def test_each_direction_has_a_rate_with_an_interval(probed):
    results = probed.class_edits
    rows = {(row.before, row.after): row for row in results.few_pairs}
    assert set(rows) == {NAMES, NAMES[::-1]}
    assert rows[NAMES].feature.mean == results.pairs[0][1]
    assert rows[NAMES[::-1]].feature.mean == results.pairs[1][0]
    rates = [row.latent.mean for row in results.few_pairs]
    assert np.mean(rates) == pytest.approx(results.best_of("latent arithmetic").flip.mean)
    assert [row.edits for row in results.few_pairs] == [12, 12]
    text = render_markdown(probed)
    assert "| adenocarcinoma -> benign | 12 |" in text
    assert "slant" not in text


def test_level_of_equal_identity_is_the_best_of_feature_arithmetic(probed):
    results = probed.class_edits
    feature, equal = results.best_of("feature arithmetic"), results.equal_identity
    rows = {row.method: row for row in equal.methods}
    assert set(rows) == {"feature arithmetic", "residual edit", "latent arithmetic"}
    assert equal.level == feature.identity.mean
    for row in rows.values():
        assert row.identity >= equal.level - 1e-6
        assert row.highest >= row.flip.mean
    assert rows["feature arithmetic"].amount >= feature.amount
    lead = rows["feature arithmetic"].flip.mean - rows["latent arithmetic"].flip.mean
    assert equal.lead.mean == pytest.approx(lead)
    assert {point.method for point in results.sweeps if point.identity is not None} == set(rows)


def test_goals_depend_on_the_judge(probed, unjudged):
    goals = {goal.name: (goal.relation, goal.bound) for goal in probed.goals}
    assert goals["probe reads the real test set, by source"] == ("at least", 0.95)
    assert goals["feature arithmetic: best flip rate"] == ("at least", 0.8)
    assert goals["flip rate, feature minus latent arithmetic"] == ("more than", 0)
    equal = "flip rate at equal identity, feature minus latent arithmetic"
    assert goals[equal] == ("more than", 0)
    assert "judge confident on samples" not in goals
    classified = replace(probed, judge=replace(probed.judge, kind="classifier"))
    goals = {goal.name: (goal.relation, goal.bound) for goal in classified.goals}
    assert goals["judge reads the real test set"] == ("at least", 0.99)
    assert goals["flip rate, feature minus latent arithmetic"] == ("at least", 0.2)
    assert goals["feature arithmetic: best flip rate"] == ("at least", 0.95)
    names = [goal.name for goal in unjudged.goals]
    assert not [name for name in names if "judge" in name or "flip" in name]


def test_real_rows_count_sources_and_have_a_perceptual_distance(probed):
    for row in probed.inversion:
        if row.targets == "real":
            # Forty images, three of each source: there are fewer sources than images.
            assert row.pixel_error.n < row.n or row.n == 4
            assert row.perceptual == row.pixel_error
        else:
            assert row.perceptual is None
            assert row.pixel_error.n == row.n
    assert "| pixel distance |" in render_markdown(probed)


def test_measures_that_need_a_judge_are_absent_without_one(unjudged):
    assert unjudged.class_edits is None
    assert unjudged.judge_accuracy is None
    quality = unjudged.quality
    assert (quality.confident, quality.class_shares, quality.smallest_share) == (None, None, None)
    assert {row.judge_agrees for row in unjudged.inversion} == {None}
    assert quality.confident_floor is None and quality.real_class_shares is None
    assert quality.frechet.mean > 0
    text = render_markdown(unjudged)
    assert 'evaluate.judge = "none"' in text
    assert "judge agrees" not in text
    assert "class, by the judge" not in text


def test_data_without_classes_have_no_judge():
    # Reading the labels of such data raises.
    report = evaluate(make_sides_context(make_sides_config(judge="classifier"), class_names=()))
    assert report.class_edits is None
    assert "The data have no classes, so there is no judge" in render_markdown(report)


@pytest.mark.parametrize("name", ["probed", "unjudged"])
def test_report_folder_is_complete(name, request, tmp_path):
    report = request.getfixturevalue(name)
    write_report(report, tmp_path, {"model": "toy"})
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["judge_accuracy"] == report.judge_accuracy
    assert (values["figure3"] is None) == (report.class_edits is None)
    assert (values["copies"] is None) == (name == "unjudged")
    text = (tmp_path / "report.md").read_text()
    linked = [line.partition("](")[2].rstrip(")") for line in text.split("\n") if line[:2] == "!["]
    figures = {path.name for path in tmp_path.glob("*.png")}
    assert sorted(linked) == sorted(figures)
    assert set(values["shows_real"]) == set(report.shows_real) <= figures
    assert "inversion-real.png" in values["shows_real"]
    # A figure that shows real images says so in its text chunks, and no other does.
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as opened:
            chunks = opened.text
        assert (chunks["synthetic"] == "in part") == (path.name in report.shows_real), path
        assert ("real" in chunks) == (path.name in report.shows_real), path


def test_figures_of_memorisation_show_real_images(probed, unjudged):
    assert probed.shows_real == ["inversion-real.png", *probed.memorisation.shows_real]
    assert len(probed.shows_real) > 1
    assert unjudged.shows_real == ["inversion-real.png"]


def test_section_adds_its_goals_text_and_figures(unjudged, tmp_path):
    @dataclass(frozen=True)
    class Section:
        steps: int = 3

        def goals(self):
            return [Goal("slides well", "at least", 0.5, 0.4)]

        def markdown(self):
            return ["## Sliding", "Words."]

        def draw(self, folder, provenance):
            (folder / "sliding.txt").write_text(provenance["model"])

    report = replace(unjudged, sliders=Section())
    write_report(report, tmp_path, {"model": "toy"})
    assert (tmp_path / "sliding.txt").read_text() == "toy"
    assert "## Sliding\n\nWords." in (tmp_path / "report.md").read_text()
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["sliders"] == {"steps": 3}
    assert values["targets"][-1]["name"] == "slides well"
    assert report.goals[-1].met is False


def test_class_names_that_differ_from_the_data_are_rejected():
    context = make_sides_context(make_sides_config(judge="probe"))
    with pytest.raises(ConfigError, match=r"are adenocarcinoma, benign, .* are benign, adeno"):
        evaluate(replace(context, class_names=NAMES[::-1]))


def test_confidence_is_a_section_if_it_was_fitted(unjudged, tmp_path):
    assert unjudged.confidence is None
    features = normalize_rows(normals(0, "toy features", 0, 200, 6) + 3)
    results = RoundTripResult(features, features, features[:, 0])
    kinds, sources = np.repeat(["bank", "foreign"], 100), np.arange(200)
    targets = ProbeTargets(np.zeros((200, 1, 1, 1), np.uint8), kinds, sources)
    config, pca = ReachabilityConfig(), FeaturePCA.fit(features)
    _, confidence = fit_confidence(config, pca, features, results, targets, results)
    report = replace(unjudged, confidence=ConfidenceSection(confidence))
    write_report(report, tmp_path, {"model": "toy"})
    values = json.loads((tmp_path / "report.json").read_text())["believed"]["judged"]
    assert values["auroc"] == confidence.auroc._asdict()
    assert values["kinds"][0]["near"] == confidence.kinds[0].near
    heading = report.confidence.markdown()[0]
    assert heading in (tmp_path / "report.md").read_text()
    assert heading not in render_markdown(unjudged)
    assert (tmp_path / "reliability.png").is_file()
    assert report.goals[-1].name == "reachability: AUROC on targets not fitted on"
