"""Rejection sampling: acceptance rates, independence of samples, and banks drawn with it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from controlgen import Editor, stages
from controlgen.artifacts import Store
from controlgen.cli.image_sources import GeneratorSource
from controlgen.config import EmbedConfig, RejectionSamplingConfig, RunConfig
from controlgen.editing.checkpoint import LIKENESS, load_realism_filter
from controlgen.editing.rejection_sampling import TIE_MARGIN, RealismFilter, draw_accepted
from controlgen.errors import ArtifactCorrupt, DataError
from controlgen.evaluation.sample_quality import SAMPLE_STREAM, evaluate_sample_quality
from controlgen.features import OpenClipConfig
from controlgen.rng import normals, stream
from controlgen.utils.rows import normalize_rows
from toy_protocol import TextSpace, ToyEditor, make_context, toy_editor

KINDS, SIZE = 6, 16


def real_features(n: int, seed: int = 0) -> np.ndarray:
    """Unit features (n 16) about one of six directions each."""
    rng = stream(seed, "toy real features")
    kinds = np.eye(SIZE)[rng.integers(KINDS, size=n)]
    return normalize_rows((kinds + 0.1 * rng.standard_normal((n, SIZE))).astype(np.float32))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_new_real_images_are_accepted_at_the_configured_share(share: float) -> None:
    config = RejectionSamplingConfig(share=share, centres=30)
    actual = RealismFilter.fit(real_features(5000), np.arange(5000), config)
    accepted = actual.accepts(real_features(4000, seed=1))
    # Both the threshold (of 1000 images) and the count are random: five standard deviations.
    spread = np.sqrt(share * (1 - share) * (1 / 1000 + 1 / 4000))
    assert abs(accepted.mean() - share) < 5 * spread
    # Nothing real is half way between two kinds.
    pair = normalize_rows((np.eye(SIZE)[[0, 2, 4]] + np.eye(SIZE)[[1, 3, 5]]).astype(np.float32))
    assert not actual.accepts(pair).any()


def test_images_of_a_source_are_never_split() -> None:
    features = np.repeat(real_features(60), 20, axis=0)  # twenty copies of each source
    config = RejectionSamplingConfig(centres=300)
    by_source = RealismFilter.fit(features, np.repeat(np.arange(60), 20), config)
    by_image = RealismFilter.fit(features, np.arange(1200), config)
    # Copies on both sides would set a threshold that no new image reaches.
    assert by_image.threshold > 0.999
    assert by_source.threshold < 0.99


def test_too_few_real_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"sample\.likeness: 50 real images of 50 sources are too"):
        RealismFilter.fit(real_features(50), np.arange(50), RejectionSamplingConfig())
    with pytest.raises(DataError, match="of 1 sources"):
        RealismFilter.fit(real_features(500), np.zeros(500, int), RejectionSamplingConfig())


class Plane:
    """Latents (n 2) are pixels; a feature is their direction, with an error by batch."""

    latent_size = 2

    def generate(self, latents: Any) -> Any:
        return latents.copy()

    def embed(self, pixels: Any) -> Any:
        off = 0 if len(pixels) == 1 else 0.9 * TIE_MARGIN * min(len(pixels) / 300, 1)
        return normalize_rows(pixels) * np.float32(1 + off)


def cone(threshold: float, max_draws: int) -> RealismFilter:
    return RealismFilter(np.array([[1, 0]], np.float16), threshold, max_draws)


def test_accepted_samples_follow_the_truncated_distribution() -> None:
    samples = draw_accepted(Plane(), cone(np.cos(1.0), 40), 0, "t", 0, 4000)
    angles = np.arctan2(samples.latents[:, 1], samples.latents[:, 0])
    # Directions of normals are uniform: so are the accepted ones, between -1 and 1.
    assert kstest(angles, "uniform", args=(-1, 2)).pvalue > 1e-3
    lengths = np.linalg.norm(samples.latents, axis=1)
    assert kstest(lengths, "rayleigh").pvalue > 1e-3


def test_an_accepted_first_draw_is_unchanged() -> None:
    realism_filter, first = cone(0.5, 8), normals(3, "t", 0, 300, 2)
    samples = draw_accepted(Plane(), realism_filter, 3, "t", 0, 300)
    same = (samples.latents == first).all(1)
    inside = normalize_rows(first)[:, 0] >= 0.5
    np.testing.assert_array_equal(same, inside)
    assert 0.2 < inside.mean() < 0.5
    np.testing.assert_array_equal(samples.pixels, samples.latents)
    np.testing.assert_array_equal(draw_accepted(Plane(), None, 3, "t", 0, 300).latents, first)


@given(st.integers(0, 1100), st.integers(1, 200), st.integers(0, 3))
def test_a_sample_does_not_depend_on_its_batch(start: int, n: int, seed: int) -> None:
    """Although the features of a row do, by an exaggerated rounding error."""
    realism_filter = cone(0.5, 5)
    full = draw_accepted(Plane(), realism_filter, seed, "t", start, start + n)
    at = (start * 7 + n) % n
    alone = draw_accepted(Plane(), realism_filter, seed, "t", start + at, start + at + 1)
    np.testing.assert_array_equal(full.latents[at : at + 1], alone.latents)


def test_without_an_accepted_draw_the_most_similar_is_used() -> None:
    tries = 3
    samples = draw_accepted(Plane(), cone(1.5, tries), 0, "t", 0, 50)
    purposes = ("t", "t, draw 1", "t, draw 2")
    draws = np.stack([normals(0, purpose, 0, 50, 2) for purpose in purposes])
    scores = draws[..., 0] / np.linalg.norm(draws, axis=2)
    np.testing.assert_array_equal(samples.latents, draws[scores.argmax(0), np.arange(50)])


class FilteredEditor(ToyEditor):
    """Accepts images of the first class only."""

    @property
    def realism_filter(self) -> RealismFilter:
        plain = np.full((1, self.latent_size), -3, np.float32)
        plain[0, 0] = 3
        return RealismFilter(self.embed(self.generate(plain)).astype(np.float16), 0.75, 12)


def test_sample_quality_includes_unfiltered_sampling() -> None:
    context = make_context()
    filtered = replace(context, editor=toy_editor(TextSpace(), FilteredEditor))
    quality, plain = evaluate_sample_quality(filtered), evaluate_sample_quality(context)
    every = quality.unfiltered
    assert plain.unfiltered is None
    assert every is not None
    # The first draws have the quality of unfiltered sampling, to the last digit.
    assert (every.confident, every.class_shares) == (plain.confident, plain.class_shares)
    assert (every.frechet, every.kernel) == (plain.frechet, plain.kernel)
    # One of three equally likely classes is accepted.
    assert 0.2 < every.accepted.mean < 0.5
    assert quality.class_shares["left"].mean > 0.95 > 0.5 > plain.class_shares["left"].mean
    editor, seed = filtered.editor, filtered.config.seed
    latents = normals(seed, SAMPLE_STREAM, 0, quality.n, editor.latent_size)
    accepted = editor.realism_filter.accepts(editor.embed(editor.generate(latents)))
    assert every.accepted.mean == pytest.approx(accepted.mean())


@pytest.fixture(scope="module")
def filtered_run(
    line: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunConfig, Store, Any]:
    """The tiny run with rejection sampling: the config, the store and the artifacts."""
    root = tmp_path_factory.mktemp("likeness") / "store"
    shutil.copytree(line.store.root, root)
    settings = {"share": 0.95, "centres": 20, "images": 400, "tries": 5}
    sample = line.run.sample.model_copy(update={"likeness": RejectionSamplingConfig(**settings)})
    embed = EmbedConfig(space=OpenClipConfig())
    run, store = line.run.model_copy(update={"sample": sample, "embed": embed}), Store(root)
    bank = stages.draw_samples(run, line.gan, store)
    features = stages.embed_images(run.name, run.embed, bank, store)
    fitted = stages.fit_map(run, line.gan, bank, features, store)
    return run, store, (line.gan, bank, features, fitted)


def test_a_bank_equals_the_samples_of_its_editor(line: Any, filtered_run: Any) -> None:
    run, store, (_, bank, features, fitted) = filtered_run
    assert bank != line.bank
    editor = Editor.load(store.path(fitted))
    latents, pixels = (np.load(store.path(bank) / f"{name}.npy") for name in ("latents", "pixels"))
    for first, n in ((0, 40), (37, 1), (399, 1)):
        items = editor.bank_items(first, first + n)
        np.testing.assert_array_equal(items.latents, latents[first : first + n])
        assert np.abs(items.pixels.astype(int) - pixels[first : first + n]).max() <= 1
        np.testing.assert_array_equal(editor.sample(n, run.sample.seed, first).pixels, items.pixels)
    # Nearly all are accepted, with up to five draws each.
    plain = np.load(line.store.path(line.bank) / "latents.npy")
    accepted = editor.realism_filter.accepts(np.load(store.path(features) / "features.npy"))
    first_accepted = editor.realism_filter.accepts(editor.embed(editor.generate(plain)))
    assert (plain == latents).all(1)[first_accepted].all()
    assert accepted[first_accepted].all()
    assert accepted.mean() > first_accepted.mean() > 0
    assert (store.path(bank) / "likeness.png").is_file()


def test_a_bank_does_not_depend_on_batch_size_or_store(
    line: Any, filtered_run: Any, tmp_path: Path
) -> None:
    run, store, (gan, bank, *_) = filtered_run
    assert stages.draw_samples(run, gan, store) == bank
    others = Store(tmp_path / "store")
    shutil.copytree(store.path(gan), others.path(gan))
    sample = run.sample.model_copy(update={"batch_size": 70})
    assert stages.draw_samples(run.model_copy(update={"sample": sample}), gan, others) == bank
    for name in ("latents.npy", "pixels.npy", LIKENESS, "likeness.json"):
        assert (others.path(bank) / name).read_bytes() == (store.path(bank) / name).read_bytes()


def test_too_few_real_images_are_refused_before_the_training(
    filtered_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = filtered_run[0]
    stages.preflight_fit(run)
    monkeypatch.setattr("controlgen.editing.rejection_sampling.MIN_IMAGES", 10_000)
    with pytest.raises(DataError, match=r"sample\.likeness: 400 real images"):
        stages.preflight_fit(run)


def test_the_banks_name_depends_on_dataset_and_space(filtered_run: Any) -> None:
    run, store, (gan, bank, *_) = filtered_run
    before = store.refs()
    data = run.train.dataset.model_copy(update={"split": "test"})
    other = run.model_copy(update={"train": run.train.model_copy(update={"dataset": data})})
    assert stages.draw_samples(other, gan, store) != bank
    assert len(store.refs()) == len(before) + 1


def test_report_card_and_scores_include_rejection_sampling(
    filtered_run: Any, tmp_path: Path
) -> None:
    run, store, (gan, bank, features, fitted) = filtered_run
    report = stages.evaluate(run, fitted, bank, features, store)
    text = (store.path(report) / "report.md").read_text("utf-8")
    assert "| measure | generated | every first draw | real-vs-real floor |" in text
    every = json.loads((store.path(report) / "report.json").read_text())["quality"]["every_draw"]
    assert f"steering space: {every['kept']['mean']:.3f} (" in text
    assert f"of {run.evaluate.samples} first draws;" in text
    target = tmp_path / "pretrained" / "mine"
    stages.export_model(run, gan, fitted, report, store, target)
    card = (target / "README.md").read_text("utf-8")
    assert (
        f"| samples kept | those as like real images as most are: {every['kept']['mean']:.3f} ("
        in card
    )
    # The exported model samples and is scored as the map in the store.
    exported, stored = Editor.load(target), Editor.load(store.path(fitted))
    np.testing.assert_array_equal(exported.sample(9, 3).pixels, stored.sample(9, 3).pixels)
    expected = stored.sample_stream(6, 2, "image source").pixels
    np.testing.assert_array_equal(GeneratorSource(target).draw(6, 2), expected)
    np.testing.assert_array_equal(
        GeneratorSource(target).held_out_images(3, 2),
        stored.sample_stream(3, 2, "image source", 3).pixels,
    )


def test_the_weights_fingerprint_includes_the_filter(line: Any, filtered_run: Any) -> None:
    _, store, (*_, fitted) = filtered_run
    filtered, plain = Editor.load(store.path(fitted)), Editor.load(line.map_folder)
    assert plain.realism_filter is None
    assert filtered.weights != plain.weights


def test_a_damaged_filter_is_refused(filtered_run: Any, tmp_path: Path) -> None:
    from controlgen.utils.array_files import save_arrays

    _, store, (*_, fitted) = filtered_run
    for arrays in ({}, {"centres": np.zeros((3, 5), np.float16)}, {"centres": np.zeros(256)}):
        folder = tmp_path / "map"
        shutil.copytree(store.path(fitted), folder, dirs_exist_ok=True)
        save_arrays(folder / LIKENESS, {"other": np.zeros(1), **arrays})
        with pytest.raises(ArtifactCorrupt, match=r"likeness\.safetensors: holds no centres"):
            load_realism_filter(folder, 256)
