"""Augmentation: exact moves, colour in closed form, no leak, gradients, adaptive p, resume."""

import copy
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file
from scipy import stats
from skimage.color import separate_stains
from torch import Tensor, nn

from controlgen.augmentations import Adaptive, AnyAugment, Dihedral, NoAugment, Scheduled
from controlgen.augmentations.colour import EOSIN, HAEMATOXYLIN, NoColour, PlainColour, StainColour
from controlgen.augmentations.geometry import POSES, UPRIGHT, move
from controlgen.config import RunConfig, TrainConfig
from controlgen.errors import ArtifactCorrupt, ConfigError, Incompatible
from controlgen.images import to_unit
from controlgen.objectives.penalties import squared_gradient
from controlgen.rng import torch_stream
from controlgen.stages.common import name_of
from controlgen.training import TrainState, train

pytestmark = pytest.mark.usefixtures("global_randomness_untouched")

MEMBERS = get_args(get_args(AnyAugment)[0])
COLOURS = [NoColour(), PlainColour(), StainColour()]
EVERYTHING = {"translate": 0.25, "colour": {"kind": "stain", "strength": 0.4}}
CONFIGS = Path(__file__).parents[1] / "configs"


def draws(index: int = 0) -> torch.Generator:
    return torch_stream(7, "augment test", index)


def images(n: int, size: int = 8, channels: int = 3, index: int = 0) -> Tensor:
    return 2 * torch.rand(n, channels, size, size, generator=draws(index)) - 1


def posed(batch: Tensor, pose: int) -> Tensor:
    """What pose 4 f + k means, in torch's own words."""
    return torch.rot90(batch.flip(3) if pose >= 4 else batch, pose % 4, (2, 3))


def still(n: int) -> Tensor:
    return torch.zeros(n, 2, dtype=torch.int64)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_poses_are_those_of_torch(size: int) -> None:
    batch = images(8, size)
    moved = move(batch, torch.arange(8), still(8))
    for pose in range(8):
        assert torch.equal(moved[pose], posed(batch[pose : pose + 1], pose)[0])
    assert torch.equal(moved[UPRIGHT], batch[UPRIGHT])


def test_poses_are_the_dihedral_group() -> None:
    """Eight different moves; two in a row are the one that the product of matrices names."""
    batch = images(1, 5).expand(8, -1, -1, -1)
    each = move(batch, torch.arange(8), still(8))
    assert len({picture.numpy().tobytes() for picture in each}) == 8
    for second in range(8):
        row = []
        for first in range(8):
            product = POSES[first] @ POSES[second]
            (named,) = [k for k in range(8) if torch.equal(POSES[k], product)]
            twice = move(each[first : first + 1], torch.tensor([second]), still(1))
            assert torch.equal(twice[0], each[named])
            row.append(named)
        # Every row of the table is a permutation: each move has one inverse.
        assert sorted(row) == list(range(8))


@given(
    st.integers(2, 9).flatmap(
        lambda size: st.tuples(
            st.just(size), st.integers(1 - size, size - 1), st.integers(1 - size, size - 1)
        )
    ),
    st.integers(0, 7),
)
def test_translation_is_reflect_padding_after_the_pose(
    placed: tuple[int, int, int], pose: int
) -> None:
    size, down, right = placed
    batch = images(1, size)
    moved = move(batch, torch.tensor([pose]), torch.tensor([[down, right]]))
    wide = size - 1
    padded = np.pad(
        posed(batch, pose).numpy(), ((0, 0), (0, 0), (wide, wide), (wide, wide)), "reflect"
    )
    top, left = wide - down, wide - right
    wanted = padded[:, :, top : top + size, left : left + size]
    np.testing.assert_array_equal(moved.numpy(), wanted)


@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: colour.kind)
def test_amount_zero_changes_no_bit_of_a_colour(colour: Any) -> None:
    # Generated images leave -1..1, so they are looked at out there too.
    batch = 2 * images(6)
    assert torch.equal(colour.apply(batch, torch.zeros(6, 3, dtype=torch.float64)), batch)


def stained(haematoxylin: np.ndarray, eosin: np.ndarray) -> Tensor:
    """Images -1..1 of tissue with these concentrations (n h w), by Beer-Lambert."""
    vectors = np.array([HAEMATOXYLIN, EOSIN])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    density = np.einsum("knhw,kc->nchw", np.stack([haematoxylin, eosin]), vectors)
    return torch.from_numpy(2 * np.exp(-density) - 1)


def concentrations(batch: Tensor) -> np.ndarray:
    """(n h w 3) by scikit-image, relative to its own unit of density."""
    vectors = np.array([HAEMATOXYLIN, EOSIN, np.cross(HAEMATOXYLIN, EOSIN)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    light = ((batch + 1) / 2).permute(0, 2, 3, 1).numpy()
    return separate_stains(light, np.linalg.inv(vectors))


def test_stain_amounts_scale_the_concentrations() -> None:
    numbers = np.random.default_rng(3)
    tissue = stained(numbers.uniform(0.1, 1, (5, 4, 4)), numbers.uniform(0.1, 1, (5, 4, 4)))
    amounts = torch.tensor(
        [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 0.5, 0], [-0.25, 1, 0]], dtype=torch.float64
    )
    before = concentrations(tissue)
    after = concentrations(StainColour(strength=0.4).apply(tissue, amounts))
    factors = np.array([[1, 1], [1.4, 1], [0.6, 1], [1, 1.2], [0.9, 1.4]])[:, None, None, :]
    np.testing.assert_allclose(after[..., :2], before[..., :2] * factors, rtol=1e-6)
    np.testing.assert_allclose(after[..., 2], 0, atol=1e-9)


def test_hue_turns_by_its_angle_about_the_greys() -> None:
    colours = torch.rand(4, 3, 6, 6, generator=draws(1), dtype=torch.float64) * 0.8 + 0.1
    turned = StainColour(hue_degrees=12).apply(
        2 * colours - 1, torch.tensor([[0, 0, 1.0]], dtype=torch.float64).expand(4, -1)
    )
    before, after = -colours.log(), -((turned + 1) / 2).log()
    torch.testing.assert_close(after.mean(1), before.mean(1))
    across = [density - density.mean(1, keepdim=True) for density in (before, after)]
    cosine = nn.functional.cosine_similarity(*across, dim=1)
    torch.testing.assert_close(cosine, torch.full_like(cosine, math.cos(math.radians(12))))
    torch.testing.assert_close(across[0].norm(dim=1), across[1].norm(dim=1))


def test_white_stays_white_and_grey_keeps_its_hue_when_only_the_hue_turns() -> None:
    white = torch.ones(2, 3, 4, 4)
    amounts = torch.tensor([[1.0, -1, 1], [-1, 1, -1]])
    assert torch.equal(StainColour().apply(white, amounts), white)
    grey = torch.full((2, 3, 4, 4), -0.3)
    turn = torch.tensor([[0, 0, 1.0], [0, 0, -1]])
    torch.testing.assert_close(StainColour().apply(grey, turn), grey)


def test_plain_colour_moves_brightness_contrast_and_saturation() -> None:
    colour = PlainColour(brightness=0.3, contrast=1, saturation=2)
    batch = images(1)

    def one(*amounts: float) -> Tensor:
        return colour.apply(batch, torch.tensor([amounts]))

    torch.testing.assert_close(one(0.5, 0, 0), batch + 0.15)
    torch.testing.assert_close(one(0, 1, 0), 2 * batch)
    torch.testing.assert_close(one(0, -1, 0), batch / 2)
    calm = one(0, 0, -1)
    torch.testing.assert_close(calm.mean(1), batch.mean(1))
    torch.testing.assert_close(calm.std(1), batch.std(1) / 4)
    grey = images(1, channels=1)
    torch.testing.assert_close(colour.apply(grey, torch.tensor([[0, 0, 1.0]])), grey)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member().kind)
def test_every_member_keeps_shape_type_and_the_images_given(member: type[Any]) -> None:
    batch = images(5, channels=1)
    kept = batch.clone()
    for side in (member().real, member().fake):
        first, again = (side(batch, 0.7, draws()) for _ in range(2))
        assert first.shape == batch.shape and first.dtype == batch.dtype
        assert torch.equal(first, again)
        assert torch.equal(batch, kept)
    assert 0 <= member().probability(0.5, 0.25) <= 1
    assert 0 <= member().adjusted(0.25, 1.0, 8) <= 1


@pytest.mark.parametrize("member", [Scheduled, Adaptive], ids=lambda member: member().kind)
def test_p_zero_is_the_identity_and_p_decides_not_how_much_is_drawn(member: type[Any]) -> None:
    augment, batch = member(**EVERYTHING), images(40)
    left = []
    for p in (0.0, 0.4, 1.0):
        rng = draws()
        shown = augment.fake(batch, p, rng)
        changed = (shown != batch).flatten(1).any(1).float().mean()
        # With p = 0.4 an image is left alone by all six gates at least with probability 0.6^6.
        assert changed == p if p in (0, 1) else 0.5 < changed < 1
        left.append(rng.get_state())
    assert all(torch.equal(state, left[0]) for state in left)


def test_without_augmentation_nothing_is_drawn_or_copied() -> None:
    rng, batch = draws(), images(3)
    before = rng.get_state()
    assert NoAugment().real(batch, 1.0, rng) is batch
    assert NoAugment().fake(batch, 1.0, rng) is batch
    assert Dihedral().fake(batch, 1.0, rng) is batch
    assert torch.equal(rng.get_state(), before)


def pose_counts(shown: Tensor, original: Tensor) -> np.ndarray:
    """How often each of the eight poses of one asymmetric image was shown."""
    poses = torch.cat([posed(original, pose) for pose in range(8)])
    same = (shown[:, None] == poses[None]).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    return same.sum(0).numpy()


def chance(counts: np.ndarray, wanted: np.ndarray) -> float:
    return float(stats.chisquare(counts, wanted * counts.sum()).pvalue)


def test_random_poses_of_reals_are_uniform() -> None:
    original = images(1, 4)
    shown = Dihedral().real(original.expand(8000, -1, -1, -1), 1.0, draws())
    assert chance(pose_counts(shown, original), np.full(8, 1 / 8)) > 1e-3
    free = Adaptive(free_poses=True).real(original.expand(8000, -1, -1, -1), 0.0, draws())
    assert chance(pose_counts(free, original), np.full(8, 1 / 8)) > 1e-3
    assert torch.equal(Adaptive().real(original, 0.0, draws()), original)


@pytest.mark.parametrize("p", [0.3, 0.8])
def test_flips_and_turns_come_as_often_as_p_says(p: float) -> None:
    original = images(1, 4)
    shown = Scheduled(translate=0).fake(original.expand(8000, -1, -1, -1), p, draws())
    flips = np.array([1 - p / 2, p / 2])
    turns = np.array([1 - 3 * p / 4, p / 4, p / 4, p / 4])
    counts = pose_counts(shown, original)
    assert chance(counts, np.outer(flips, turns).ravel()) > 1e-3
    # The same counts refuse a p that is a tenth off.
    wrong = p + 0.1
    flips, turns = (
        np.array([1 - wrong / 2, wrong / 2]),
        np.array([1 - 0.75 * wrong, *3 * [wrong / 4]]),
    )
    assert chance(counts, np.outer(flips, turns).ravel()) < 1e-6


def test_translation_is_uniform_on_its_square_where_it_happens() -> None:
    p, size, most = 0.5, 8, 2
    augment = Scheduled(flips=False, turns=False, translate=most / size)
    place = torch.zeros(1, 1, size, size)
    place[0, 0, 4, 3] = 1
    shown = augment.fake(place.expand(8000, -1, -1, -1), p, draws())[:, 0]
    # Mirrored edges never show this pixel twice within two pixels of motion.
    assert (shown.flatten(1).sum(1) == 1).all()
    counts = shown.sum(0).numpy()
    wanted = np.zeros((size, size))
    wanted[2:7, 1:6] = p / 25
    wanted[4, 3] += 1 - p
    inside = wanted > 0
    assert counts[~inside].sum() == 0
    assert chance(counts[inside], wanted[inside]) > 1e-3


def test_colour_amounts_are_uniform_within_their_limits() -> None:
    p, limit = 0.4, 0.25
    colour = {"kind": "plain", "brightness": limit, "contrast": 0, "saturation": 0}
    augment = Scheduled(flips=False, turns=False, translate=0, colour=colour)
    added = augment.fake(torch.zeros(8000, 1, 1, 1), p, draws()).flatten().double().numpy()
    moved = added[added != 0]
    assert stats.binomtest(len(moved), 8000, p).pvalue > 1e-3
    assert stats.kstest(moved, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3


def transitions(p: float) -> np.ndarray:
    """Column k: how often each pose is shown for an image that was generated in pose k."""
    original, augment = images(1, 4), Scheduled(translate=0)
    columns = []
    for pose in range(8):
        batch = posed(original, pose).expand(20_000, -1, -1, -1)
        columns.append(pose_counts(augment.fake(batch, p, draws(pose)), original) / 20_000)
    return np.array(columns).T


def fitted(transition: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """A generator over poses, taught from augmented frequencies alone by descent on their KL."""
    logits = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    seen, channel = torch.from_numpy(shown), torch.from_numpy(transition)
    for _ in range(1500):
        optimiser.zero_grad()
        made = channel @ logits.softmax(0)
        (seen * (seen.log() - made.log())).sum().backward()
        optimiser.step()
    return logits.detach().softmax(0).numpy()


def test_a_generator_does_not_learn_the_augmentation_below_p_one() -> None:
    """The poses of the reals come back although the critic only ever sees augmented images."""
    real = np.array([0.6, 0.02, 0.1, 0.02, 0.2, 0.02, 0.02, 0.02])
    original = images(1, 4)
    weights = torch.from_numpy(np.rint(real * 40_000).astype(np.int64))
    batch = move(
        original.expand(40_000, -1, -1, -1),
        torch.arange(8).repeat_interleave(weights),
        still(40_000),
    )
    errors = {}
    for p in (0.6, 1.0):
        shown = Scheduled(translate=0).fake(batch, p, draws(9))
        frequencies = pose_counts(shown, original) / 40_000
        errors[p] = np.abs(fitted(transitions(p), frequencies) - real).sum()
    assert errors[0.6] < 0.15
    # With p = 1 every pose looks alike, and nothing in the frequencies tells what was real.
    assert errors[1.0] > 0.5


@pytest.mark.parametrize(
    "colour", [{"kind": "plain"}, {"kind": "stain"}], ids=lambda colour: colour["kind"]
)
def test_gradients_are_those_of_finite_differences(colour: dict[str, Any]) -> None:
    augment = Adaptive(translate=0.25, colour=colour)
    # Away from the ends of the range, where the density has a kink.
    batch = (0.9 * images(3, 4).double()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment.fake(x, 0.9, draws(2)), batch)


@pytest.mark.parametrize("value", [-1.5, -1.0, 1.5])
def test_a_pixel_outside_the_range_still_has_a_gradient(value: float) -> None:
    batch = torch.full((6, 3, 4, 4), value, requires_grad=True)
    shown = Adaptive(translate=0, colour=StainColour()).fake(batch, 1.0, draws())
    (slope,) = torch.autograd.grad(shown.sum(), batch)
    assert (slope > 0).all()


class Judge(nn.Module):
    """A small smooth critic without any symmetry."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.randn(8, 3 * 36, generator=draws(5), dtype=torch.float64)

    def forward(self, batch: Tensor) -> Tensor:
        return torch.tanh(batch.flatten(1) @ self.weights.T / 10).sum(1)


def penalties(shift: Tensor) -> tuple[Tensor, Tensor]:
    """|gradient|^2 of the critic behind a move, for the augmented image and for the plain one."""
    critic, plain = Judge(), images(8, 6).double().requires_grad_()
    shown = move(plain, torch.arange(8), shift)
    of_plain = squared_gradient(critic(shown), plain)
    seen = shown.detach().requires_grad_()
    return squared_gradient(critic(seen), seen), of_plain


def test_flips_and_turns_leave_the_gradient_penalty_alone() -> None:
    seen, plain = penalties(still(8))
    torch.testing.assert_close(seen, plain)
    # Translation drops pixels and shows others twice: there the two penalties part.
    seen, plain = penalties(torch.ones(8, 2, dtype=torch.int64))
    assert not torch.allclose(seen, plain, rtol=0.01)


def test_adaptive_p_moves_at_its_speed_and_stays_within_its_limits() -> None:
    augment = Adaptive(target=0.6, images_to_one=1000, most_p=0.8)
    assert augment.adjusted(0.5, 1.0, 64) == pytest.approx(0.564)
    assert augment.adjusted(0.5, 0.8, 64) == pytest.approx(0.532)
    assert augment.adjusted(0.5, 0.6, 64) == 0.5
    assert augment.adjusted(0.5, 0.4, 64) == pytest.approx(0.468)
    assert augment.adjusted(0.78, 1.0, 64) == 0.8
    assert augment.adjusted(0.03, -1.0, 64) == 0.0


def test_adaptive_p_settles_where_the_critic_orders_as_well_as_the_target() -> None:
    """Against a critic that augmentation makes worse: 2 share - 1 = 0.9 - 0.6 p, so p = 0.5."""
    augment, numbers, p, path = Adaptive(images_to_one=20_000), np.random.default_rng(1), 0.0, []
    for _ in range(10_000):
        rightly = numbers.random(16) < 0.95 - 0.3 * p
        p = augment.adjusted(p, float(2 * rightly.mean() - 1), 16)
        path.append(p)
    assert np.mean(path[5000:]) == pytest.approx(0.5, abs=0.02)


def adaptive(**changes: Any) -> dict[str, Any]:
    return {"kind": "adaptive", "images_to_one": 200, **changes}


@pytest.mark.parametrize("objective", ["r3gan", "wgan-gp"])
def test_one_step_shows_augmented_reals_and_fakes_to_the_critic_and_the_generator(
    objective: str, tiny_config: Callable[..., TrainConfig]
) -> None:
    """Both losses and the next p, recomputed with the augmentation in hand."""
    game = {"kind": objective} | ({"critic_steps": 1} if objective == "wgan-gp" else {})
    config = tiny_config(augment=adaptive(colour={"kind": "plain"}), objective=game)
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    state.augment_p = p = 0.75
    generator, critic = copy.deepcopy(state.generator), copy.deepcopy(state.critic)
    progress = next(train(config, dataset, state))
    assert progress.augment_p == p

    rng = torch_stream(config.seed, "train", 0)

    def pair() -> tuple[Tensor, Tensor]:
        indices = torch.randint(len(dataset), (8,), generator=rng)
        latents = torch.randn(8, 8, generator=rng)
        real = config.augment.real(to_unit(dataset.pixels(indices.numpy())), p, rng)
        return real, config.augment.fake(generator(latents), p, rng)

    playing = config.objective.at(0.0)
    real, fake = pair()
    terms = playing.critic_loss(critic, real, fake, rng)
    assert progress.critic_loss == pytest.approx(terms.loss.mean().item(), rel=1e-5)
    # The generator plays against the critic of after its step, which is the one in the state.
    real, fake = pair()
    wanted = playing.generator_loss(state.critic, real, fake).mean().item()
    assert progress.generator_loss == pytest.approx(wanted, rel=1e-5)
    ordering = (terms.gap > 0).float().mean().item() * 2 - 1
    assert state.augment_p == config.augment.adjusted(p, ordering, 8) != p


def test_scheduled_p_follows_the_burn_in(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config(
        augment={"kind": "scheduled", "p": {"start": 0, "end": 0.4}}, total_images=64
    )
    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    found = [progress.augment_p for progress in train(config, dataset, state)]
    wanted = [0.2 * (1 - math.cos(math.pi * min(seen / 48, 1))) for seen in range(0, 64, 8)]
    assert found == pytest.approx(wanted)
    assert "augment_p" not in state.tensors()
    fixed = Scheduled.model_validate({"p": 0.3})
    assert fixed.probability(0.0, 0.9) == fixed.probability(2.0, 0.1) == 0.3


KILLED = """
import os, signal, sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from controlgen.config import TrainConfig
from controlgen.training import TrainState, train

torch.set_num_threads(1)
path = Path(sys.argv[1])
config = TrainConfig.model_validate_json(sys.argv[2])
dataset = config.dataset.open()
next(train(config, dataset, TrainState(config, dataset.image_shape)))
for patience in (3, 5, 2, None):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        state = TrainState(config, dataset.image_shape)
        if path.exists():
            state.restore(load_file(path))
        for _ in train(config, dataset, state):
            save_file(state.tensors(), path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
            os.write(writing, b".")
        os._exit(0)
    os.close(writing)
    if patience is not None:
        for _ in range(patience):
            os.read(reading, 1)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) == (patience is not None), status
    named = load_file(path)
    print(int(named["images_seen"]), float(named["augment_p"]))
"""


def test_resume_after_sigkill_is_bit_exact_and_carries_p(
    tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config(
        augment=adaptive(colour={"kind": "plain"}, target=0.2), total_images=8 * 20
    )
    path = tmp_path / "state.safetensors"
    root = str(Path(__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), json.dumps(config.effective())],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    killed_at = [float(row.split()[0]) for row in ran.stdout.splitlines()]
    carried = [float(row.split()[1]) for row in ran.stdout.splitlines()]
    assert len(killed_at) == 4 and killed_at == sorted(set(killed_at))
    assert max(carried[:3]) > 0

    dataset = config.dataset.open()
    state = TrainState(config, dataset.image_shape)
    path_of_p = [progress.augment_p for progress in train(config, dataset, state)]
    assert max(path_of_p) > 0.02
    found, wanted = load_file(path), state.tensors()
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def test_a_state_without_its_p_is_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    plain = TrainState(tiny_config(), (1, 32, 32)).tensors()
    with pytest.raises(ArtifactCorrupt, match="augment_p"):
        TrainState(tiny_config(augment=adaptive()), (1, 32, 32)).restore(plain)


def test_no_augmentation_leaves_names_as_they_were(
    tiny_config: Callable[..., TrainConfig],
) -> None:
    # The name of the shipped model, made before there was a choice.
    mnist = RunConfig.load(CONFIGS / "mnist.toml").train
    assert str(name_of("gan", "mnist", mnist)) == "gan/mnist-cc782537dbd2"
    assert "augment" not in mnist.identity()
    assert tiny_config(augment={"kind": "none"}).fingerprint() == tiny_config().fingerprint()
    chosen = [
        {"kind": "dihedral"},
        {"kind": "scheduled"},
        {"kind": "scheduled", "p": 0.2},
        {"kind": "adaptive"},
        {"kind": "adaptive", "colour": {"kind": "plain"}},
    ]
    names = {tiny_config(augment=augment).fingerprint() for augment in chosen}
    assert len(names | {tiny_config().fingerprint()}) == 6
    for augment in chosen:
        config = tiny_config(augment=augment)
        assert TrainConfig.parse(config.effective()).fingerprint() == config.fingerprint()


def test_stain_jitter_of_grey_images_is_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    config = tiny_config(augment=adaptive(colour={"kind": "stain"}))
    with pytest.raises(Incompatible, match=r"have 1 channel\(s\); set .*\"plain\""):
        TrainState(config, (1, 32, 32))
    assert TrainState(config, (3, 32, 32)).augment_p == 0


@pytest.mark.parametrize(
    ("augment", "named"),
    [
        ({"kind": "mirror"}, "none.*dihedral.*scheduled.*adaptive"),
        ({"kind": "scheduled", "p": 1.5}, "p is a probability"),
        ({"kind": "adaptive", "most_p": 1.1}, "most_p"),
        ({"kind": "adaptive", "taget": 0.5}, "unknown key .*taget"),
        ({"kind": "dihedral", "p": 0.5}, "unknown key .*p"),
    ],
)
def test_mistakes_are_named(
    augment: dict[str, Any], named: str, tiny_config: Callable[..., TrainConfig]
) -> None:
    with pytest.raises(ConfigError, match=named):
        tiny_config(augment=augment)
    with pytest.raises(ValidationError):
        Scheduled(translate=0.6)
