"""Fit the feature-to-latent map."""

from typing import NamedTuple

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import RunConfig
from flows.cli import run
from flows.draw_samples import draw_samples_task
from flows.embed_images import embed_images_task
from flows.prefect_ui import FlowReporter, publish, uncached_task
from flows.train_gan import train_gan_task


class RunArtifacts(NamedTuple):
    """The artifacts of a run, from the GAN to the map."""

    gan: ArtifactRef
    bank: ArtifactRef
    features: ArtifactRef
    map: ArtifactRef


@uncached_task
def check_fit_task(config: RunConfig) -> None:
    """Refuse what a fit would refuse, before anything is trained."""
    stages.preflight_fit(config)


@uncached_task
def fit_map_task(
    config: RunConfig, gan: ArtifactRef, bank: ArtifactRef, features: ArtifactRef, store: str
) -> ArtifactRef:
    """Fit, or return what is there."""
    opened = Store(store)
    fitted = stages.fit_map(config, gan, bank, features, opened, FlowReporter())
    return publish(fitted, opened)


@flow(name="fit-map", validate_parameters=False)
def fit_map(config: RunConfig, store: str) -> RunArtifacts:
    """Everything up to the map of a run."""
    check_fit_task(config)
    gan = train_gan_task(config, store)
    bank = draw_samples_task(config, gan, store)
    features = embed_images_task(config.name, config.embed, bank, store)
    fitted = fit_map_task(config, gan, bank, features, store)
    return RunArtifacts(gan, bank, features, fitted)


def main(config: RunConfig, store: Store) -> None:
    """Fit the feature-to-latent map."""
    print(store.path(fit_map(config, str(store.root)).map))


if __name__ == "__main__":
    run(main)
