"""The report where a probe judges two classes of colour images, and where nobody judges at all."""

import importlib
import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from controlgen.config import EvaluateConfig, ReachabilityConfig
from controlgen.editing.confidence.fit import Trip, calibrate
from controlgen.editing.confidence.probe_targets import Trials
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ConfigError
from controlgen.evaluation import evaluate, markdown, write_report
from controlgen.evaluation.confidence import Believed
from controlgen.evaluation.context import Subject
from controlgen.evaluation.edit_pairs import TooFewClasses, pick_exemplars
from controlgen.evaluation.goals import Target
from controlgen.metrics.inversion import pixel_error, unit_rows
from controlgen.rng import normals
from toy_protocol import AuditSpace
from toy_two_sides import LATENT, NAMES, SidesData, exact_map, sides_editor


def linear(features, latents):
    weights, *_ = np.linalg.lstsq(np.c_[features, np.ones(len(features))], latents, rcond=None)
    return lambda asked: np.c_[asked, np.ones(len(asked))] @ weights


def nearest(features, latents):
    return lambda asked: latents[(asked @ features.T).argmax(1)]


class Squares:
    """A stand-in for a perceptual distance."""

    name = "squares"

    def distance(self, a, b):
        return pixel_error(a, b)


def settings_of(**changes):
    chosen = {
        "audit": {"kind": "efficientnet-lite0"},
        "class_names": list(NAMES),
        "prompt": "{}",
        "samples": 48,
        "inversions": 40,
        "sources": 12,
        "exemplars": 6,
        "amounts": (0.5, 1.0, 1.5),
        "optimisation_steps": 5,
        "optimisation_targets": 4,
        "bootstraps": 60,
    }
    return EvaluateConfig.parse({**chosen, **changes})


def parts_of(config, n=500, class_names=NAMES):
    editor = sides_editor()
    latents = normals(1, "toy bank", 0, n, LATENT)
    pixels = editor.generate(latents)
    features = editor.embed(pixels)
    cut = n - 150
    bank = SimpleNamespace(
        latents=latents,
        pixels=pixels,
        features=features,
        train=slice(0, cut),
        held_out=slice(cut, n),
    )
    seen = features[:cut], latents[:cut]
    return {
        "editor": editor,
        "bank": bank,
        "real_train": SidesData(2, 240, class_names),
        "real_test": SidesData(3, 120, class_names),
        "audit": AuditSpace(),
        "config": config,
        "maps": {"retrieval": nearest(*seen), "ridge": linear(*seen), "exact": exact_map},
        "map_name": "exact",
        "class_names": NAMES,
        "prompts": NAMES,
    }


@pytest.fixture(scope="module")
def probed():
    config = settings_of(judge="probe", exemplars_by="judge", memorisation=30)
    return evaluate(**parts_of(config), perceptual=Squares())


@pytest.fixture(scope="module")
def unjudged():
    return evaluate(**parts_of(settings_of(judge="none")))


def test_a_generator_of_one_class_leaves_figure_3_out_and_its_goals_missed(monkeypatch):
    def none_sure(subject):
        raise TooFewClasses("the judge is sure of one class only")

    module = importlib.import_module("controlgen.evaluation.class_edits")
    monkeypatch.setattr(module, "pick_edits", none_sure)
    report = evaluate(**parts_of(settings_of(judge="probe")))
    assert report.figure3 is None
    assert "Left out: the judge is sure of one class only." in markdown(report)
    goals = {target.name: target for target in report.targets}
    for name in (
        "feature arithmetic: best flip rate",
        "flip rate, feature minus latent arithmetic",
    ):
        assert goals[name].measured is None and not goals[name].met
    assert "probe reads the real test set, by source" in goals


def test_one_source_is_not_certainty():
    subject = SimpleNamespace(config=settings_of(bootstraps=200))
    values = np.arange(10.0)
    alone = Subject.mean(subject, values, np.zeros(10, np.int64))
    assert alone == Subject.mean(subject, values)
    assert alone.n == 10 and alone.low < alone.mean < alone.high
    two = Subject.mean(subject, values, np.arange(10) // 5)
    assert two.n == 2 and two.high - two.low > alone.high - alone.low


def names_of(report):
    return {target.name for target in report.targets}


# A probe as the judge


def test_a_probe_judges_two_classes(probed):
    assert probed.judging.kind == "probe"
    assert probed.judging.accuracy.n == 40
    assert probed.judge_accuracy == probed.judging.accuracy.mean > 0.9
    found = probed.figure3
    assert found.exemplars_by == "judge"
    assert found.edits == 24
    assert found.at_best("feature arithmetic").flip.mean > 0.9
    assert found.at_best("no edit").slant_kept is None


def test_each_direction_is_told_with_its_interval(probed):
    found = probed.figure3
    told = {(row.before, row.after): row for row in found.few_pairs}
    assert set(told) == {NAMES, NAMES[::-1]}
    assert told[NAMES].feature.mean == found.pairs[0][1]
    assert told[NAMES[::-1]].feature.mean == found.pairs[1][0]
    rates = [row.latent.mean for row in found.few_pairs]
    assert np.mean(rates) == pytest.approx(found.at_best("latent arithmetic").flip.mean)
    assert [row.edits for row in found.few_pairs] == [12, 12]
    text = markdown(probed)
    assert "| adenocarcinoma -> benign | 12 |" in text
    assert "slant" not in text


def test_equal_identity_starts_from_feature_arithmetics_best(probed):
    found = probed.figure3
    feature, equal = found.at_best("feature arithmetic"), found.equal_identity
    rows = {row.method: row for row in equal.methods}
    assert set(rows) == {"feature arithmetic", "residual edit", "latent arithmetic"}
    assert equal.level == feature.identity.mean
    for row in rows.values():
        assert row.identity >= equal.level - 1e-6
        assert row.highest >= row.flip.mean
    assert rows["feature arithmetic"].amount >= feature.amount
    lead = rows["feature arithmetic"].flip.mean - rows["latent arithmetic"].flip.mean
    assert equal.lead.mean == pytest.approx(lead)
    kept = {s.method for s in found.sweeps if s.identity is not None}
    assert kept == set(rows)


def test_targets_are_those_of_the_judge(probed, unjudged):
    goals = {target.name: (target.relation, target.bound) for target in probed.targets}
    assert goals["probe reads the real test set, by source"] == ("at least", 0.95)
    assert goals["feature arithmetic: best flip rate"] == ("at least", 0.8)
    assert goals["flip rate, feature minus latent arithmetic"] == ("more than", 0)
    equal = "flip rate at equal identity, feature minus latent arithmetic"
    assert goals[equal] == ("more than", 0)
    assert "judge confident on samples" not in goals
    one = replace(probed, judging=replace(probed.judging, kind="classifier"))
    goals = {target.name: (target.relation, target.bound) for target in one.targets}
    assert goals["judge reads the real test set"] == ("at least", 0.99)
    assert goals["flip rate, feature minus latent arithmetic"] == ("at least", 0.2)
    assert goals["feature arithmetic: best flip rate"] == ("at least", 0.95)
    assert not {name for name in names_of(unjudged) if "judge" in name or "flip" in name}


def test_real_rows_count_sources_and_carry_the_perceptual_distance(probed):
    for row in probed.inversion:
        if row.targets == "real":
            # Forty images were drawn, three of a source, so there are fewer sources than images.
            assert row.pixel_error.n < row.n or row.n == 4
            assert row.perceptual == row.pixel_error
        else:
            assert row.perceptual is None
            assert row.pixel_error.n == row.n
    assert "| squares |" in markdown(probed).replace(" | norm", " |")


def test_exemplars_are_the_judges_even_where_there_is_text():
    chosen = {}
    for by in ("auto", "judge"):
        config = settings_of(judge="probe", exemplars_by=by)
        judge = SimpleNamespace(
            classes=2,
            probabilities=lambda pixels: (
                np.c_[pixels[:, 0].mean((1, 2)), pixels[:, 2].mean((1, 2))] / 100
            ),
        )
        exemplars, told, _ = pick_exemplars(Subject(judge=judge, **parts_of(config)))
        chosen[told] = exemplars
    assert set(chosen) == {"text", "judge"}
    assert not np.array_equal(chosen["text"], chosen["judge"])


# Nobody as the judge


def test_without_a_judge_what_only_a_judge_can_say_is_absent(unjudged):
    assert unjudged.figure3 is None
    assert unjudged.judge_accuracy is None
    quality = unjudged.quality
    assert (quality.confident, quality.class_shares, quality.smallest_share) == (None, None, None)
    assert {row.judge_agrees for row in unjudged.inversion} == {None}
    assert quality.confident_floor is None and quality.real_class_shares is None
    assert quality.frechet.mean > 0
    text = markdown(unjudged)
    assert 'evaluate.judge = "none"' in text
    assert "judge agrees" not in text
    assert "class, by the judge" not in text


def test_data_without_classes_are_reported_on_in_one_sentence():
    # Labels of such data raise when asked for: nobody may.
    report = evaluate(**parts_of(settings_of(judge="classifier"), class_names=()))
    assert report.figure3 is None
    assert "The data carry no classes, so there is no judge" in markdown(report)


@pytest.mark.parametrize("made", ["probed", "unjudged"])
def test_every_report_is_written_whole(made, request, tmp_path):
    report = request.getfixturevalue(made)
    write_report(report, tmp_path, {"model": "toy"})
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["judge_accuracy"] == report.judge_accuracy
    assert (values["figure3"] is None) == (report.figure3 is None)
    assert (values["copies"] is None) == (made == "unjudged")
    text = (tmp_path / "report.md").read_text()
    shown = [line.partition("](")[2].rstrip(")") for line in text.split("\n") if line[:2] == "!["]
    written = {path.name for path in tmp_path.glob("*.png")}
    assert sorted(shown) == sorted(written)
    assert set(values["shows_real"]) == set(report.shows_real) <= written
    assert "inversion-real.png" in values["shows_real"]
    # A picture in which real images are seen says so itself, and no other does.
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as opened:
            chunks = opened.text
        assert (chunks["synthetic"] == "in part") == (path.name in report.shows_real), path
        assert ("real" in chunks) == (path.name in report.shows_real), path


def test_pictures_of_copies_are_said_to_show_real_images(probed, unjudged):
    assert probed.shows_real == ["inversion-real.png", *probed.copies.shows_real]
    assert len(probed.shows_real) > 1
    assert unjudged.shows_real == ["inversion-real.png"]


def test_a_section_brings_its_targets_words_and_pictures(unjudged, tmp_path):
    @dataclass(frozen=True)
    class Section:
        steps: int = 3

        def targets(self):
            return [Target("slides well", "at least", 0.5, 0.4)]

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
    assert report.targets[-1].met is False


# Names of classes


def test_names_that_are_not_the_datas_are_refused_with_both():
    parts = parts_of(settings_of(judge="probe"))
    with pytest.raises(ConfigError, match=r"are adenocarcinoma, benign, .* are benign, adeno"):
        evaluate(**{**parts, "class_names": NAMES[::-1]})


def test_reachability_is_a_section_where_it_was_saved(unjudged, tmp_path):
    assert unjudged.believed is None and "## Reachability" not in markdown(unjudged)
    features = unit_rows(normals(0, "toy features", 0, 200, 6) + 3)
    seen = Trip(features, features, features[:, 0])
    kinds, sources = np.repeat(["bank", "foreign"], 100), np.arange(200)
    trials = Trials(np.zeros((200, 1, 1, 1), np.uint8), kinds, sources)
    settings, statistics = ReachabilityConfig(), Statistics.of(features)
    _, judged = calibrate(settings, statistics, features, seen, trials, seen)
    report = replace(unjudged, believed=Believed(judged))
    write_report(report, tmp_path, {"model": "toy"})
    values = json.loads((tmp_path / "report.json").read_text())["believed"]["judged"]
    assert values["auroc"] == judged.auroc._asdict()
    assert values["kinds"][0]["near"] == judged.kinds[0].near
    assert "## Reachability" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "reliability.png").is_file()
    assert report.targets[-1].name == "reachability: AUROC on targets not fitted on"
