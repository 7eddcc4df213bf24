"""Train an encoder on unlabelled images."""

from pathlib import Path

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import EncoderConfig
from flows.cli import run_with_export
from flows.prefect_ui import FlowReporter, publish, uncached_task


@uncached_task
def train_encoder_task(config: EncoderConfig, store: str) -> ArtifactRef:
    """Train, or resume, or return what is there."""
    opened = Store(store)
    return publish(stages.train_encoder(config, opened, FlowReporter()), opened)


@flow(name="train-encoder", validate_parameters=False)
def train_encoder(config: EncoderConfig, store: str) -> ArtifactRef:
    """The encoder."""
    return train_encoder_task(config, store)


def main(config: EncoderConfig, store: Store, target: Path | None) -> None:
    """Train an encoder on the data set's images, without labels: a feature space of your own."""
    ref = train_encoder(config, str(store.root))
    if target:
        stages.export_encoder(config, ref, store, target)
        print(f"shipped: {target}")
    print(store.path(ref))


if __name__ == "__main__":
    run_with_export(main, EncoderConfig)
