"""Judge a run's map by the protocol."""

from prefect import flow

from controlgen import stages
from controlgen.artifacts import ArtifactRef, Store
from controlgen.config import RunConfig
from flows.cli import run
from flows.fit_map import RunArtifacts, fit_map
from flows.prefect_ui import FlowReporter, publish, uncached_task


@uncached_task
def check_evaluation_task(config: RunConfig) -> None:
    """Refuse what an evaluation would refuse, before anything is trained."""
    stages.preflight_evaluation(config)


@uncached_task
def evaluate_task(config: RunConfig, line: RunArtifacts, store: str) -> ArtifactRef:
    """Evaluate, or return what is there."""
    opened = Store(store)
    judged = stages.evaluate(config, line.map, line.bank, line.features, opened, FlowReporter())
    return publish(judged, opened)


@flow(name="evaluate", validate_parameters=False)
def evaluate(config: RunConfig, store: str) -> ArtifactRef:
    """The report of a run."""
    check_evaluation_task(config)
    return evaluate_task(config, fit_map(config, store), store)


def main(config: RunConfig, store: Store) -> None:
    """Judge a run's map by the protocol."""
    print(store.path(evaluate(config, str(store.root))) / "report.md")


if __name__ == "__main__":
    run(main)
