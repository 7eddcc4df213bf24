"""Train an unconditional GAN on unlabelled images."""

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import RunConfig
from flows.cli import run
from flows.prefect_ui import FlowReporter, publish, uncached_task


@uncached_task
def train_gan_task(config: RunConfig, store: str) -> ArtifactRef:
    """Train, or resume, or return what is there."""
    opened = Store(store)
    return publish(stages.train_all_phases(config, opened, FlowReporter()), opened)


@flow(name="train-gan", validate_parameters=False)
def train_gan(config: RunConfig, store: str) -> ArtifactRef:
    """The GAN of a run."""
    return train_gan_task(config, store)


def main(config: RunConfig, store: Store) -> None:
    """Train an unconditional GAN on unlabelled images."""
    print(store.path(train_gan(config, str(store.root))))


if __name__ == "__main__":
    run(main)
