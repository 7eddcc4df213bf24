"""CLIP training: the loss against closed forms, bit-equal resumption, an export others can load."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from safetensors.torch import load, save

from controlgen.config import ClipConfig
from controlgen.errors import ArtifactCorrupt, ConfigError, Diverged
from controlgen.features import OpenClipConfig
from controlgen.metrics.zero_shot import linear_r2, zero_shot_predictions
from controlgen.synthetic import SyntheticDigits
from controlgen.training.clip import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    ClipState,
    export,
    info_nce_loss,
    learning_rate,
    train_clip,
)

TINY = ClipConfig(
    images=64, batch_size=16, embed_dim=16, tower="test_resnet", text_width=16, text_layers=1
)
WORLD = SyntheticDigits(printed=0.0)


def test_contrast_is_the_loss_of_clip_where_all_sentences_differ() -> None:
    similarities = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    answers = torch.arange(6)
    expected = functional.cross_entropy(similarities, answers)
    expected = (expected + functional.cross_entropy(similarities.T, answers)) / 2
    torch.testing.assert_close(info_nce_loss(similarities, answers), expected)


def test_contrast_shares_the_answer_among_equal_sentences() -> None:
    # Two pairs of equal sentences, told apart without doubt: what is left is the choice of two.
    owner = torch.tensor([0, 1, 0, 1])
    sure = 100.0 * (owner[:, None] == owner[None, :])
    torch.testing.assert_close(info_nce_loss(sure, owner), torch.tensor(2.0).log())
    assert info_nce_loss(-sure, owner) > 50


def test_learning_rate_rises_and_falls() -> None:
    config = ClipConfig(images=1000, learning_rate=1.0)
    rates = [learning_rate(config, item) for item in range(0, 1001, 10)]
    assert 0 < rates[0] < 0.01 and abs(max(rates) - 1) < 1e-6
    assert rates.index(max(rates)) == 5 and abs(rates[-1] - 0.01) < 1e-6
    assert rates[:6] == sorted(rates[:6]) and rates[5:] == sorted(rates[5:], reverse=True)


def run(state: ClipState, steps: int) -> list[float]:
    progress = train_clip(TINY, WORLD, state)
    return [next(progress).loss for _ in range(steps)]


def test_a_resumed_run_equals_an_uninterrupted_one() -> None:
    full = ClipState(TINY)
    losses = run(full, 4)
    first, second = ClipState(TINY), ClipState(TINY)
    begun = run(first, 2)
    second.restore(load(save(first.tensors())))
    assert second.images_seen == 32
    assert begun + run(second, 2) == losses
    for name, value in full.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name
    assert list(train_clip(TINY, WORLD, second)) == []


def test_initial_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, again = ClipState(TINY).tensors(), ClipState(TINY).tensors()
    other = ClipState(TINY.model_copy(update={"seed": 1})).tensors()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(
        first["model/token_embedding.weight"], other["model/token_embedding.weight"]
    )


def test_a_state_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ArtifactCorrupt):
        ClipState(TINY).restore({"images_seen": torch.tensor(3)})


def test_an_unknown_tower_is_refused() -> None:
    with pytest.raises(ConfigError, match="no-such-tower"):
        ClipState(TINY.model_copy(update={"tower": "no-such-tower"}))


def test_a_loss_that_is_no_number_stops_before_the_weights() -> None:
    state = ClipState(TINY)
    with torch.no_grad():
        state.model.logit_scale.fill_(float("nan"))
    before = state.model.text_projection.clone()
    with pytest.raises(Diverged, match="0 images"):
        run(state, 1)
    assert torch.equal(before, state.model.text_projection)


def test_learns_a_world_of_two_and_exports_what_open_clip_loads(tmp_path: Path) -> None:
    # Two images with a sentence each: a few steps must tell them apart, through the export as well.
    config = TINY.model_copy(update={"images": 16 * 60, "learning_rate": 3e-3})
    state = ClipState(config)
    samples = WORLD.draw(0, 0, 400)
    zeros = samples.pixels[samples.attributes[:, 0] == 0]
    ones = samples.pixels[samples.attributes[:, 0] == 1]

    class TwoDigits(SyntheticDigits):
        def draw(self, seed: int, start: int, stop: int):  # type: ignore[no-untyped-def]
            half = (stop - start) // 2
            first = start % (len(zeros) - half)
            pixels = np.concatenate([zeros[first : first + half], ones[first : first + half]])
            return samples._replace(pixels=pixels, captions=["zero"] * half + ["one"] * half)

    losses = [step.loss for step in train_clip(config, TwoDigits(), state)]
    assert losses[-1] < losses[0] / 1.2

    export(state, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}
    space = OpenClipConfig(model=str(tmp_path)).open()
    pixels, labels = np.concatenate([zeros, ones]), np.repeat([0, 1], [len(zeros), len(ones)])
    predictions = zero_shot_predictions(space, [["zero"], ["one"]], pixels)
    accuracy = (predictions == labels).mean()
    assert accuracy > 0.9 and accuracy == (predictions == labels).mean()

    # open_clip's own loader and preprocessing see the same.
    import open_clip
    from PIL import Image

    network, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    with torch.no_grad():
        expected = network.eval().encode_image(
            preprocess(Image.fromarray(zeros[0, 0]))[None], normalize=True
        )
    assert space.embed(zeros[:1])[0] @ expected[0].numpy() > 0.999
    assert json.loads((tmp_path / CONFIG_FILE).read_text())["model_cfg"]["embed_dim"] == 16


def test_linear_r2_finds_what_is_linear_and_nothing_else() -> None:
    draws = np.random.default_rng(0)
    features = draws.standard_normal((400, 5)).astype(np.float32)
    noise = draws.standard_normal(400)
    values = np.stack([features @ np.arange(5), noise], 1).astype(np.float32)
    linear, unrelated = linear_r2(features, values)
    assert linear > 0.999 and unrelated < 0.1
