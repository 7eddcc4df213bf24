"""The whole line: images in, a steered image and a report out."""

from prefect import flow

from controlgen.artifacts import Ref, Store
from controlgen.config import RunConfig
from flows.command import run
from flows.evaluate import evaluate_task
from flows.fit_map import fit_map


@flow(name="pipeline", validate_parameters=False)
def pipeline(config: RunConfig, store: str) -> Ref:
    """Train, sample, embed, fit, evaluate."""
    line = fit_map(config, store)
    return evaluate_task(config, line, store)


def main(config: RunConfig, store: Store) -> None:
    """Run the whole line: train, sample, embed, fit, evaluate. Run again to resume."""
    report = pipeline(config, str(store.root))
    print(f"report: {store.path(report) / 'report.md'}")


if __name__ == "__main__":
    run(main)
