"""Likeness: what is kept is as like real images as it says, and each sample is its own."""

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
from controlgen.metrics.inversion import unit_rows
from controlgen.rng import normals, stream
from toy_protocol import TextSpace, ToyEditor, make_context, toy_editor

KINDS, SIZE = 6, 16


def real_features(n: int, seed: int = 0) -> np.ndarray:
    """Unit features (n 16) about one of six directions each."""
    rng = stream(seed, "toy real features")
    kinds = np.eye(SIZE)[rng.integers(KINDS, size=n)]
    return unit_rows((kinds + 0.1 * rng.standard_normal((n, SIZE))).astype(np.float32))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_as_many_new_real_images_are_kept_as_it_says(share: float) -> None:
    config = RejectionSamplingConfig(share=share, centres=30)
    actual = RealismFilter.fit(real_features(5000), np.arange(5000), config)
    saved = actual.accepts(real_features(4000, seed=1))
    # Both the bound (of 1000 images) and the count are random: five standard deviations of both.
    spread = np.sqrt(share * (1 - share) * (1 / 1000 + 1 / 4000))
    assert abs(saved.mean() - share) < 5 * spread
    # Half way between two kinds there is nothing real.
    pair = unit_rows((np.eye(SIZE)[[0, 2, 4]] + np.eye(SIZE)[[1, 3, 5]]).astype(np.float32))
    assert not actual.accepts(pair).any()


def test_images_of_one_source_are_all_seen_or_all_unseen() -> None:
    features = np.repeat(real_features(60), 20, axis=0)  # each source twenty times over
    config = RejectionSamplingConfig(centres=300)
    by_source = RealismFilter.fit(features, np.repeat(np.arange(60), 20), config)
    by_image = RealismFilter.fit(features, np.arange(1200), config)
    # Copies on both sides would set a bound that nothing new could reach.
    assert by_image.threshold > 0.999
    assert by_source.threshold < 0.99


def test_too_few_real_images_are_refused_in_one_line() -> None:
    with pytest.raises(DataError, match=r"sample\.likeness: 50 real images of 50 sources are too"):
        RealismFilter.fit(real_features(50), np.arange(50), RejectionSamplingConfig())
    with pytest.raises(DataError, match="of 1 sources"):
        RealismFilter.fit(real_features(500), np.zeros(500, int), RejectionSamplingConfig())


class Plane:
    """Latents (n 2) are pixels; a feature is their direction, off by rounding in company."""

    latent_size = 2

    def generate(self, latents: Any) -> Any:
        return latents.copy()

    def embed(self, pixels: Any) -> Any:
        off = 0 if len(pixels) == 1 else 0.9 * TIE_MARGIN * min(len(pixels) / 300, 1)
        return unit_rows(pixels) * np.float32(1 + off)


def cone(least: float, tries: int) -> RealismFilter:
    return RealismFilter(np.array([[1, 0]], np.float16), least, tries)


def test_what_is_kept_is_distributed_as_the_generators_images_that_are_like_real_ones() -> None:
    samples = draw_accepted(Plane(), cone(np.cos(1.0), 40), 0, "t", 0, 4000)
    angles = np.arctan2(samples.latents[:, 1], samples.latents[:, 0])
    # Directions of normals are even: so are those kept, between -1 and 1.
    assert kstest(angles, "uniform", args=(-1, 2)).pvalue > 1e-3
    lengths = np.linalg.norm(samples.latents, axis=1)
    assert kstest(lengths, "rayleigh").pvalue > 1e-3


def test_a_first_draw_that_is_kept_stays() -> None:
    likeness, first = cone(0.5, 8), normals(3, "t", 0, 300, 2)
    samples = draw_accepted(Plane(), likeness, 3, "t", 0, 300)
    same = (samples.latents == first).all(1)
    inside = unit_rows(first)[:, 0] >= 0.5
    np.testing.assert_array_equal(same, inside)
    assert 0.2 < inside.mean() < 0.5
    np.testing.assert_array_equal(samples.pixels, samples.latents)
    np.testing.assert_array_equal(draw_accepted(Plane(), None, 3, "t", 0, 300).latents, first)


@given(st.integers(0, 1100), st.integers(1, 200), st.integers(0, 3))
def test_a_sample_does_not_depend_on_its_company(start: int, n: int, seed: int) -> None:
    """Though the features of a row do, by a rounding that is drawn large here."""
    likeness = cone(0.5, 5)
    full = draw_accepted(Plane(), likeness, seed, "t", start, start + n)
    at = (start * 7 + n) % n
    alone = draw_accepted(Plane(), likeness, seed, "t", start + at, start + at + 1)
    np.testing.assert_array_equal(full.latents[at : at + 1], alone.latents)


def test_where_none_of_the_tries_is_kept_the_likest_is() -> None:
    tries = 3
    samples = draw_accepted(Plane(), cone(1.5, tries), 0, "t", 0, 50)
    purposes = ("t", "t, draw 1", "t, draw 2")
    draws = np.stack([normals(0, purpose, 0, 50, 2) for purpose in purposes])
    scores = draws[..., 0] / np.linalg.norm(draws, axis=2)
    np.testing.assert_array_equal(samples.latents, draws[scores.argmax(0), np.arange(50)])


class Choosy(ToyEditor):
    """Keeps the toy's images of the first class alone."""

    @property
    def realism_filter(self) -> RealismFilter:
        plain = np.full((1, self.latent_size), -3, np.float32)
        plain[0, 0] = 3
        return RealismFilter(self.embed(self.generate(plain)).astype(np.float16), 0.75, 12)


def test_quality_tells_what_there_would_be_without() -> None:
    usual = make_context()
    judged = replace(usual, editor=toy_editor(TextSpace(), Choosy))
    quality, plain = evaluate_sample_quality(judged), evaluate_sample_quality(usual)
    every = quality.unfiltered
    assert plain.unfiltered is None
    assert every is not None
    # What the first draws have is what there is without likeness, to the last digit.
    assert (every.confident, every.class_shares) == (plain.confident, plain.class_shares)
    assert (every.frechet, every.kernel) == (plain.frechet, plain.kernel)
    # Of three classes that are equally likely one is kept.
    assert 0.2 < every.accepted.mean < 0.5
    assert quality.class_shares["left"].mean > 0.95 > 0.5 > plain.class_shares["left"].mean
    same = normals(judged.config.seed, SAMPLE_STREAM, 0, quality.n, judged.editor.latent_size)
    saved = judged.editor.realism_filter.accepts(judged.editor.embed(judged.editor.generate(same)))
    assert every.accepted.mean == pytest.approx(saved.mean())


@pytest.fixture(scope="module")
def choosing(line: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Store, Any]:
    """The tiny line again, its bank drawn with likeness; the run, the store and the Refs."""
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


def test_a_bank_holds_what_an_editor_of_its_map_samples(line: Any, choosing: Any) -> None:
    run, store, (_, bank, features, fitted) = choosing
    assert bank != line.bank
    editor = Editor.load(store.path(fitted))
    latents, pixels = (np.load(store.path(bank) / f"{name}.npy") for name in ("latents", "pixels"))
    for first, n in ((0, 40), (37, 1), (399, 1)):
        items = editor.bank_items(first, first + n)
        np.testing.assert_array_equal(items.latents, latents[first : first + n])
        assert np.abs(items.pixels.astype(int) - pixels[first : first + n]).max() <= 1
        np.testing.assert_array_equal(editor.sample(n, run.sample.seed, first).pixels, items.pixels)
    # Nearly all are kept: five tries at what a good part of first draws are.
    plain = np.load(line.store.path(line.bank) / "latents.npy")
    saved = editor.realism_filter.accepts(np.load(store.path(features) / "features.npy"))
    first_kept = editor.realism_filter.accepts(editor.embed(editor.generate(plain)))
    assert (plain == latents).all(1)[first_kept].all()
    assert saved[first_kept].all()
    assert saved.mean() > first_kept.mean() > 0
    assert (store.path(bank) / "likeness.png").is_file()


def test_neither_batch_nor_run_changes_a_bank(line: Any, choosing: Any, tmp_path: Path) -> None:
    run, store, (gan, bank, *_) = choosing
    assert stages.draw_samples(run, gan, store) == bank
    others = Store(tmp_path / "store")
    shutil.copytree(store.path(gan), others.path(gan))
    sample = run.sample.model_copy(update={"batch_size": 70})
    assert stages.draw_samples(run.model_copy(update={"sample": sample}), gan, others) == bank
    for name in ("latents.npy", "pixels.npy", LIKENESS, "likeness.json"):
        assert (others.path(bank) / name).read_bytes() == (store.path(bank) / name).read_bytes()


def test_too_few_real_images_are_refused_before_anything_is_trained(
    choosing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = choosing[0]
    stages.preflight_fit(run)
    monkeypatch.setattr("controlgen.editing.rejection_sampling.FEWEST", 10_000)
    with pytest.raises(DataError, match=r"sample\.likeness: 400 real images"):
        stages.preflight_fit(run)


def test_data_and_space_name_the_bank(choosing: Any) -> None:
    run, store, (gan, bank, *_) = choosing
    before = store.refs()
    data = run.train.dataset.model_copy(update={"split": "test"})
    other = run.model_copy(update={"train": run.train.model_copy(update={"dataset": data})})
    assert stages.draw_samples(other, gan, store) != bank
    assert len(store.refs()) == len(before) + 1


def test_the_report_the_card_and_a_score_tell_of_it(choosing: Any, tmp_path: Path) -> None:
    run, store, (gan, bank, features, fitted) = choosing
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
    # What is shipped samples, and is scored, as the map in the store.
    shipped, here = Editor.load(target), Editor.load(store.path(fitted))
    np.testing.assert_array_equal(shipped.sample(9, 3).pixels, here.sample(9, 3).pixels)
    drawn_for_score = here.sample_stream(6, 2, "image source").pixels
    np.testing.assert_array_equal(GeneratorSource(target).draw(6, 2), drawn_for_score)
    np.testing.assert_array_equal(
        GeneratorSource(target).held_out_images(3, 2),
        here.sample_stream(3, 2, "image source", 3).pixels,
    )


def test_pictures_depend_on_it_and_say_so(line: Any, choosing: Any) -> None:
    _, store, (*_, fitted) = choosing
    with_it, without = Editor.load(store.path(fitted)), Editor.load(line.map_folder)
    assert without.realism_filter is None
    assert with_it.weights != without.weights


def test_a_damaged_one_is_refused(choosing: Any, tmp_path: Path) -> None:
    from controlgen.utils.array_files import save_arrays

    _, store, (*_, fitted) = choosing
    for arrays in ({}, {"centres": np.zeros((3, 5), np.float16)}, {"centres": np.zeros(256)}):
        folder = tmp_path / "map"
        shutil.copytree(store.path(fitted), folder, dirs_exist_ok=True)
        save_arrays(folder / LIKENESS, {"other": np.zeros(1), **arrays})
        with pytest.raises(ArtifactCorrupt, match=r"likeness\.safetensors: holds no centres"):
            load_realism_filter(folder, 256)
