"""The encoder: its loss against closed forms, bit-equal resumption, a space that knows its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from controlgen.config import EncoderConfig
from controlgen.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ConfigError,
    Diverged,
    Incompatible,
)
from controlgen.features import SelfSupervisedConfig
from controlgen.features.self_supervised import ENCODER, WEIGHTS
from controlgen.images import to_pixels, to_signed_float
from controlgen.training.vicreg import (
    EncoderState,
    covariance,
    export,
    invariance,
    train_encoder,
    two_views,
    untrained,
    variance,
)

SETTINGS: dict[str, Any] = {
    "dataset": {"kind": "digits"},
    "augment": {"kind": "digits"},
    "images": 48,
    "batch_size": 8,
    "feature_size": 16,
    "expander": 24,
    "tower": "test_resnet",
    "device": "cpu",
}
TINY = EncoderConfig.parse(SETTINGS)


class Unlabelled:
    """Images and nothing else: asking for anything more fails."""

    def __init__(self, channels: int = 1, n: int = 40, side: int = 32) -> None:
        draws = np.random.default_rng(channels)
        self.images = draws.integers(0, 256, (n, channels, side, side), np.uint8)
        self.image_shape = (channels, side, side)

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, indices: Any) -> Any:
        return self.images[indices]


DATA = Unlabelled()


def normals(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


# The loss.


@given(st.integers(2, 30), st.integers(2, 8), st.integers(0, 99))
def test_terms_are_those_of_numpy(n: int, d: int, seed: int) -> None:
    first, second = normals(n, d, seed), normals(n, d, seed + 1)
    covariances = np.cov(first.numpy(), rowvar=False)
    spreads = np.sqrt(np.diag(covariances) + 1e-4)
    others = covariances[~np.eye(d, dtype=bool)]
    assert covariance(first).item() == pytest.approx((others**2).sum() / d)
    assert variance(first).item() == pytest.approx(np.maximum(0, 1 - spreads).mean())
    assert invariance(first, second).item() == pytest.approx(((first - second) ** 2).mean().item())


def test_unit_spread_and_no_correlation_cost_nothing() -> None:
    # Columns of a Hadamard matrix: orthogonal, of mean 0, squares of 1.
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    columns = torch.kron(torch.kron(pair, pair), pair)[:, 1:]
    columns = columns * (7 / 8) ** 0.5
    assert columns.var(0).allclose(torch.ones(7))
    assert variance(columns).item() == 0
    assert covariance(columns).item() == pytest.approx(0, abs=1e-12)
    assert invariance(columns, columns).item() == 0
    # Twice as wide costs nothing either; half as wide costs a half.
    assert variance(2 * columns).item() == 0
    assert variance(columns / 2).item() == pytest.approx(0.5, abs=1e-3)


def test_collapse_costs_what_the_variance_term_says_and_more_than_noise() -> None:
    same = torch.ones(64, 16)
    assert variance(same).item() == pytest.approx(1 - 1e-2)  # sqrt of the floor 1e-4
    assert covariance(same).item() == 0

    def loss(first: torch.Tensor, second: torch.Tensor) -> float:
        spread = variance(first) + variance(second)
        shared = covariance(first) + covariance(second)
        return float(25 * invariance(first, second) + 25 * spread + shared)

    noise = normals(64, 16).float()
    assert loss(same, same) > 49 > 10 * loss(noise, noise)
    # All columns one column: the spread is right, and the covariance term alone tells.
    copies = noise[:, :1].expand(-1, 16)
    assert covariance(copies) > 10 * covariance(noise)


# Training.


def run(state: EncoderState, steps: int) -> list[float]:
    progress = train_encoder(TINY, DATA, state)
    return [next(progress).loss for _ in range(steps)]


@pytest.fixture(scope="module")
def full_run() -> tuple[EncoderState, list[float]]:
    state = EncoderState(TINY, DATA.image_shape)
    return state, run(state, 6)


@settings(max_examples=4)
@given(stops=st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_a_run_stopped_anywhere_goes_on_bit_by_bit(full_run: Any, stops: list[int]) -> None:
    state, losses, text = full_run[0], full_run[1], []
    current = EncoderState(TINY, DATA.image_shape)
    for stop in sorted(stops):
        text += run(current, stop - len(text))
        saved = save(current.tensors())
        current = EncoderState(TINY, DATA.image_shape)
        current.restore(load(saved))
        assert current.images_seen == 8 * stop
    text += run(current, 6 - len(text))
    assert text == losses
    for name, value in state.tensors().items():
        assert torch.equal(value, current.tensors()[name]), name
    assert list(train_encoder(TINY, DATA, current)) == []


def test_weights_follow_the_seed_and_nothing_global_is_drawn(
    global_randomness_untouched: None,
) -> None:
    shape = DATA.image_shape
    first, again = (EncoderState(TINY, shape).tensors() for _ in range(2))
    other = EncoderState(TINY.model_copy(update={"seed": 1}), shape).tensors()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(
        first["model/encoder.tower.fc.weight"], other["model/encoder.tower.fc.weight"]
    )
    assert torch.equal(two_views(TINY, DATA, 8), two_views(TINY, DATA, 8))
    assert not torch.equal(two_views(TINY, DATA, 8), two_views(TINY, DATA, 16))


def test_both_halves_of_a_batch_are_views_of_the_same_images() -> None:
    still = {"shift": 0, "zoom": 0, "blur": 0, "noise": 0}
    config = EncoderConfig.parse({**SETTINGS, "augment": {"kind": "digits", **still}})
    first, second = two_views(config, DATA, 0).chunk(2)
    assert torch.equal(first, second)
    rows = {image.tobytes() for image in DATA.images}
    assert all(to_pixels(view[None]).tobytes() in rows for view in first)


def test_a_loss_that_is_no_number_stops_before_the_weights() -> None:
    state = EncoderState(TINY, DATA.image_shape)
    with torch.no_grad():
        state.encoder.tower.fc.bias.fill_(float("nan"))
    before = state.encoder.tower.conv1[0].weight.clone()
    with pytest.raises(Diverged, match="after 0 images"):
        run(state, 1)
    assert torch.equal(before, state.encoder.tower.conv1[0].weight)


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^config: augment is missing$"):
        EncoderConfig.parse({"dataset": {"kind": "digits"}})
    with pytest.raises(ConfigError, match=r"augment: .*'digits', 'tissue'"):
        EncoderConfig.parse({**SETTINGS, "augment": {"kind": "photo"}})
    with pytest.raises(ConfigError, match=r"^config: unknown key labels$"):
        EncoderConfig.parse({**SETTINGS, "labels": True})
    with pytest.raises(ConfigError, match="no-such-tower: no timm model"):
        EncoderState(TINY.model_copy(update={"tower": "no-such-tower"}), DATA.image_shape)
    with pytest.raises(ConfigError, match="test_vit3: does not take 1x32x32 images") as caught:
        EncoderState(TINY.model_copy(update={"tower": "test_vit3"}), DATA.image_shape)
    assert "\n" not in str(caught.value)
    with pytest.raises(Incompatible, match="stain"):
        tissue = EncoderConfig.parse({**SETTINGS, "augment": {"kind": "tissue"}})
        EncoderState(tissue, DATA.image_shape)
    with pytest.raises(Incompatible, match="4 channels"):
        EncoderState(TINY, (4, 32, 32))
    with pytest.raises(ArtifactCorrupt, match="does not fit"):
        EncoderState(TINY, DATA.image_shape).restore({"images_seen": torch.tensor(3)})


# The space.


def write(folder: Path, channels: int = 1, side: int = 32, **changes: Any) -> Path:
    """A random encoder in a folder."""
    config = EncoderConfig.parse({**SETTINGS, **changes})
    data = Unlabelled(channels, side=side)
    state = EncoderState(config, data.image_shape)
    state.encoder.load_state_dict(untrained(config, data).state_dict())
    folder.mkdir(parents=True)
    export(state, folder)
    return folder


@pytest.mark.parametrize(("channels", "side"), [(1, 32), (3, 32), (3, 64)])
def test_features_are_the_networks_own_made_unit(tmp_path: Path, channels: int, side: int) -> None:
    space = SelfSupervisedConfig(path=write(tmp_path / "it", channels, side)).open()
    assert space.size == 16 and space.preprocessing.size == (side, side)
    pixels = Unlabelled(channels, side=side).images[:5]
    with torch.no_grad():
        expected = space.network(to_signed_float(pixels)).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(space.embed(pixels), expected, atol=1e-4)
    # Other sizes and other channels are brought to what the encoder was taught on.
    assert space.embed(Unlabelled(4 - channels, side=40).images[:2]).shape == (2, 16)


def test_a_grey_encoder_sees_luma(tmp_path: Path) -> None:
    space = SelfSupervisedConfig(path=write(tmp_path / "it")).open()
    colours = Unlabelled(3).images[:4]
    luma = np.tensordot(colours, [0.299, 0.587, 0.114], axes=([1], [0]))[:, None]
    grey = space.embed(np.rint(luma).astype(np.uint8))
    assert ((space.embed(colours) * grey).sum(1) > 0.999).all()


def test_it_is_known_by_its_weights_and_not_by_where_it_lies(tmp_path: Path) -> None:
    first = SelfSupervisedConfig(path=write(tmp_path / "a"))
    again = SelfSupervisedConfig(path=write(tmp_path / "deeper" / "b"))
    other = SelfSupervisedConfig(path=write(tmp_path / "c", seed=1))
    assert first.identity() == again.identity() != other.identity()
    assert first.open().fingerprint == again.open().fingerprint != other.open().fingerprint
    assert first.name == "a" and set(first.identity()) == {"kind", "weights"}
    # What is not there has an identity too, which is no other's.
    assert SelfSupervisedConfig(path=tmp_path / "gone").identity()["weights"] is None


def test_it_is_found_by_name_beside_a_map_and_in_its_store(tmp_path: Path) -> None:
    weights = write(tmp_path / "store" / "encoder" / "mine")
    maps, missing = tmp_path / "store" / "map", Path("elsewhere/encoder/mine")
    assert SelfSupervisedConfig(path=missing).folder([maps]) == weights
    assert SelfSupervisedConfig(path=Path("mine")).folder([maps]) == weights
    assert SelfSupervisedConfig(path=Path("mine")).folder([weights.parent]) == weights
    assert SelfSupervisedConfig(path=missing).folder() is None
    assert SelfSupervisedConfig(path=missing).open([maps]).size == 16


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    def refusal(folder: Path, error: type[Exception]) -> str:
        with pytest.raises(error) as caught:
            SelfSupervisedConfig(path=folder).open()
        assert "\n" not in str(caught.value) and folder.name in str(caught.value)
        return str(caught.value)

    assert "flows.train_encoder" in refusal(tmp_path / "no-such", ArtifactMissing)
    unweighted = write(tmp_path / "unweighted")
    (unweighted / WEIGHTS).unlink()
    refusal(unweighted, ArtifactMissing)
    for name, text in (("cut", b"abc"), ("other", None)):
        folder = write(tmp_path / name)
        bigger = write(tmp_path / f"{name}-bigger", feature_size=24)
        (folder / WEIGHTS).write_bytes(text or (bigger / WEIGHTS).read_bytes())
        refusal(folder, ArtifactCorrupt)
    for name, text in (("broken", "{"), ("keys", "{}"), ("list", "[]")):
        folder = write(tmp_path / name)
        (folder / ENCODER).write_text(text)
        refusal(folder, ArtifactCorrupt)
