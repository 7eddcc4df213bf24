"""Draw a bank of latents and the images they generate."""

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import RunConfig
from flows.cli import run
from flows.prefect_ui import FlowReporter, publish, uncached_task
from flows.train_gan import train_gan_task


@uncached_task
def draw_samples_task(config: RunConfig, gan: ArtifactRef, store: str) -> ArtifactRef:
    """Draw, or return what is there."""
    opened = Store(store)
    return publish(stages.draw_samples(config, gan, opened, FlowReporter()), opened)


@flow(name="draw-samples", validate_parameters=False)
def draw_samples(config: RunConfig, store: str) -> ArtifactRef:
    """The bank of a run."""
    gan = train_gan_task(config, store)
    return draw_samples_task(config, gan, store)


def main(config: RunConfig, store: Store) -> None:
    """Draw a bank of latents and the images they generate."""
    print(store.path(draw_samples(config, str(store.root))))


if __name__ == "__main__":
    run(main)
