"""Training on: a run that begins with the generator another run ended with."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from controlgen import stages
from controlgen.artifacts import Store, read_manifest
from controlgen.config import RunConfig, TrainConfig
from controlgen.editing.checkpoint import load_critic, load_generator, load_verified_generator
from controlgen.errors import ArtifactMissing, ConfigError, Incompatible
from controlgen.objectives import WGANSN
from controlgen.training import TrainState

SHAPE = (1, 32, 32)


def continued_config(line: Any, start: Path, **change: Any) -> TrainConfig:
    """One further step of the line's own training, from `start`."""
    train: TrainConfig = line.run.train
    return train.model_copy(
        update={"start_from": start, "total_images": train.batch_size, **change}
    )


def test_the_generator_goes_on_and_the_critic_is_new(line: Any) -> None:
    config, folder = line.run.train, line.store.path(line.gan)
    trained, _ = load_generator(folder)
    fresh, begun = TrainState(config, SHAPE), TrainState(config, SHAPE)
    begun.start_from(trained)
    for name, value in trained.state_dict().items():
        assert torch.equal(begun.generator.state_dict()[name], value)
        assert torch.equal(begun.average.state_dict()[name], value)
    assert not torch.equal(fresh.generator.basis, trained.basis)
    for name, value in fresh.critic.state_dict().items():
        assert torch.equal(begun.critic.state_dict()[name], value)
    # What was started from is copied, not shared: training must not reach into it.
    with torch.no_grad():
        begun.generator.basis.add_(1.0)
    assert torch.equal(begun.average.basis, trained.basis)


def test_a_short_run_stays_near_its_start_and_names_it(line: Any, tmp_path: Path) -> None:
    folder, store = line.store.path(line.gan), Store(tmp_path)
    ref = stages.train_gan("more", continued_config(line, folder), store)
    before, after = (load_generator(path)[0] for path in (folder, store.open(ref)))
    scratch = TrainState(line.run.train, SHAPE).generator

    def max_difference(a: Any, b: Any) -> float:
        return float((a.basis - b.basis).detach().abs().mean())

    assert 0 < max_difference(before, after) < 0.1 * max_difference(before, scratch)
    saved = load_critic(folder)
    assert saved is not None
    assert read_manifest(store.open(ref)).parents == {
        "generator weights": load_verified_generator(folder)[1],
        "critic weights": saved[1],
    }
    assert "trained on" in (store.open(ref) / "README.md").read_text()
    assert stages.train_gan("more", continued_config(line, folder), store) == ref


def test_the_critic_goes_on_where_it_fits(line: Any) -> None:
    config, folder = line.run.train, line.store.path(line.gan)
    trained, _ = load_generator(folder)
    saved = load_critic(folder)
    assert saved is not None
    begun, fresh = TrainState(config, SHAPE), TrainState(config, SHAPE)
    assert begun.start_from(trained, saved[0])
    for name, value in saved[0].items():
        assert torch.equal(begun.critic.state_dict()[name], value)

    # Under spectral norm a critic is of another make: it stays as it was drawn.
    normed = config.model_copy(update={"objective": WGANSN()})
    begun, fresh = TrainState(normed, SHAPE), TrainState(normed, SHAPE)
    assert not begun.start_from(trained, saved[0])
    for name, value in fresh.critic.state_dict().items():
        assert torch.equal(begun.critic.state_dict()[name], value)


def test_a_map_holds_no_critic_and_its_training_begins_with_a_new_one(
    line: Any, tmp_path: Path
) -> None:
    fitted = line.store.path(line.map)
    assert load_critic(fitted) is None
    ref = stages.train_gan("more", continued_config(line, fitted), Store(tmp_path))
    assert "| critic | new |" in (Store(tmp_path).open(ref) / "README.md").read_text()


def test_the_weights_found_are_part_of_the_name_and_the_path_is_not(
    line: Any, tmp_path: Path
) -> None:
    gan, fitted = (line.store.path(ref) for ref in (line.gan, line.map))
    store = Store(tmp_path)
    ref = stages.train_gan("more", continued_config(line, gan), store)
    # A map's folder holds the same generator as the GAN it was fitted to, but no critic.
    assert stages.train_gan("more", continued_config(line, fitted), store) != ref
    shifted = tmp_path / "moved"
    shutil.copytree(gan, shifted)
    assert stages.train_gan("more", continued_config(line, shifted), store) == ref
    further = stages.train_gan("more", continued_config(line, store.path(ref)), store)
    from_scratch = stages.train_gan("more", continued_config(line, gan, start_from=None), store)
    assert len({ref, further, from_scratch}) == 3


def test_a_generator_that_does_not_fit_is_refused_and_nothing_is_made(
    line: Any, tmp_path: Path
) -> None:
    network = line.run.train.network.model_copy(update={"latent_size": 17})
    with pytest.raises(Incompatible, match=r"train\.start_from.*another network"):
        stages.train_gan(
            "more",
            continued_config(line, line.store.path(line.gan), network=network),
            Store(tmp_path),
        )
    assert Store(tmp_path).refs() == [] and not list(tmp_path.iterdir())


def test_a_start_that_holds_no_generator_is_named(line: Any, tmp_path: Path) -> None:
    bank = line.store.path(line.bank)
    for start, message in ((tmp_path / "nowhere", "no artifact there"), (bank, "no generator")):
        with pytest.raises(ArtifactMissing, match=message):
            stages.train_gan("more", continued_config(line, start), Store(tmp_path / "store"))


def test_a_warm_up_is_trained_first_and_gone_on_from(line: Any, tmp_path: Path) -> None:
    train = line.run.train
    run = line.run.model_copy(
        update={
            "train": train.model_copy(update={"total_images": 2 * train.batch_size}),
            "warm_up": ({"total_images": train.batch_size, "objective": {"kind": "hinge"}},),
        }
    )
    store = Store(tmp_path)
    ref = stages.train_all_phases(run, store)
    (first,) = (item for item in store.refs() if item != ref)
    warm, last = run.training_phases()
    assert last == run.train
    assert warm.objective.kind == "hinge"
    assert warm.model_copy(update={"objective": train.objective}) == continued_config(line, None)  # type: ignore[arg-type]
    assert stages.train_gan(run.name, warm, Store(tmp_path)) == first
    saved = load_critic(store.path(first))
    assert saved is not None
    assert read_manifest(store.open(ref)).parents == {
        "generator weights": load_verified_generator(store.path(first))[1],
        "critic weights": saved[1],
    }
    assert stages.train_all_phases(run, store) == ref
    plain = run.model_copy(update={"warm_up": ()})
    assert plain.training_phases() == (plain.train,)
    assert stages.train_all_phases(plain, store) not in (first, ref)


def test_several_warm_ups_follow_one_another(line: Any, tmp_path: Path) -> None:
    settings, store = line.run.to_dict(), Store(tmp_path)
    step = line.run.train.batch_size
    settings["train"]["total_images"] = step
    run = RunConfig.parse({**settings, "warm_up": [{"objective": {"kind": "hinge"}}, {}]})
    assert [training_phase.objective.kind for training_phase in run.training_phases()] == [
        "hinge",
        *2 * [run.train.objective.kind],
    ]
    ref = stages.train_all_phases(run, store)
    # The same by hand, one after the other.
    start = None
    for training in run.training_phases():
        start = stages.train_gan(run.name, training.model_copy(update={"start_from": start}), store)
        start = store.path(start)
    assert start == store.path(ref)
    assert len(store.refs()) == 3
    # One of them may stand as a table of its own.
    training_phase = RunConfig.parse({**settings, "warm_up": {"total_images": 2 * step}})
    assert [training.total_images for training in training_phase.training_phases()] == [
        2 * step,
        step,
    ]
    with pytest.raises(ConfigError, match="warm_up 2: unknown key objektive"):
        RunConfig.parse({**settings, "warm_up": [{}, {"objektive": {}}]})


@pytest.mark.parametrize(
    ("warm_up", "message"),
    [
        ({"objektive": {"kind": "hinge"}}, "warm_up: unknown key objektive"),
        ({"network": {"kind": "dcgan"}}, "warm_up.network: is shared with train"),
        ({"total_images": 0}, "warm_up: total_images: input should be greater"),
    ],
)
def test_a_mistake_in_a_warm_up_is_named(line: Any, warm_up: Any, message: str) -> None:
    settings = line.run.to_dict()
    with pytest.raises(ConfigError, match=message):
        RunConfig.parse({**settings, "warm_up": warm_up})


def test_a_run_starts_from_one_thing(line: Any) -> None:
    settings = line.run.to_dict()
    settings["train"]["start_from"] = "somewhere"
    with pytest.raises(ConfigError, match="warm_up: train.start_from already names a start"):
        RunConfig.parse({**settings, "warm_up": {"total_images": 16}})
