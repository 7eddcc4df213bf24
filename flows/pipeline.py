"""The whole line: images in, a steered image and a report out."""

from pathlib import Path

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import RunConfig
from flows.cli import run_with_export
from flows.evaluate import check_evaluation_task, evaluate_task
from flows.fit_map import RunArtifacts, fit_map


@flow(name="pipeline", validate_parameters=False)
def pipeline(config: RunConfig, store: str) -> tuple[RunArtifacts, ArtifactRef]:
    """Check, train, sample, embed, fit, evaluate."""
    check_evaluation_task(config)
    line = fit_map(config, store)
    return line, evaluate_task(config, line, store)


def main(config: RunConfig, store: Store, target: Path | None) -> None:
    """Run the whole line: train, sample, embed, fit, evaluate. Run again to resume."""
    line, report = pipeline(config, str(store.root))
    if target:
        stages.export_model(config, line.gan, line.map, report, store, target)
        print(f"shipped: {target}")
    print(f"report: {store.path(report) / 'report.md'}")


if __name__ == "__main__":
    run_with_export(main)
