"""Embed a bank's images in the steering feature space."""

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import EmbedConfig, RunConfig
from flows.cli import run
from flows.draw_samples import draw_samples
from flows.prefect_ui import FlowReporter, publish, uncached_task


@uncached_task
def embed_images_task(name: str, config: EmbedConfig, bank: ArtifactRef, store: str) -> ArtifactRef:
    """Embed, or return what is there."""
    opened = Store(store)
    return publish(stages.embed_images(name, config, bank, opened, FlowReporter()), opened)


@flow(name="embed-images", validate_parameters=False)
def embed_images(config: RunConfig, store: str) -> ArtifactRef:
    """The features of a run."""
    bank = draw_samples(config, store)
    return embed_images_task(config.name, config.embed, bank, store)


def main(config: RunConfig, store: Store) -> None:
    """Embed a bank's images in the steering feature space."""
    print(store.path(embed_images(config, str(store.root))))


if __name__ == "__main__":
    run(main)
