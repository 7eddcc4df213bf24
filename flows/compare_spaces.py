"""Compare how well feature spaces see a data set."""

from pathlib import Path

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import SpacesConfig
from flows.cli import run_with_export
from flows.prefect_ui import FlowReporter, publish, uncached_task


@uncached_task
def compare_spaces_task(config: SpacesConfig, store: str) -> ArtifactRef:
    """Judge every space, or return the report that is there."""
    opened = Store(store)
    return publish(stages.compare_spaces(config, opened, FlowReporter()), opened)


@flow(name="compare-spaces", validate_parameters=False)
def compare_spaces(config: SpacesConfig, store: str) -> ArtifactRef:
    """The report on the spaces."""
    return compare_spaces_task(config, store)


def main(config: SpacesConfig, store: Store, target: Path | None) -> None:
    """Compare how well feature spaces see a data set; labels judge and nothing else."""
    ref = compare_spaces(config, str(store.root))
    if target:
        stages.export_comparison(config, ref, store, target)
        print(f"shipped: {target}")
    print(store.path(ref))


if __name__ == "__main__":
    run_with_export(main, SpacesConfig)
