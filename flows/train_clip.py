"""Train the embedded CLIP on a procedural captioned world."""

from pathlib import Path

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import ClipConfig
from flows.cli import run_with_export
from flows.prefect_ui import FlowReporter, publish, uncached_task


@uncached_task
def train_clip_task(config: ClipConfig, store: str) -> ArtifactRef:
    """Train, or resume, or return what is there."""
    opened = Store(store)
    return publish(stages.train_clip(config, opened, FlowReporter()), opened)


@flow(name="train-clip", validate_parameters=False)
def train_clip(config: ClipConfig, store: str) -> ArtifactRef:
    """The embedded CLIP."""
    return train_clip_task(config, store)


def main(config: ClipConfig, store: Store, target: Path | None) -> None:
    """Train the embedded CLIP on procedural captioned images only."""
    ref = train_clip(config, str(store.root))
    if target:
        stages.export_clip(config, ref, store, target)
        print(f"shipped: {target}")
    print(store.path(ref))


if __name__ == "__main__":
    run_with_export(main, ClipConfig)
