"""How far can answers be believed? Fits and judges the score for a map that lies in a store.

python benchmarks/reachability.py MAP [--store artifacts] [--targets 2000] [--json FILE]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from controlgen import Editor
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.bank import SampleBank
from controlgen.artifacts.store import open_artifact, read_manifest
from controlgen.config import ReachabilityConfig
from controlgen.datasets import AnyDataset
from controlgen.editing.confidence.fit import ConfidenceReport
from controlgen.evaluation.markdown import format_interval, markdown_table
from controlgen.stages.fit_confidence import ConfidenceFit
from controlgen.utils.files import read_json


def markdown(judged: ConfidenceReport) -> str:
    """All that was judged, as tables."""
    bins = [
        [
            f"{b.low:.1f} to {b.high:.1f}",
            str(b.n),
            format_interval(b.predicted),
            format_interval(b.observed),
        ]
        for b in judged.bins
    ]
    kinds = [
        [
            k.kind,
            str(k.n),
            format_interval(k.near),
            format_interval(k.score),
            format_interval(k.warned),
            format_interval(k.auroc),
        ]
        for k in judged.kinds
    ]
    inputs = [
        [i.input, format_interval(i.without), format_interval(i.alone)] for i in judged.inputs
    ]
    lines = [
        f"near: audit cosine at least {judged.near_means:.3f}; fitted on {judged.fitted}, judged "
        f"on {judged.judged}, of which {judged.share:.1%} are near",
        f"AUROC {format_interval(judged.auroc)}; among likely kinds "
        f"{format_interval(judged.auroc_near)}; among held-out samples "
        f"{format_interval(judged.auroc_bank)}",
        f"Brier {judged.brier:.3f} (constant {judged.brier_constant:.3f}); calibration error "
        f"{judged.calibration_error:.3f}; of answers not near "
        f"{format_interval(judged.failures_warned)} are warned; of warnings "
        f"{format_interval(judged.warnings_right)} are right",
        markdown_table(["score", "n", "predicted", "observed"], bins),
        markdown_table(["kind", "n", "near", "mean score", "warned", "AUROC within"], kinds),
        markdown_table(["input", "AUROC without", "AUROC alone"], inputs),
    ]
    return "\n\n".join(lines)


def main() -> None:
    """Fit, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("map", type=Path)
    parser.add_argument("--store", type=Path, default=Path("artifacts"))
    parser.add_argument("--targets", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    folder, store = open_artifact(given.map), Store(given.store)
    made_from = read_manifest(folder).parents
    settings = read_json(folder / "config.json")
    bank, features = (
        store.open(ArtifactRef.parse(made_from[role])) for role in ("bank", "features")
    )
    items = SampleBank.open(bank, features, settings["held_out"])
    gan = read_json(store.open(ArtifactRef.parse(made_from["gan"])) / "config.json")
    config = ReachabilityConfig(targets=given.targets, seed=given.seed)
    dataset: Any = TypeAdapter(AnyDataset).validate_python(gan["dataset"])
    believing = ConfidenceFit.of(config, dataset)
    assert believing is not None
    actual, judged = believing.learn(Editor.load(folder), items)
    print(f"warnings below {actual.warn_below:.3f}\n")
    print(markdown(judged))
    if given.json:
        given.json.write_text(json.dumps(judged.to_dict(), indent=1) + "\n")


if __name__ == "__main__":
    main()
