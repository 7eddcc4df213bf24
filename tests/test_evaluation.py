"""The protocol end to end on a toy whose answers are known, and the report it writes."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from controlgen.config import EvaluateConfig
from controlgen.datasets import Digits
from controlgen.errors import ConfigError
from controlgen.evaluation import evaluate, markdown, write_report
from controlgen.evaluation.base import Subject
from controlgen.evaluation.choices import (
    TooFewClasses,
    class_directions,
    pick_edits,
    pick_exemplars,
)
from controlgen.evaluation.figure3 import figure3
from controlgen.evaluation.inversion import inversion_table, optimise
from controlgen.evaluation.quality import sample_quality
from controlgen.evaluation.results import Target
from controlgen.metrics.inversion import unit_rows
from controlgen.rng import normals

SIZE, CLASSES, LATENT = 8, 3, 15
NAMES = ["left", "middle", "right"]


class ToyGenerator:
    """Latents (n 15) -> one of three bright columns (the largest of z[:3]) over a textured ground.

    z[3:] are the brightness of twelve pixels: an identity that is no class.
    """

    def unit(self, latents):
        soft = torch.softmax(6 * latents[:, :CLASSES], 1)
        image = torch.full((len(latents), 1, SIZE, SIZE), -1.0)
        columns = torch.repeat_interleave(soft, 2, dim=1)
        image[:, 0, :5, 1:7] += 1.6 * columns[:, None, :]
        image[:, 0, 6:, 1:7] += 1.6 * torch.sigmoid(latents[:, CLASSES:]).reshape(-1, 2, 6)
        return image


class ToySpace:
    """Centred pixels of unit length."""

    def features(self, images):
        flat = images.flatten(1) + 0.8
        return torch.nn.functional.normalize(flat, dim=1)

    def embed(self, pixels):
        return self.features(torch.from_numpy(pixels).float() / 127.5 - 1).numpy()


class TextSpace(ToySpace):
    """Texts are the features of the class's plain picture."""

    def embed_text(self, texts):
        latents = torch.zeros(len(texts), LATENT)
        for row, text in enumerate(texts):
            latents[row, NAMES.index(text)] = 3
        return self.features(ToyGenerator().unit(latents)).numpy()


class ToyEditor:
    latent_size = LATENT
    image_shape = (1, SIZE, SIZE)

    def __init__(self, space):
        self.space = space
        self.generator = ToyGenerator()

    def generate(self, latents):
        unit = self.generator.unit(torch.from_numpy(np.asarray(latents, np.float32)))
        return ((unit + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()

    def embed(self, pixels):
        return self.space.embed(pixels)

    def features_of_latents(self, latents):
        return self.space.features(self.generator.unit(latents))


class AuditSpace:
    """Another view: a fixed random projection of the pixels."""

    def embed(self, pixels):
        flat = pixels.reshape(len(pixels), -1).astype(np.float32) / 255
        return unit_rows(flat @ normals(5, "toy audit", 0, flat.shape[1], 24))


@dataclass
class ToyData:
    """Real images: the toy's own, labelled by their largest class coordinate."""

    latents: np.ndarray
    image_shape = (1, SIZE, SIZE)

    def __len__(self):
        return len(self.latents)

    def pixels(self, indices):
        return ToyEditor(ToySpace()).generate(self.latents[indices])

    def labels(self, indices):
        return self.latents[indices, :CLASSES].argmax(1).astype(np.int64)


class ToyJudge:
    """Knows the class from the brightest column; sure where it stands out."""

    classes = CLASSES

    def probabilities(self, pixels):
        columns = pixels[:, 0, :5, 1:7].astype(float).mean(1) / 255
        levels = columns.reshape(-1, CLASSES, 2).mean(2)
        odds = np.exp(20 * levels)
        return odds / odds.sum(1, keepdims=True)


def nearest(bank_features, bank_latents):
    return lambda features: bank_latents[(features @ bank_features.T).argmax(1)]


def linear(bank_features, bank_latents):
    rows = np.c_[bank_features, np.ones(len(bank_features))]
    weights, *_ = np.linalg.lstsq(rows, bank_latents, rcond=None)
    return lambda features: np.c_[features, np.ones(len(features))] @ weights


def settings_of(**changes):
    chosen = {
        "audit": {"kind": "efficientnet-lite0"},
        "samples": 64,
        "inversions": 60,
        "sources": 10,
        "exemplars": 8,
        "amounts": (0.5, 1.0, 2.0),
        "judge_epochs": 4,
        "optimisation_steps": 40,
        "optimisation_targets": 6,
        "bootstraps": 100,
    }
    return EvaluateConfig.parse({**chosen, **changes})


def make_parts(space, n=900):
    editor = ToyEditor(space)
    latents = normals(1, "toy bank", 0, n, LATENT)
    pixels = editor.generate(latents)
    features = editor.embed(pixels)
    held_out = n - 200
    bank = SimpleNamespace(
        latents=latents,
        pixels=pixels,
        features=features,
        train=slice(0, held_out),
        held_out=slice(held_out, n),
    )
    seen = features[:held_out], latents[:held_out]
    maps = {"retrieval": nearest(*seen), "ridge": linear(*seen), "oracle": exact_map}
    return editor, bank, maps


def exact_map(features):
    """The toy's inverse in closed form, up to rounding: what a very good map would answer."""
    # The ground is known to be -0.2, which gives the length that normalising took away.
    image = features.reshape(-1, SIZE, SIZE)
    image = image * (-0.2 / image[:, :, [0, 7]].mean((1, 2), keepdims=True))
    levels = (image + 0.2) / 1.6
    columns = levels[:, :5, 1:7].mean(1).reshape(-1, CLASSES, 2).mean(2)
    classes = np.log(np.clip(columns, 1e-3, 1)) / 6
    texture = np.clip(levels[:, 6:, 1:7].reshape(-1, LATENT - CLASSES), 1e-3, 1 - 1e-3)
    return np.c_[classes, np.log(texture / (1 - texture))]


def make_subject(space=None, **changes):
    editor, bank, maps = make_parts(space or TextSpace())
    return Subject(
        editor=editor,
        bank=bank,
        maps=maps,
        map_name="oracle",
        real_train=ToyData(normals(6, "toy train", 0, 300, LATENT)),
        real_test=ToyData(normals(7, "toy test", 0, 200, LATENT)),
        audit=AuditSpace(),
        judge=ToyJudge(),
        class_names=NAMES,
        prompts=NAMES,
        config=settings_of(**changes),
    )


@pytest.fixture(scope="module")
def subject():
    return make_subject()


@pytest.fixture(scope="module")
def figure(subject):
    return figure3(subject)


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
    assert row.latent_r2 == 1


def test_optimise_lowers_the_angle_and_leaves_its_inputs(subject):
    features = subject.bank.features[:4]
    start = np.zeros((4, LATENT), np.float32)
    found = optimise(subject.editor, features, start, 100)
    before = (subject.editor.embed(subject.editor.generate(start)) * features).sum(1)
    after = (subject.editor.embed(subject.editor.generate(found)) * features).sum(1)
    assert (after > before).all()
    assert not start.any()


def test_text_exemplars_lie_in_the_training_part_and_are_right(subject):
    exemplars, by, precision = pick_exemplars(subject)
    assert (by, precision) == ("text", 1.0)
    assert exemplars.shape == (CLASSES, 8)
    assert exemplars.max() < subject.bank.train.stop


def test_without_text_the_judge_picks():
    exemplars, by, precision = pick_exemplars(make_subject(ToySpace()))
    assert (by, precision) == ("judge", 1.0)
    assert len(np.unique(exemplars)) == exemplars.size


def test_edits_cover_every_ordered_pair_with_sure_sources(subject):
    edits, missing = pick_edits(subject)
    pairs = {(int(b), int(a)) for b, a in zip(edits.before, edits.after, strict=True)}
    assert pairs == {(b, a) for b in range(CLASSES) for a in range(CLASSES) if a != b}
    assert not missing
    assert len(edits) == 60
    probabilities = subject.judge.probabilities(edits.pixels)
    assert (probabilities.argmax(1) == edits.before).all()
    assert probabilities.max(1).min() > 0.9
    start = subject.bank.held_out.start
    np.testing.assert_array_equal(edits.latents, subject.bank.latents[start + edits.source])


def test_directions_are_differences_of_class_means(subject):
    exemplars, _, _ = pick_exemplars(subject)
    edits, _ = pick_edits(subject)
    directions = class_directions(subject, exemplars, edits)
    b, a = exemplars[edits.before[0]], exemplars[edits.after[0]]
    expected = subject.bank.features[a].mean(0) - subject.bank.features[b].mean(0)
    np.testing.assert_allclose(directions.features[0], expected, atol=1e-6)
    expected = subject.bank.latents[a].mean(0) - subject.bank.latents[b].mean(0)
    np.testing.assert_allclose(directions.latents[0], expected, atol=1e-6)


def test_figure3_tells_the_methods_apart(figure):
    feature, latent = figure.at_best("feature arithmetic"), figure.at_best("latent arithmetic")
    retrieval, random = figure.at_best("retrieval"), figure.at_best("random direction")
    assert feature.flip.mean > 0.95
    assert latent.flip.mean > 0.9
    assert retrieval.flip.mean > 0.9 > 0.6 > random.flip.mean
    # Retrieval returns some image of the class; arithmetic returns the same image otherwise.
    assert feature.identity.mean > retrieval.identity.mean + 0.1
    assert figure.at_best("optimisation").n == 6


def test_figure3_controls_are_exact(figure):
    unedited = figure.at_best("no edit")
    assert (unedited.flip.mean, unedited.pixel_error.mean) == (0, 0)
    assert unedited.identity.mean == pytest.approx(1, abs=1e-5)
    assert unedited.identity_of_flipped is None
    assert figure.at_best("round trip").flip.mean < 0.05


def test_best_is_the_smallest_amount_of_the_highest_rate(figure):
    for method in ("feature arithmetic", "latent arithmetic", "retrieval"):
        rates = {s.amount: s.flip.mean for s in figure.sweeps if s.method == method}
        expected = min(amount for amount, rate in rates.items() if rate == max(rates.values()))
        assert figure.at_best(method).amount == expected
        assert figure.at_best(method).flip.mean == rates[expected]


def test_intervals_count_sources_not_edits():
    # More edits a pair than a class has images: every source serves both of its pairs.
    figure = figure3(make_subject(sources=200, amounts=(1.0,), optimisation_steps=1))
    feature = figure.at_best("feature arithmetic")
    assert feature.n == figure.edits == 2 * figure.sources
    assert feature.flip.n == feature.identity.n == figure.sources


def test_pairs_average_to_the_flip_rate(figure):
    rates = [rate for row in figure.pairs for rate in row if rate is not None]
    assert len(rates) == 6
    assert np.mean(rates) == pytest.approx(figure.at_best("feature arithmetic").flip.mean)


def test_a_generator_of_one_class_cannot_be_edited():
    subject = make_subject()
    subject.judge.probabilities = lambda pixels: np.tile([1.0, 0.0, 0.0], (len(pixels), 1))
    with pytest.raises(TooFewClasses, match="sure of fewer than two classes"):
        figure3(subject)


def test_quality_of_the_real_distribution_is_at_the_floor(subject):
    found = sample_quality(subject)
    assert found.n == 64
    assert found.kernel.low <= max(found.kernel_floor.high, 0)
    assert found.frechet < 2 * found.frechet_floor
    assert sum(found.class_shares.values()) == pytest.approx(1)
    assert found.smallest_share > 0.1


def test_quality_notices_a_collapsed_generator(subject):
    class Collapsed(ToyEditor):
        def generate(self, latents):
            return super().generate(np.zeros_like(latents) + np.eye(LATENT, dtype=np.float32)[0])

    collapsed = Subject(**{**vars(subject), "editor": Collapsed(TextSpace())})
    found = sample_quality(collapsed)
    assert found.smallest_share == 0
    assert found.kernel.low > found.kernel_floor.high
    assert found.frechet > 3 * found.frechet_floor


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
            assert picture.text["synthetic"] == "true"
            assert picture.text["seed"] == "0"


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
