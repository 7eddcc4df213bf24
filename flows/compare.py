"""Compare objectives on the same images, network and budget."""

from pathlib import Path

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import CompareConfig
from controlgen.stages import TrainingAttempt
from flows.cli import run_with_export
from flows.prefect_ui import FlowReporter, publish, uncached_task


@uncached_task
def train_member_task(config: CompareConfig, member: str, seed: int, store: str) -> TrainingAttempt:
    """Train one member with one seed, or return what is there, or say why it failed."""
    opened = Store(store)
    attempt = stages.train_member(config, member, seed, opened, FlowReporter())
    publish(attempt.gan, opened)
    return attempt


@uncached_task
def compare_task(config: CompareConfig, attempts: list[TrainingAttempt], store: str) -> ArtifactRef:
    """Judge what was made, or return the report that is there."""
    opened = Store(store)
    return publish(stages.compare(config, attempts, opened, FlowReporter()), opened)


@flow(name="compare", validate_parameters=False)
def compare(config: CompareConfig, store: str) -> ArtifactRef:
    """Every member with the first seed, then with the next; then the tables."""
    attempts = [
        train_member_task(config, member, seed, store)
        for seed in config.seeds
        for member in config.members
    ]
    return compare_task(config, attempts, store)


def main(config: CompareConfig, store: Store, target: Path | None) -> None:
    """Train every objective of the config on the same images and budget, and compare them."""
    ref = compare(config, str(store.root))
    if target:
        stages.export_comparison(config, ref, store, target)
        print(f"shipped: {target}")
    print(f"report: {store.path(ref) / 'report.md'}")


if __name__ == "__main__":
    run_with_export(main, CompareConfig)
